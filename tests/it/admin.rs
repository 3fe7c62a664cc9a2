//! The administration: the Unix socket in the data folder, and the commands that speak over it.

use std::{
    fs,
    io::Write,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cli::{lanyard, stderr, stdout},
    lanyard::Lanyard,
    raw::{self, Answer},
};

fn socket(server: &Lanyard) -> PathBuf {
    server.data_dir().join("lanyard.sock")
}

/// One request over the socket.
fn ask(server: &Lanyard, method: &str, path: &str) -> Answer {
    let mut stream = UnixStream::connect(socket(server)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(raw::request(method, path, &[], true).as_bytes()).unwrap();
    raw::finish(&mut stream)
}

/// A command on the server's folder.
fn command(server: &Lanyard, words: &[&str]) -> std::process::Output {
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
    let nothing = serde_json::json!({ "links": 0, "blobs": 0, "bytes": 0, "uploads": 0, "waiting": 0, "skipped": 0 });
    for path in ["/api/v1/gc", "/api/v1/gc?dry_run=true", "/api/v1/gc?dry_run=false"] {
        assert_eq!(ask(&server, "POST", path).json(), nothing, "{path}");
    }
    for (method, path, status, allow) in [
        ("GET", "/api/v1/gc", 405, "POST"),
        ("DELETE", "/api/v1/gc", 405, "POST"),
        ("POST", "/api/v1/status", 405, "GET, HEAD"),
        ("PUT", "/api/v1/repositories", 405, "GET, HEAD"),
        // A slip must not turn a dry run into a wet one.
        ("POST", "/api/v1/gc?dryrun=true", 400, ""),
        ("POST", "/api/v1/gc?dry_run", 400, ""),
        ("POST", "/api/v1/gc?dry_run=1", 400, ""),
        ("POST", "/api/v1/gc?dry_run=false&dry_run=true", 400, ""),
        ("GET", "/api/v1/status?x=y", 400, ""),
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

/// A socket that is no lanyard, or one that dies within its answer, is told in one line.
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
    assert!(server.logs().contains("is in the way of the administration's socket"), "{}", server.logs());
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
