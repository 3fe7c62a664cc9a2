//! `lanyard lock` with the real binary: the file it writes, what it says of a moved tag, and that
//! the file freezes tags.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use super::{ALWAYS_DUE, REPO, command, command_in, digest, mirror, rule, tag};
use crate::{
    cli::{stderr, stdout},
    hub::{Hub, Image},
    lanyard::Lanyard,
    pull::config,
    wire::{blob, eventually, get, manifest},
};

fn lock(server: &Lanyard, folder: &Path, words: &[&str]) -> Output {
    command_in(server, folder, &[&["lock"], words].concat())
}

#[test]
fn what_is_here_is_locked_and_a_moved_tag_is_told() {
    let hub = Hub::start();
    let v1 = hub.image(REPO, "v1").layer(10).platforms(&["linux/arm64", "linux/amd64"]).publish();
    let v2 = hub.image(REPO, "v2").layer(20).publish();
    let mut server = mirror(&hub, ALWAYS_DUE);
    for name in ["v2", "v1"] {
        assert_eq!(tag(&server, name).status, 200);
    }
    let folder = tempfile::tempdir().unwrap();
    let written = lock(&server, folder.path(), &["-o", "build.lock"]);
    assert!(written.status.success(), "{}", stderr(&written));
    let file = folder.path().join("build.lock");
    let text = fs::read_to_string(&file).unwrap();
    let entry =
        |name: &str, digest: &str| format!("[[image]]\nname = \"docker.io/{REPO}:{name}\"\ndigest = \"{digest}\"\n");
    let first = entry("v1", &v1.digest) + "platforms = [\"linux/amd64\", \"linux/arm64\"]\nseen = \"";
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}\n{text}"));
    assert!(at(&first) < at(&(entry("v2", &v2.digest) + "seen = \"")));
    assert_eq!(stdout(&lock(&server, folder.path(), &[])), text, "without -o it is printed");
    assert_eq!(stdout(&lock(&server, folder.path(), &["-o", "-"])), text);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "- is no file");
    let one = stdout(&lock(&server, folder.path(), &["busybox:v2"]));
    assert!(one.contains(&v2.digest) && !one.contains(&v1.digest), "{one}");
    fs::write(folder.path().join("list"), "# images\n\nbusybox:v1 # the first\n").unwrap();
    let listed = stdout(&lock(&server, folder.path(), &["--from", "list"]));
    assert!(listed.contains(&v1.digest) && !listed.contains(&v2.digest), "{listed}");

    let same = lock(&server, folder.path(), &["--check", "build.lock"]);
    assert_eq!(
        (same.status.code(), stdout(&same).as_str()),
        (Some(0), "2 of 2 tags name what the lock file says, 0 have moved.\n")
    );
    let moved = hub.image(REPO, "v1").layer(30).publish();
    assert!(lock(&server, folder.path(), &["--check", "build.lock"]).status.success(), "upstream is not asked");
    tag(&server, "v1");
    let told = lock(&server, folder.path(), &["--check", "build.lock"]);
    let text = stdout(&told);
    assert_eq!(told.status.code(), Some(1), "{text}");
    let expected = format!("docker.io/{REPO}:v1 has moved\n  from  {}\n  to    {}, since ", v1.digest, moved.digest);
    assert!(
        text.starts_with(&expected) && text.ends_with("1 of 2 tags name what the lock file says, 1 have moved.\n"),
        "{text}"
    );
    let json = lock(&server, folder.path(), &["--check", "build.lock", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((json.status.code(), &value["moved"][0]["now"]), (Some(1), &moved.digest.as_str().into()));

    // The file freezes what it was made from.
    server.reconfigure(&config(&hub, &(ALWAYS_DUE.to_owned() + &rule(&format!("freeze = {file:?}")))));
    server.restart();
    let frozen = tag(&server, "v1");
    assert_eq!((frozen.outcome(), digest(&frozen)), ("hit", v1.digest.as_str()));
}

#[test]
fn what_cannot_be_locked_is_told() {
    let hub = Hub::start();
    hub.image(REPO, "v1").layer(10).publish();
    let server = mirror(&hub, "");
    let folder = tempfile::tempdir().unwrap();
    for words in [&["-o", "new.lock"][..], &[], &["--json"]] {
        let nothing = lock(&server, folder.path(), words);
        assert_eq!((nothing.status.code(), stdout(&nothing).as_str()), (Some(1), ""), "{words:?}");
        assert!(stderr(&nothing).contains("there is nothing to lock"), "{}", stderr(&nothing));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    tag(&server, "v1");
    fs::write(folder.path().join("bad.lock"), "[[image]\n").unwrap();
    fs::write(folder.path().join("empty"), "# nothing\n").unwrap();
    let by_digest = format!("busybox@sha256:{}", "a".repeat(64));
    for (words, code, told) in [
        (&["busybox:v1", "busybox:v9"][..], 1, "docker.io/library/busybox:v9"),
        (&["registry.example/a:1"], 1, "registry.example/a:1"),
        (&["Busybox"], 1, "Busybox"),
        (&[&by_digest], 1, "has no tag"),
        (&["--from", "nowhere"], 64, "nowhere: "),
        (&["--from", "empty"], 64, "empty:1: there is no image in it"),
        (&["--check", "empty"], 64, "empty: is no lock file: it names no image"),
        (&["--check", "bad.lock"], 64, "bad.lock: is no lock file: line 1"),
        (&["--check", "bad.lock", "busybox:v1"], 64, "cannot be used with"),
    ] {
        let output = lock(&server, folder.path(), words);
        let said = stderr(&output);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(code), ""), "{words:?}\n{said}");
        assert!(said.contains(told), "{words:?}\n{said}");
    }
    // A tag that is not here is no moved tag, and nothing says that it has not moved.
    let digest = format!("sha256:{}", "b".repeat(64));
    let text = format!("[[image]]\nname = \"docker.io/{REPO}:v9\"\ndigest = \"{digest}\"\n");
    fs::write(folder.path().join("other.lock"), text).unwrap();
    let output = lock(&server, folder.path(), &["--check", "other.lock"]);
    let told = "docker.io/library/busybox:v9 is not here, so nothing is known of it\n\
                0 of 1 tags name what the lock file says, 0 have moved, 1 cannot be compared.\n";
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), told));
    let json = lock(&server, folder.path(), &["--check", "other.lock", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (json.status.code(), value),
        (Some(1), serde_json::json!({ "moved": [], "unknown": ["docker.io/library/busybox:v9"], "refused": [] }))
    );
}

/// A lanyard that has seen `v1` move, and `v2`. A lock file freezes `v1` at what it named first,
/// and `v3` that no client has asked for; clients get none for `v2`.
fn frozen(hub: &Hub) -> (Lanyard, PathBuf, [Image; 2]) {
    let mut server = mirror(hub, ALWAYS_DUE);
    let first = hub.image(REPO, "v1").layer(10).publish();
    tag(&server, "v1");
    hub.image(REPO, "v1").layer(20).publish();
    hub.image(REPO, "v2").layer(30).publish();
    let third = hub.image(REPO, "v3").layer(40_000).publish();
    for name in ["v1", "v2"] {
        assert_eq!(tag(&server, name).status, 200);
    }
    let file = server.config_file().with_file_name("build.lock");
    let entry = |name: &str, image: &Image| {
        format!("[[image]]\nname = \"docker.io/{REPO}:{name}\"\ndigest = \"{}\"\n", image.digest)
    };
    fs::write(&file, entry("v1", &first) + &entry("v3", &third)).unwrap();
    server.reconfigure(&config(hub, &(ALWAYS_DUE.to_owned() + &rule(&format!("freeze = {file:?}")))));
    server.restart();
    (server, file, [first, third])
}

#[test]
fn what_clients_are_served_is_locked() {
    let hub = Hub::start();
    let (server, file, images) = frozen(&hub);
    let folder = tempfile::tempdir().unwrap();
    let served = |name: &str| digest(&tag(&server, name)).to_owned();
    assert_eq!([served("v1"), served("v3")], images.map(|image| image.digest));
    let written = lock(&server, folder.path(), &["-o", "new.lock"]);
    assert!(written.status.success(), "{}", stderr(&written));
    let refused = format!("lanyard: a rule of [[tags]] freezes these, and clients get none:\n  docker.io/{REPO}:v2\n");
    assert_eq!(stderr(&written), refused);
    let text = fs::read_to_string(folder.path().join("new.lock")).unwrap();
    let locked: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("digest = ")).collect();
    assert_eq!(locked, [format!("{:?}", served("v1")), format!("{:?}", served("v3"))], "{text}");
    for (words, code, told) in [
        (&["busybox:v3"][..], 0, ""),
        (&["busybox:v2"], 1, &*refused),
        (&["--check", "new.lock"], 0, ""),
        (&["--check", file.to_str().unwrap()], 0, ""),
    ] {
        let output = lock(&server, folder.path(), words);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(code), told), "{words:?}");
    }
    fs::write(folder.path().join("v2.lock"), text.replace(":v1", ":v2")).unwrap();
    let output = lock(&server, folder.path(), &["--check", "v2.lock"]);
    let told = format!(
        "docker.io/{REPO}:v2 is frozen by a rule of [[tags]], and clients get none\n\
         1 of 2 tags name what the lock file says, 0 have moved, 1 cannot be compared.\n"
    );
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), told));
}

/// The pin of a frozen tag keeps what clients get for it, also when the rule is gone.
#[test]
fn what_clients_are_served_is_pinned() {
    let hub = Hub::start();
    for words in [&["pull", "busybox:v3", "--pin"][..], &["pin", "busybox:v3"]] {
        let (mut server, _, [_, third]) = frozen(&hub);
        let is_here = |server: &Lanyard| get(server.port(), &blob(REPO, third.layer(0))).outcome() == "hit";
        tag(&server, "v3");
        eventually("its layer is here", || is_here(&server));
        let pinned = command(&server, words);
        assert!(pinned.status.success(), "{}", stderr(&pinned));
        let list = crate::admin::ask(&server, "GET", "/api/v1/pins").json();
        let images: Vec<_> = list["pins"].as_array().unwrap().iter().map(|pin| &pin["image"]).collect();
        let name = format!("docker.io/{REPO}");
        assert_eq!(images, [&*format!("{name}:v3"), &*format!("{name}@{}", third.digest)], "{words:?}");
        assert_eq!(list["pins"][1]["note"], "v3 is frozen at it");
        server.reconfigure(&config(&hub, ALWAYS_DUE));
        server.restart();
        let trimmed = command(&server, &["cache", "trim", "--to", "0"]);
        assert!(trimmed.status.success(), "{}", stderr(&trimmed));
        hub.go_down();
        assert!(is_here(&server), "{words:?}");
        assert_eq!(get(server.port(), &manifest(REPO, &third.digest)).status, 200);
        hub.come_back();
    }
}

/// To look is no use, also when the manifest is not in memory (K14).
#[test]
fn k14_what_a_lock_and_a_dry_run_look_at_is_not_used() {
    let hub = Hub::start();
    let image = hub.image(REPO, "v1").layer(10).publish();
    let mut server = mirror(&hub, &rule("ttl = \"never\""));
    for path in [manifest(REPO, "v1"), blob(REPO, image.config()), blob(REPO, image.layer(0))] {
        assert_eq!(get(server.port(), &path).status, 200);
    }
    let stored = |digest: &str| {
        let hex = digest.strip_prefix("sha256:").unwrap();
        server.data_dir().join("blobs/sha256").join(&hex[..2]).join(hex)
    };
    let files = [stored(&image.digest), stored(image.config())];
    eventually("all is stored", || files.iter().all(|file| file.exists()));
    server.stop();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(10 * 24 * 3600);
    for file in &files {
        let times = fs::FileTimes::new().set_accessed(long_ago);
        fs::File::open(file).unwrap().set_times(times).unwrap();
    }
    server.restart();
    let folder = tempfile::tempdir().unwrap();
    for words in [
        &["lock", "-o", "new.lock"][..],
        &["lock", "--check", "new.lock"],
        &["pull", "busybox:v1", "--dry-run", "--platform", "all"],
        &["pull", "busybox:v1", "--dry-run", "--platform", "linux/amd64"],
    ] {
        let looked = command_in(&server, folder.path(), words);
        assert!(looked.status.success(), "{words:?} {}", stderr(&looked));
        for file in &files {
            assert_eq!(fs::metadata(file).unwrap().accessed().unwrap(), long_ago, "{words:?} {}", file.display());
        }
    }
}
