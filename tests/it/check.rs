//! `lanyard check`, with the real binary on the folder of a lanyard that has taken a push.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use lanyard::oci::{Algorithm, Hasher, OCI_IMAGE};

use crate::{
    cli::{lanyard as command, stderr, stdout},
    lanyard::Lanyard,
    soak::client::Client,
};

fn digest(bytes: &[u8]) -> String {
    Hasher::digest(Algorithm::Sha256, bytes).to_string()
}

fn manifest() -> String {
    let part = |bytes: &[u8]| serde_json::json!({ "mediaType": "x", "digest": digest(bytes), "size": bytes.len() });
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_IMAGE, "config": part(b"config"), "layers": [part(b"layer")],
    });
    manifest.to_string()
}

/// Pushes `team/app:v1`, and a blob that nothing needs.
fn push(server: &Lanyard) {
    let mut client = Client::new(server.host().parse().unwrap());
    for bytes in [&b"config"[..], b"layer", b"stray"] {
        let path = format!("/v2/team/app/blobs/uploads/?digest={}", digest(bytes));
        let answer = client.call("POST", &path, "application/octet-stream", bytes);
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    let answer = client.call("PUT", "/v2/team/app/manifests/v1", OCI_IMAGE, manifest().as_bytes());
    assert_eq!(answer.status, 201, "{}", answer.text());
}

fn check(server: &Lanyard, words: &[&str]) -> Output {
    let data_dir = server.data_dir();
    let words: Vec<_> = ["check", "--data-dir", data_dir.to_str().unwrap()].iter().chain(words).copied().collect();
    command(Path::new("/"), &words, &[])
}

/// The file below a folder whose name begins with `name`.
fn file(folder: PathBuf, name: &str) -> Option<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).find_map(|path| {
        if path.is_dir() {
            return file(path, name);
        }
        path.file_name().unwrap().to_string_lossy().contains(name).then_some(path)
    })
}

fn hex(bytes: &[u8]) -> String {
    digest(bytes).split_once(':').unwrap().1.to_owned()
}

#[test]
fn a_check_finds_rot_and_a_repair_mends_what_can_be_mended() {
    let mut server = Lanyard::start("mode = \"offline\"");
    push(&server);
    let busy = check(&server, &[]);
    assert_eq!((busy.status.code(), stderr(&busy).lines().count()), (Some(75), 1), "{}", stderr(&busy));
    assert!(stderr(&busy).contains(&format!("is in use by process {}", server.pid().unwrap())), "{}", stderr(&busy));
    server.stop();

    let good = check(&server, &[]);
    assert_eq!((good.status.code(), stderr(&good).as_str()), (Some(0), ""));
    assert!(stdout(&good).starts_with("Read 4 blobs, ") && stdout(&good).ends_with("Everything is in order.\n"));
    let json: serde_json::Value = serde_json::from_slice(&check(&server, &["--json"]).stdout).unwrap();
    assert_eq!((&json["sound"], &json["blobs"], &json["records"]), (&true.into(), &4.into(), &5.into()));

    let blob = file(server.data_dir().join("blobs"), &hex(b"layer")).unwrap();
    fs::write(&blob, "lAyer").unwrap();
    let tag = file(server.data_dir().join("repos"), "v1").unwrap();
    fs::write(tag, "torn").unwrap();
    let found = check(&server, &[]);
    assert_eq!(found.status.code(), Some(1));
    for word in ["Corrupt blobs:", &digest(b"layer"), "Damaged records:", "v1", "Missing", "team/app", "check --repair"]
    {
        assert!(stdout(&found).contains(word), "{word}\n{}", stdout(&found));
    }
    assert!(blob.exists(), "nothing was changed");

    let repaired = check(&server, &["--repair", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&repaired.stdout).unwrap();
    assert_eq!(repaired.status.code(), Some(1), "the layer is missing as much as before: {json}");
    assert_eq!((&json["corrupt"][0]["quarantined"], &json["damaged"][0]["mended"]), (&true.into(), &"removed".into()));
    assert!(!blob.exists());

    // The owner of the image pushes it again.
    server.restart();
    push(&server);
    server.stop();
    let healed = check(&server, &[]);
    assert_eq!(healed.status.code(), Some(0), "{}", stdout(&healed));
}

#[test]
fn a_repair_that_mends_everything_is_0() {
    let mut server = Lanyard::start("mode = \"offline\"");
    push(&server);
    server.stop();
    let link = file(server.data_dir().join("repos"), &hex(b"layer")).unwrap();
    fs::write(&link, "torn").unwrap();
    fs::remove_dir_all(server.data_dir().join("index")).unwrap();
    assert_eq!(check(&server, &[]).status.code(), Some(1));
    let repaired = check(&server, &["--repair"]);
    assert_eq!(repaired.status.code(), Some(0), "{}", stdout(&repaired));
    assert!(stdout(&repaired).ends_with("Everything that was found is mended.\n"), "{}", stdout(&repaired));
    assert_eq!(stdout(&check(&server, &[])).lines().last(), Some("Everything is in order."));
}

#[test]
fn a_folder_without_data_is_64() {
    let folder = tempfile::tempdir().unwrap();
    for data_dir in [".", "none"] {
        let output = command(folder.path(), &["check", "--data-dir", data_dir], &[]);
        assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(64), 1), "{}", stderr(&output));
    }
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "a check makes no folder");
}

/// A pushed blob that nothing needs waits for its grace, and the commands say so.
#[test]
fn gc_says_what_waits() {
    let server = Lanyard::start("mode = \"offline\"");
    push(&server);
    let data_dir = server.data_dir();
    for words in [&["gc"][..], &["gc", "--dry-run"]] {
        let words: Vec<_> = words.iter().copied().chain(["--data-dir", data_dir.to_str().unwrap()]).collect();
        let output = command(Path::new("/"), &words, &[]);
        let text = stdout(&output);
        assert!(
            text.starts_with("Nothing to collect.\n1 more (5 bytes) are not needed either. They wait until "),
            "{text}{}",
            stderr(&output)
        );
    }
}
