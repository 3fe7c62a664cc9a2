//! The administration: the Unix socket in the data folder, and the commands that speak over it.

use std::{
    fs,
    io::Write,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cli::{lanyard, stderr, stdout},
    lanyard::Lanyard,
    push::{self, Pusher},
    raw::{self, Answer},
};

fn socket(server: &Lanyard) -> PathBuf {
    server.data_dir().join("lanyard.sock")
}

/// One request over the admin socket.
pub(crate) fn ask(server: &Lanyard, method: &str, path: &str) -> Answer {
    let mut stream = UnixStream::connect(socket(server)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(raw::request(method, path, &[], true).as_bytes()).unwrap();
    raw::finish(&mut stream)
}

/// Runs a command on the server's folder.
pub(crate) fn command(server: &Lanyard, words: &[&str]) -> std::process::Output {
    let data_dir = server.data_dir();
    let words: Vec<_> = words.iter().copied().chain(["--data-dir", data_dir.to_str().unwrap()]).collect();
    lanyard(Path::new("/"), &words, &[])
}

#[test]
fn the_socket_is_the_operators_alone_and_goes_with_the_server() {
    let mut server = Lanyard::start("mode = \"offline\"");
    let path = socket(&server);
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(ask(&server, "GET", "/api/v1/status").status, 200);

    server.kill9();
    assert!(path.exists(), "a crash leaves it behind");
    assert_eq!(command(&server, &["status"]).status.code(), Some(69), "and nobody answers there");
    server.restart();
    assert_eq!(ask(&server, "GET", "/api/v1/status").status, 200);

    server.stop();
    assert!(!path.exists());
}

#[test]
fn the_api_answers_on_the_socket_and_nowhere_else() {
    let server = Lanyard::start("mode = \"offline\"");
    let status = ask(&server, "GET", "/api/v1/status").json();
    assert_eq!(status["pid"], server.pid().unwrap());
    assert_eq!(status["listening"], server.host());
    assert_eq!((&status["ready"], &status["kept"]["blobs"]), (&true.into(), &0.into()));
    assert_eq!(ask(&server, "GET", "/api/v1/repositories").json(), serde_json::json!({ "repositories": [] }));
    let nothing = serde_json::json!({
        "links": 0, "blobs": 0, "bytes": 0, "uploads": 0, "waiting": 0, "waiting_bytes": 0, "waiting_until": null,
        "pushed_to": 0, "skipped": 0,
    });
    for query in ["", "?dry_run=true", "?dry_run=false", "?now=true", "?now=false&dry_run=true"] {
        let path = &format!("/api/v1/gc{query}");
        assert_eq!(ask(&server, "POST", path).json(), nothing, "{path}");
    }
    for (method, path, status, allow) in [
        ("GET", "/api/v1/gc", 405, "POST"),
        ("DELETE", "/api/v1/gc", 405, "POST"),
        ("GET", "/api/v1/pull", 405, "POST"),
        ("POST", "/api/v1/pull?dry_run=true", 400, ""),
        ("POST", "/api/v1/status", 405, "GET, HEAD"),
        ("PUT", "/api/v1/repositories", 405, "GET, HEAD"),
        ("POST", "/api/v1/pins", 405, "GET, HEAD"),
        ("GET", "/api/v1/pins/nginx", 405, "PUT, DELETE"),
        ("PUT", "/api/v1/pins/", 400, ""),
        ("PUT", "/api/v1/pins/Nginx", 400, ""),
        ("PUT", "/api/v1/pins/nginx?platforms=linux/amd64", 400, ""),
        ("DELETE", "/api/v1/pins/nginx?platform=linux/amd64", 400, ""),
        ("DELETE", "/api/v1/pins/nginx", 404, ""),
        ("GET", "/api/v1/rm?image=nginx", 405, "POST"),
        ("POST", "/api/v1/rm", 400, ""),
        ("POST", "/api/v1/rm?image=nginx&dryrun=true", 400, ""),
        ("POST", "/api/v1/rm?image=nginx", 503, ""),
        ("POST", "/api/v1/savings", 405, "GET, HEAD"),
        ("GET", "/api/v1/savings?day=1", 400, ""),
        // A misspelt parameter must not turn a dry run into a real one.
        ("POST", "/api/v1/gc?dryrun=true", 400, ""),
        ("POST", "/api/v1/gc?dry_run", 400, ""),
        ("POST", "/api/v1/gc?dry_run=1", 400, ""),
        ("POST", "/api/v1/gc?dry_run=false&dry_run=true", 400, ""),
        ("POST", "/api/v1/gc?now", 400, ""),
        ("POST", "/api/v1/gc?now=true&now=false", 400, ""),
        ("POST", "/api/v1/gc?now=true&dryrun=true", 400, ""),
        ("GET", "/api/v1/status?x=y", 400, ""),
        ("POST", "/api/v1/lock", 405, "GET, HEAD"),
        ("GET", "/api/v1/lock?images=nginx", 400, ""),
        ("GET", "/api/v1", 404, ""),
        ("GET", "/api/v1/status/", 404, ""),
        ("GET", "/v2/", 404, ""),
    ] {
        let answer = ask(&server, method, path);
        assert_eq!((answer.status, answer.header("allow")), (status, allow), "{method} {path}");
        assert!(answer.json()["errors"][0]["message"].is_string(), "{method} {path}");
    }
    let head = ask(&server, "HEAD", "/api/v1/status");
    assert_eq!((head.status, head.rest.len()), (200, 0));
    for (method, path) in [("GET", "/api/v1/status"), ("POST", "/api/v1/gc"), ("GET", "/api/v1/repositories")] {
        let over_tcp = raw::finish(&mut raw::send(server.host().parse().unwrap(), method, path, &[]));
        assert_eq!(over_tcp.status, 404, "{method} {path} over TCP");
    }
}

#[test]
fn status_and_gc_speak_to_people_and_to_programs() {
    let mut server = Lanyard::start("mode = \"offline\"");
    let status = command(&server, &["status"]);
    assert!(status.status.success(), "{}", stderr(&status));
    let text = stdout(&status);
    for word in [&format!("process {}", server.pid().unwrap()), &server.url(), "0 blobs", "docker.io"] {
        assert!(text.contains(word), "{word}\n{text}");
    }
    let json: serde_json::Value = serde_json::from_slice(&command(&server, &["status", "--json"]).stdout).unwrap();
    assert_eq!(json["pid"], server.pid().unwrap());
    assert_eq!(stdout(&command(&server, &["gc"])), "Nothing to collect.\n");
    assert_eq!(stdout(&command(&server, &["gc", "--dry-run"])), "Nothing to collect.\n");
    let json: serde_json::Value = serde_json::from_slice(&command(&server, &["gc", "--json"]).stdout).unwrap();
    assert_eq!(json["blobs"], 0);

    server.stop();
    for words in [&["status"][..], &["gc"], &["gc", "--dry-run", "--json"]] {
        let output = command(&server, words);
        let told = stderr(&output);
        assert_eq!((output.status.code(), told.lines().count(), stdout(&output).len()), (Some(69), 1, 0), "{told}");
        assert!(told.starts_with("lanyard: no lanyard runs on the data folder "), "{told}");
    }
    let wrong = lanyard(Path::new("/"), &["gc", "--data-dir", ""], &[]);
    assert_eq!(wrong.status.code(), Some(64), "{}", stderr(&wrong));
}

/// Blocks on disk below a folder, in bytes.
fn disk_usage(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        bytes += if metadata.is_dir() { disk_usage(&entry.path()) } else { metadata.blocks() * 512 };
    }
    bytes
}

/// Deleted content waits for its grace, and the status says how much waits and until when. An
/// operator need not wait.
#[test]
fn deleted_content_waits_for_its_grace_or_for_an_operator() {
    const SIZE: usize = 200 << 20;
    let mut server = Lanyard::start("mode = \"offline\"");
    let client = Pusher(server.port());
    let kept = client.image("team/kept", "v1", b"kept");
    let digest = client.image("team/app", "v1", &vec![7; SIZE]);
    assert_eq!(client.delete(&format!("/v2/team/app/manifests/{digest}")), 202);
    let mut full = disk_usage(&server.data_dir());
    assert!(full >= SIZE as u64, "{full}");
    let gc = |server: &Lanyard, words: &[&str]| -> serde_json::Value {
        let words: Vec<_> = ["gc", "--json"].iter().chain(words).copied().collect();
        let output = command(server, &words);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for words in [&[][..], &["--dry-run"]] {
        let waits = gc(&server, words);
        // The manifest and its layer wait; the config does not, because the other image has it too.
        assert_eq!((&waits["blobs"], &waits["links"], &waits["waiting"]), (&0.into(), &0.into(), &3.into()), "{waits}");
        assert!(waits["waiting_bytes"].as_u64().unwrap() > SIZE as u64);
        let left = waits["waiting_until"].as_u64().unwrap() - now();
        assert!((3300..=3600).contains(&left), "{left}");
        assert!(disk_usage(&server.data_dir()) >= full);
    }
    let text = stdout(&command(&server, &["gc"]));
    for part in ["Nothing to collect.", "3 more (200.0 MiB)", "They wait until 2", "`lanyard gc --now`"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    // A restart protects everything once more, and `--now` does not wait for that either.
    server.restart();
    assert_eq!(gc(&server, &[])["waiting"], 3);
    let planned = gc(&server, &["--now", "--dry-run"]);
    full = disk_usage(&server.data_dir());
    assert_eq!((&planned["links"], &planned["blobs"], &planned["waiting"]), (&2.into(), &2.into(), &0.into()));
    assert!(full >= SIZE as u64, "a dry run removes nothing");
    assert_eq!(gc(&server, &["--now"]), planned);
    let rest = disk_usage(&server.data_dir());
    assert!(full - rest >= SIZE as u64 && rest < 4 << 20, "{full} before, {rest} after");
    assert_eq!(raw::get(server.host().parse().unwrap(), &format!("/v2/team/kept/manifests/{kept}"), &[]).status, 200);
    let text = stdout(&command(&server, &["gc", "--now"]));
    assert!(text.starts_with("Nothing to collect.\nNo grace was waited for"), "{text}");
}

/// An upload under way and the content that it brought are no garbage, also for a collection with
/// `--now`.
#[test]
fn a_collection_without_grace_leaves_pushes_under_way_alone() {
    let server = Lanyard::start("mode = \"offline\"");
    let client = Pusher(server.port());
    let first = client.blob("team/app", b"the first layer");
    let stray = client.blob("team/other", b"stray");
    let place = client.begin("team/app");
    assert_eq!(client.patch(&place, None, b"the second").status, 202);
    let output = stdout(&command(&server, &["gc", "--now"]));
    assert!(output.contains("1 repositories were left alone: an upload to them is under way."), "{output}");
    let status = |repo: &str, digest: &str| {
        raw::get(server.host().parse().unwrap(), &format!("/v2/{repo}/blobs/{digest}"), &[]).status
    };
    assert_eq!((status("team/app", &first), status("team/other", &stray)), (200, 404));
    let second = crate::hub::digest_of(b"the second layer");
    assert_eq!(client.patch(&place, Some(10), b" layer").status, 202);
    assert_eq!(crate::wire::send(server.port(), "PUT", &format!("{place}?digest={second}"), &[], b"").status, 201);
    let image = push::image(&first, &[&second]).to_string();
    assert_eq!(client.manifest("team/app", "v1", push::OCI_IMAGE, image.as_bytes()).status, 201);
    assert!(stdout(&command(&server, &["gc", "--now"])).starts_with("Nothing to collect."));
}

/// `hosted.gc_grace` is how long a lease lasts, and how long a start protects content.
#[test]
fn the_grace_can_be_set() {
    let mut server = Lanyard::start("mode = \"offline\"\n[hosted]\ngc_grace = \"2s\"");
    let client = Pusher(server.port());
    let stray = client.blob("team/app", b"stray");
    let collected = || ask(&server, "POST", "/api/v1/gc").json();
    let first = collected();
    assert!(first["waiting"] == 1 || first["blobs"] == 1, "{first}");
    crate::wire::eventually("the grace is over", || {
        ask(&server, "POST", "/api/v1/gc");
        raw::get(server.host().parse().unwrap(), &format!("/v2/team/app/blobs/{stray}"), &[]).status == 404
    });
    server.stop();
}

#[test]
fn the_status_tells_pushed_from_cached_and_how_the_scrub_gets_on() {
    let server = Lanyard::start("mode = \"offline\"\nscrub_every = \"1s\"");
    let client = Pusher(server.port());
    client.image("team/app", "v1", &[7; 5000]);
    let metric = |name: &str| {
        let text = crate::wire::get(server.port(), "/metrics").text();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
    };
    crate::wire::eventually("a pass has read all of it", || {
        ask(&server, "GET", "/api/v1/status").json()["scrub"]["finished"]["blobs"] == 3
    });
    let status = ask(&server, "GET", "/api/v1/status").json();
    assert_eq!(status["kept"]["hosted_blobs"], 3);
    assert_eq!(status["kept"]["hosted_bytes"], status["kept"]["bytes"]);
    assert_eq!((&status["scrub"]["every"], &status["scrub"]["finished"]["rotten"]), (&1.into(), &0.into()));
    assert!(metric("lanyard_scrubbed_bytes_total ").unwrap() >= status["kept"]["bytes"].as_u64().unwrap());
    assert_eq!((metric("lanyard_cache_bytes{part=\"cached\"} "), metric("lanyard_cache_blobs ")), (Some(0), Some(0)));
    assert_eq!(
        (metric("lanyard_hosted_bytes "), metric("lanyard_hosted_blobs ")),
        (status["kept"]["bytes"].as_u64(), Some(3))
    );
    let text = stdout(&command(&server, &["status"]));
    for part in ["of these 3 blobs", "are of pushed repositories", "scrub  ", "finished ", "0 rotten"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    // The scrub alone finds rot, and says which repository has it.
    let layer = crate::hub::digest_of(&[7; 5000]);
    let hex = layer.trim_start_matches("sha256:");
    fs::write(server.data_dir().join("blobs/sha256").join(&hex[..2]).join(hex), [8; 5000]).unwrap();
    crate::wire::eventually("the scrub finds it", || {
        metric("lanyard_rotten_total{what=\"hosted\",by=\"scrub\"} ") == Some(1)
    });
    crate::wire::eventually("it is told", || server.logs().contains("pushed content has rotted on disk"));
    assert!(server.logs().lines().any(|line| line.contains(&layer) && line.contains("team/app")), "{}", server.logs());
    assert_eq!(crate::wire::get(server.port(), &format!("/v2/team/app/blobs/{layer}")).status, 404);
    let text = stdout(&command(&server, &["status"]));
    assert!(text.contains("1 were found rotten since the start, 1 of them pushed"), "{text}");
}

/// A socket that is no lanyard, or whose server ends within its answer, is reported in one line.
#[test]
fn a_broken_answer_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("lanyard.sock")).unwrap();
    let answers = [
        "",
        "220 ready\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
    ];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let _ = std::io::Read::read(&mut stream, &mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        for answer in answers {
            let output = lanyard(folder.path(), &["status", "--data-dir", "."], &[]);
            assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(1), 1), "{answer:?}");
        }
    });
}

#[test]
fn the_registry_runs_without_a_socket_and_says_so() {
    let mut server = Lanyard::start("mode = \"offline\"");
    server.stop();
    fs::write(socket(&server), "mine").unwrap();
    server.restart();
    let told = || server.logs().contains("is in the way of the administration's socket");
    crate::wire::eventually("it is told", told);
    assert_eq!(raw::get(server.host().parse().unwrap(), "/readyz", &[]).status, 200);
    server.stop();
    assert_eq!(fs::read_to_string(socket(&server)).unwrap(), "mine", "what is not a socket stays");
}

#[test]
fn a_path_too_long_for_a_socket_is_told_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("data/{}", "x".repeat(108));
    let output = lanyard(folder.path(), &["gc", "--data-dir", &long], &[]);
    assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(69), 1));
    assert!(stderr(&output).contains("too long for a socket"), "{}", stderr(&output));
    let error = ::lanyard::http::AdminSocket::bind(&folder.path().join(&long)).unwrap_err().to_string();
    assert!(error.contains("give data_dir a shorter path"), "{error}");
}
