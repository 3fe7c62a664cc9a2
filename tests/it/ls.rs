//! `lanyard ls` over the real binary: what is here of each image, why, and what it saved.

mod kept;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::Value;

use crate::{
    admin,
    cli::{stderr, stdout},
    hub::{Fault, Gate, Hub, On, digest_of},
    lanyard::Lanyard,
    pull::{mirror, mirror_with},
    push::{self, Pusher},
    wire::{Connection, ask, blob, eventually, get, head, manifest},
};

const AMD64: &str = "linux/amd64";
const ARM64: &str = "linux/arm64/v8";

fn file(server: &Lanyard, digest: &str) -> PathBuf {
    let hex = digest.trim_start_matches("sha256:");
    server.data_dir().join("blobs/sha256").join(&hex[..2]).join(hex)
}

/// What `ls --json` says of each image.
fn ls(server: &Lanyard, words: &[&str]) -> Vec<Value> {
    let words: Vec<_> = ["ls", "--json"].iter().chain(words).copied().collect();
    let output = admin::command(server, &words);
    assert!(output.status.success(), "{words:?}: {}", stderr(&output));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    json["images"].as_array().unwrap().clone()
}

fn text(server: &Lanyard, words: &[&str]) -> String {
    let words: Vec<_> = ["ls"].iter().chain(words).copied().collect();
    let output = admin::command(server, &words);
    assert!(output.status.success(), "{words:?}: {}", stderr(&output));
    stdout(&output)
}

fn names(images: &[Value]) -> Vec<&str> {
    images.iter().map(|image| image["image"].as_str().unwrap()).collect()
}

fn one<'a>(images: &'a [Value], name: &str) -> &'a Value {
    images.iter().find(|image| image["image"] == name).unwrap_or_else(|| panic!("{name} is not in {images:#?}"))
}

/// Fetches a manifest and everything that it needs, as a client does.
fn pull(server: &Lanyard, repo: &str, reference: &str, blobs: &[&str]) {
    assert_eq!(get(server.port(), &manifest(repo, reference)).status, 200);
    for digest in blobs {
        assert_eq!(get(server.port(), &blob(repo, digest)).status, 200);
        eventually("it is stored", || head(server.port(), &blob(repo, digest)).outcome() == "hit");
    }
}

#[test]
fn each_image_says_what_is_here_of_it_and_why() {
    let hub = Hub::start();
    let shared = vec![7; 400_000];
    let first = hub.image("library/first", "1").layer_of(shared.clone()).layer(100_000).publish();
    let second = hub.image("library/second", "1").layer_of(shared).layer(50_000).publish();
    let multi = hub.image("library/multi", "2").layer(30_000).platforms(&[AMD64, ARM64]).oci().publish();
    let untagged = hub.image("library/untagged", "x").layer(20_000).publish();
    let mut server = mirror(&hub);

    assert!(text(&server, &[]).starts_with("no images · 0 bytes cached"), "{}", text(&server, &[]));
    pull(&server, "library/first", "1", &first.blobs());
    pull(&server, "library/second", "1", &second.blobs());
    let arm = &multi.platforms[1];
    assert_eq!(get(server.port(), &manifest("library/multi", "2")).status, 200);
    pull(&server, "library/multi", &arm.digest, &[&arm.config, &arm.layers[0]]);
    pull(&server, "library/untagged", &untagged.digest, &untagged.blobs());
    let pushed = Pusher(server.port()).image("team/app", "v1", &[9; 5000]);

    let all = ls(&server, &[]);
    let digest_only = format!("docker.io/library/untagged@{}", untagged.digest);
    assert_eq!(
        names(&all),
        [
            "team/app:v1",
            "docker.io/library/first:1",
            "docker.io/library/multi:2",
            "docker.io/library/second:1",
            &digest_only
        ]
    );
    assert!(all.iter().all(|image| image["of"] == "whole" && image["problem"].is_null()), "{all:#?}");
    for (name, why, platforms, digest) in [
        ("team/app:v1", "hosted", vec![], &pushed),
        ("docker.io/library/first:1", "tagged", vec![AMD64], &first.digest),
        ("docker.io/library/multi:2", "tagged", vec![ARM64], &multi.digest),
        (&digest_only, "digest", vec![AMD64], &untagged.digest),
    ] {
        let image = one(&all, name);
        assert_eq!((&image["why"], &image["platforms"]), (&why.into(), &platforms.into()), "{name}");
        assert_eq!(image["digest"], digest.as_str(), "{name}");
        assert!(image["uses"].as_u64() >= Some(1) && image["last_used"].as_u64() > Some(1_700_000_000), "{image}");
    }
    let bytes = |image: &crate::hub::Image| {
        let first = &image.platforms[0];
        let config = fs::metadata(file(&server, &first.config)).unwrap().len();
        image.bytes.len() as u64 + config + first.sizes.iter().sum::<u64>()
    };
    assert_eq!(one(&all, "docker.io/library/first:1")["here"], bytes(&first));
    assert_eq!(one(&all, "docker.io/library/second:1")["here"], bytes(&second));
    // The layer of both counts in each, and once in the last line.
    let lines = text(&server, &["docker.io/library/first:1", "library/second:1"]);
    let last = lines.lines().last().unwrap();
    let size = |bytes: u64| format!("{:.1} KiB", bytes as f64 / 1024.0);
    let words = format!("2 images, {} of {} shared", size(400_000), size(bytes(&first) + bytes(&second)));
    assert!(last.starts_with(&words), "{words}\n{lines}");

    saves(&server, &first);
    chooses(&server, &digest_only);
    lets_go(&mut server, &first, &second);
}

/// The bytes that were served from here, without those of the downloads.
fn saves(server: &Lanyard, first: &crate::hub::Image) {
    // lanyard fetches configs ahead: a client's own request may find its bytes here.
    let config = fs::metadata(file(server, first.config())).unwrap().len();
    let saved = |bytes: u64| {
        let saved = one(&ls(server, &["library/first:1"]), "docker.io/library/first:1")["saved"].as_u64().unwrap();
        saved == bytes || saved == bytes + config
    };
    eventually("the shared layer was given to the client of the other image", || saved(400_000));
    let layer = blob("library/first", first.layer(1));
    assert_eq!(get(server.port(), &layer).body.len(), 100_000);
    assert_eq!(ask(server.port(), "GET", &layer, &[("Range", "bytes=0-99")]).body.len(), 100);
    assert_eq!(head(server.port(), &layer).status, 200);
    eventually("it is counted", || saved(500_100));
    assert_eq!(names(&ls(server, &["--sort", "saved"]))[0], "docker.io/library/first:1");
    assert_eq!(names(&ls(server, &["--sort", "size"]))[0], "docker.io/library/first:1");
    assert_eq!(ls(server, &["--sort", "used"]).len(), 5);
}

fn chooses(server: &Lanyard, digest_only: &str) {
    for (words, expected) in [
        (&["first:1"][..], vec!["docker.io/library/first:1"]),
        (&["first"], vec![]),
        (&["app:v1", "docker.io/library/*:2"], vec!["docker.io/library/multi:2"]),
        (&["team/app:v1"], vec!["team/app:v1"]),
        (&["team/**"], vec!["team/app:v1"]),
        (&["docker.io/**/u*"], vec![digest_only]),
        (&["--why", "digest,hosted"], vec!["team/app:v1", digest_only]),
        (&["--why", "pinned"], vec![]),
    ] {
        assert_eq!(names(&ls(server, words)), expected, "{words:?}");
    }
    for (words, hint) in [(["ls", "first:*"], true), (["ls", "first:1"], false)] {
        let output = admin::command(server, &words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert_eq!(stderr(&output).contains("a pattern is over full names"), hint, "{}", stderr(&output));
    }
    for words in
        [&["--why", "because"][..], &["--sort", "colour"], &["Not/An:Image"], &["a//*"], &["unknown.example/x"]]
    {
        let words: Vec<_> = ["ls"].iter().chain(words).copied().collect();
        let output = admin::command(server, &words);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(64), 0), "{words:?} {}", stderr(&output));
        assert!(!output.stderr.is_empty());
    }
    for (path, status) in [
        ("/api/v1/images?last=x", 400),
        ("/api/v1/images?last=&last=", 400),
        ("/api/v1/images?match=A", 400),
        ("/api/v1/images?x=y", 400),
        ("/api/v1/images?match=**", 200),
    ] {
        assert_eq!(admin::ask(server, "GET", path).status, status, "{path}");
    }
}

/// Parts whose files go away under a stopped lanyard.
fn lets_go(server: &mut Lanyard, first: &crate::hub::Image, second: &crate::hub::Image) {
    server.stop();
    let output = admin::command(server, &["ls"]);
    assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(69), 1), "{}", stderr(&output));
    fs::remove_file(file(server, first.layer(1))).unwrap();
    fs::remove_file(file(server, second.layer(1))).unwrap();
    fs::remove_file(file(server, second.config())).unwrap();
    server.restart();
    let all = ls(server, &[]);
    let image = one(&all, "docker.io/library/first:1");
    assert_eq!(
        (&image["of"], &image["let_go"], &image["never_fetched"]),
        (&"partial".into(), &100_000.into(), &0.into())
    );
    let lines = text(server, &["first:1", "--tree"]);
    assert!(lines.contains(" here, 97.7 KiB of "), "{lines}");
    assert!(lines.contains(&format!("    {}  layer, 97.7 KiB, let go\n", first.layer(1))), "{lines}");
    assert!(lines.contains(&format!("    {}  config, ", first.config())), "{lines}");
    let lines = text(server, &["--digest", first.layer(1)]);
    assert!(lines.contains("\n              not here: it was let go\n"), "{lines}");

    // Without its last layer nothing of the other image is here but the manifest.
    server.stop();
    fs::remove_file(file(server, second.layer(0))).unwrap();
    server.restart();
    assert!(!names(&ls(server, &[])).contains(&"docker.io/library/second:1"));
    let lines = text(server, &[]);
    assert!(lines.lines().last().unwrap().contains(" · 1 gone (--gone lists them) · "), "{lines}");
    assert!(!text(server, &["--gone"]).contains("--gone"));
    let all = ls(server, &["--gone"]);
    assert_eq!(one(&all, "docker.io/library/second:1")["of"], "gone");

    // A manifest that cannot be read is told in its line, and costs the others nothing.
    server.stop();
    fs::write(file(server, &first.digest), "rotten").unwrap();
    server.restart();
    let all = ls(server, &[]);
    assert_eq!(all.len(), 4, "{all:#?}");
    let image = one(&all, "docker.io/library/first:1");
    assert_eq!(image["problem"], "its manifest was rotten and is gone", "{image}");
    let lines = text(server, &["first:1"]);
    assert!(lines.contains("\n  its manifest is not here\n"), "{lines}");
}

/// A client that fetched the manifest and one layer of two.
#[test]
fn what_was_never_fetched_is_told_from_what_was_let_go() {
    let hub = Hub::start();
    let image = hub.image("library/half", "1").layer(100_000).layer(300_000).publish();
    let server = mirror(&hub);
    pull(&server, "library/half", "1", &[image.layer(0)]);
    // lanyard fetches the config ahead, so that it may be here or not.
    eventually("the config is here", || file(&server, image.config()).exists());
    let all = ls(&server, &[]);
    assert_eq!(
        (&all[0]["of"], &all[0]["never_fetched"], &all[0]["let_go"]),
        (&"partial".into(), &300_000.into(), &0.into())
    );
    let lines = text(&server, &[]);
    assert!(lines.contains("were never fetched"), "{lines}");
    let lines = text(&server, &["--digest", image.layer(1)]);
    assert!(lines.contains("\n              not here: it was never fetched\n"), "{lines}");

    // An index alone, and then the manifest of one platform, but none of its content.
    let multi = hub.image("library/multi", "2").layer(1000).platforms(&[AMD64, ARM64]).publish();
    assert_eq!(get(server.port(), &manifest("library/multi", "2")).status, 200);
    let row = |server: &Lanyard| ls(server, &["multi:2", "--gone"]).remove(0);
    let told = row(&server);
    assert_eq!((&told["of"], &told["platforms"]), (&"gone".into(), &serde_json::json!([])), "{told}");
    assert_eq!(told["other_platforms"], serde_json::json!([AMD64, ARM64]), "{told}");
    let lines = text(&server, &["multi:2", "--gone", "--tree"]);
    assert!(lines.contains(&format!("\n    not here: {AMD64}, {ARM64}\n")), "{lines}");
    pull(&server, "library/multi", &multi.platforms[1].digest, &[&multi.platforms[1].layers[0]]);
    let told = row(&server);
    assert_eq!(
        (&told["platforms"], &told["other_platforms"]),
        (&serde_json::json!([ARM64]), &serde_json::json!([AMD64]))
    );
}

/// Every reason for a digest, and its place in the order of eviction.
#[test]
fn a_digest_says_every_reason_for_being_here() {
    let hub = Hub::start();
    let shared = vec![7; 40_000];
    let first = hub.image("library/first", "1").layer_of(shared.clone()).layer(10_000).publish();
    let second = hub.image("library/second", "2").layer_of(shared).layer(300_000).publish();
    let mut server = mirror(&hub);
    pull(&server, "library/first", "1", &first.blobs());
    pull(&server, "library/second", "2", &[second.layer(0)]);
    let pushed = Pusher(server.port()).image("team/app", "v1", &[9; 5000]);
    let report = |server: &Lanyard, digest: &str| -> Value {
        let output = admin::command(server, &["ls", "--json", "--digest", digest]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let layer = report(&server, first.layer(0));
    assert_eq!((&layer["size"], &layer["why"]), (&40_000.into(), &vec!["part"].into()), "{layer}");
    let repositories = layer["repositories"].as_array().unwrap();
    for (repo, image) in [("first", &first), ("second", &second)] {
        let repo = format!("docker.io/library/{repo}");
        let of = repositories.iter().find(|found| found["repository"] == repo.as_str()).unwrap();
        assert_eq!((&of["held"], &of["named_by"]), (&true.into(), &vec![image.digest.as_str()].into()), "{of}");
    }
    let place = &layer["place"];
    assert!(place["place"].as_u64() >= Some(1) && place["place"].as_u64() <= place["of"].as_u64(), "{layer}");
    let lines = text(&server, &["--digest", first.layer(0)]);
    for part in ["39.1 KiB, here\n", "why           part\n", "would go as number ", "@sha256:"] {
        assert!(lines.contains(part), "{part}\n{lines}");
    }
    let tagged = report(&server, &first.digest);
    assert_eq!((&tagged["why"][0], &tagged["place"]), (&"tagged".into(), &Value::Null), "manifests stay");
    assert_eq!(tagged["repositories"][0]["tags"], serde_json::json!(["1"]));
    let hosted = report(&server, &pushed);
    assert_eq!((&hosted["why"], &hosted["place"]), (&vec!["hosted", "promised"].into(), &Value::Null), "{hosted}");

    // A download under way, and what a stop leaves of it.
    let gate = Gate::shut();
    hub.fault(On::blob(second.layer(1)), Fault::StallAt { bytes: 100_000, gate: gate.clone() });
    let mut client = Connection::open(server.port());
    client.request("GET", &blob("library/second", second.layer(1)), &[]);
    assert_eq!(client.head().unwrap().0, 200);
    let filling = report(&server, second.layer(1));
    assert_eq!((&filling["size"], &filling["filling"]["of"]), (&Value::Null, &300_000.into()), "{filling}");
    assert!(filling["why"].as_array().unwrap().contains(&"filling".into()), "{filling}");
    server.kill9();
    gate.open();
    server.restart();
    let parked = report(&server, second.layer(1));
    assert!(parked["why"].as_array().unwrap().contains(&"parked".into()) && parked["filling"].is_null(), "{parked}");

    let nothing = digest_of(b"nothing");
    let output = admin::command(&server, &["ls", "--digest", &nothing]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(1), format!("lanyard: {nothing} is not known here\n")));
    for words in [&["ls", "--digest", "sha256:x"][..], &["ls", "--digest", &nothing, "--tree"]] {
        assert_eq!(admin::command(&server, words).status.code(), Some(64), "{words:?}");
    }
    for (path, status) in [("x", 404), (&format!("{nothing}?x=y"), 400), (&nothing, 404)] {
        assert_eq!(admin::ask(&server, "GET", &format!("/api/v1/digests/{path}")).status, status, "{path}");
    }
    server.stop();
    assert_eq!(admin::command(&server, &["ls", "--digest", &nothing]).status.code(), Some(69));
}

/// 5,000 images: all are listed once, in order, and the first line does not wait for the last.
#[test]
fn many_images_are_listed_page_by_page() {
    const REPOS: usize = 50;
    const TAGS: usize = 100;
    let mut server = Lanyard::start("mode = \"offline\"");
    let client = Pusher(server.port());
    let digest = client.image("seed/app", "v", b"layer");
    let (config, layer) = (digest_of(b"{}"), digest_of(b"layer"));
    let bytes = push::image(&config, &[&layer]).to_string();
    server.stop();
    // The records of as many images as pushes would make, and faster.
    let hosted = fs::read_dir(server.data_dir().join("repos")).unwrap().next().unwrap().unwrap().path();
    let seed = fs::read_dir(&hosted).unwrap().next().unwrap().unwrap();
    let name = seed.file_name().into_string().unwrap();
    for repo in 0..REPOS {
        let to = hosted.join(name.replace("seed", &format!("seed{repo:02}")));
        copy(&seed.path(), &to);
        for tag in 0..TAGS {
            let record = format!(
                "{{\"v\":1,\"tag\":\"t{tag:03}\",\"digest\":\"{digest}\",\"media_type\":\"{}\",\"size\":{},\"updated\":1}}",
                push::OCI_IMAGE,
                bytes.len()
            );
            let crc = crc32fast::hash(record.as_bytes());
            fs::write(to.join("tags").join(format!("t{tag:03}")), format!("{record}\ncrc32 {crc:08x}\n")).unwrap();
        }
    }
    fs::remove_dir_all(server.data_dir().join("index")).unwrap();
    server.restart();
    eventually("the index is filled", || admin::ask(&server, "GET", "/api/v1/status").json()["kept"]["index"] == true);

    let began = Instant::now();
    let data_dir = server.data_dir();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lanyard"))
        .args(["ls", "--data-dir", data_dir.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let head = lines.next().unwrap().unwrap();
    let first = began.elapsed();
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    println!("ls of {} images: first line after {first:?}, all after {:?}", rest.len() - 1, began.elapsed());
    assert!(child.wait().unwrap().success());
    assert!(head.starts_with("IMAGE "), "{head}");
    // The seed's own tag, which is copied too.
    let images = REPOS * (TAGS + 1) + 1;
    assert_eq!(rest.len(), images + 1);
    assert!(rest.last().unwrap().starts_with(&format!("{images} images, ")), "{:?}", rest.last());
    let listed: Vec<_> = rest[..images].iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(listed.is_sorted() || listed.windows(2).all(|two| two[0] != two[1]), "each once");
    assert_eq!(names(&ls(&server, &["seed07/app:t099"])), ["seed07/app:t099"]);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => assert!(fs::copy(entry.path(), to).is_ok()),
        }
    }
}

/// A pin, a pattern of `cache.keep`, a rule of tags and a tag that has moved on.
#[test]
fn what_stays_says_why_and_so_does_what_its_tag_left_behind() {
    let hub = Hub::start();
    for name in ["pinned", "kept", "ruled"] {
        hub.image(&format!("library/{name}"), "1").layer(1000).publish();
    }
    let old = hub.image("library/moved", "1").layer(2000).publish();
    let more = "[cache]\ntag_ttl = \"0s\"\nkeep = [\"docker.io/library/kept:*\"]\n\
                [[tags]]\nmatch = [\"docker.io/library/ruled:*\"]\nkeep = 1";
    let server = mirror_with(&hub, more);
    for name in ["pinned", "kept", "ruled", "moved"] {
        assert_eq!(get(server.port(), &manifest(&format!("library/{name}"), "1")).status, 200);
    }
    hub.image("library/moved", "1").layer(3000).publish();
    assert_eq!(get(server.port(), &manifest("library/moved", "1")).status, 200);
    assert!(admin::command(&server, &["pin", "pinned:1"]).status.success());
    // Only their manifests are here.
    let all = ls(&server, &["--gone"]);
    let left = format!("docker.io/library/moved@{}", old.digest);
    for (name, why) in [
        ("docker.io/library/pinned:1", "pinned"),
        ("docker.io/library/kept:1", "pinned"),
        ("docker.io/library/ruled:1", "pinned"),
        ("docker.io/library/moved:1", "tagged"),
        (&left, "superseded"),
    ] {
        assert_eq!(one(&all, name)["why"], why, "{name}");
    }
    let digest = one(&all, "docker.io/library/pinned:1")["digest"].as_str().unwrap();
    let report = text(&server, &["--digest", digest]);
    assert!(report.contains("pinned") && report.contains("tagged"), "{report}");
    assert_eq!(names(&ls(&server, &["--gone", "--why", "superseded"])), [left]);
}
