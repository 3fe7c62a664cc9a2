//! Orders that are wrong, on the command line and on the socket.

use std::{io::Write as _, os::unix::net::UnixStream};

use serde_json::json;

use super::*;
use crate::raw::{self, Answer};

#[test]
fn wrong_arguments_are_64_and_fetch_nothing() {
    let hub = Hub::start();
    hub.image(REPO, "1").layer(10).publish();
    let server = mirror(&hub);
    for (words, told) in [
        (&[][..], "IMAGE"),
        (&["busybox:1", "Bus Y"], "Bus Y"),
        (&["busybox:1", "busybox:"], "busybox:"),
        (&["busybox:1", "busybox@sha256:12"], "sha256"),
        (&["busybox:1", "--platform", "linux"], "is no platform"),
        (&["busybox:1", "--platform", "all,linux/amd64"], "is no platform"),
        (&["busybox:1", "--jobs", "0"], "--jobs"),
        (&["busybox:1", "--jobs", "65"], "--jobs"),
        (&["busybox:1", "--from", "/nowhere/list"], "/nowhere/list: "),
        (&["busybox:1", "--what"], "--what"),
    ] {
        let output = pull(&server, words);
        assert_eq!(code(&output), 64, "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(told), "{words:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{words:?}");
    }
    assert_eq!(hub.requests().len(), 0);
}

#[test]
fn without_a_running_lanyard_it_is_69() {
    let folder = tempfile::tempdir().unwrap();
    let output = lanyard(folder.path(), &["pull", "busybox", "--data-dir", "data"], &[]);
    assert_eq!((code(&output), stderr(&output).lines().count()), (69, 1), "{}", stderr(&output));
}

fn order(server: &Lanyard, body: &str) -> Answer {
    let mut stream = UnixStream::connect(server.data_dir().join("lanyard.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len().to_string();
    let head = raw::request("POST", "/api/v1/pull", &[("Content-Length", &length)], true);
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
    raw::finish(&mut stream)
}

#[test]
fn the_socket_refuses_what_is_no_order() {
    let server = Lanyard::start("mode = \"offline\"");
    let many = json!({ "images": vec!["x"; 10_001] }).to_string();
    for body in [
        "",
        "[]",
        "{}",
        r#"{"images":[]}"#,
        r#"{"images":"x"}"#,
        r#"{"images":["x"],"dryrun":true}"#,
        r#"{"images":["x"],"jobs":0}"#,
        r#"{"images":["x"],"jobs":65}"#,
        r#"{"images":["x"],"platforms":["x"]}"#,
        r#"{"images":["x","../x"]}"#,
        &many,
    ] {
        let answer = order(&server, body);
        assert_eq!(answer.status, 400, "{}", body.chars().take(60).collect::<String>());
        assert!(answer.json()["errors"][0]["message"].is_string());
    }
    let answer = order(&server, r#"{"images":["x"]}"#);
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"));
    assert_eq!(answer.header("transfer-encoding"), "chunked");
}
