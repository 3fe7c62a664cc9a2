//! Pins over the socket and by the command line: what is pinned, told, and refused.

use std::{fs, path::Path, process::Output};

use crate::{
    cli::{lanyard, stderr, stdout},
    lanyard::Lanyard,
    push::Pusher,
};

/// Runs a command on the server's folder.
fn command(server: &Lanyard, words: &[&str]) -> Output {
    let data_dir = server.data_dir();
    let words: Vec<_> = words.iter().copied().chain(["--data-dir", data_dir.to_str().unwrap()]).collect();
    lanyard(Path::new("/"), &words, &[("USER", "ann")])
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}{}", stdout(output), stderr(output)))
}

/// `GET /api/v1/pins`
fn pins(server: &Lanyard) -> serde_json::Value {
    crate::admin::ask(server, "GET", "/api/v1/pins").json()
}

#[test]
fn images_are_pinned_by_the_names_that_clients_use() {
    let mut server = Lanyard::start("mode = \"offline\"\n[cache]\nkeep = [\"registry.k8s.io/pause:*\"]");
    let empty = serde_json::json!({ "pins": [], "keep": ["registry.k8s.io/pause:*"], "unreadable": [] });
    assert_eq!(pins(&server), empty);
    let exact = format!("sha256:{}", "a".repeat(64));
    let both = format!("ghcr.io/a/b:1@{exact}");
    let output =
        command(&server, &["pin", "nginx", &both, "--platform", "linux/amd64,linux/arm/v7", "--note", "a & b"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let told = stdout(&output);
    assert_eq!(told.lines().next(), Some("Pinned docker.io/library/nginx:latest for linux/amd64, linux/arm/v7."));
    assert_eq!(told.lines().count(), 3, "a tag and a digest are two pins: {told}");
    let listed = pins(&server);
    let images: Vec<_> = listed["pins"].as_array().unwrap().iter().map(|pin| pin["image"].as_str().unwrap()).collect();
    assert_eq!(images, ["docker.io/library/nginx:latest", "ghcr.io/a/b:1", &*format!("ghcr.io/a/b@{exact}")]);
    let first = &listed["pins"][0];
    assert_eq!((&first["note"], &first["by"], &first["why"]), (&"a & b".into(), &"ann".into(), &"pinned".into()));
    let told = stdout(&command(&server, &["pins"]));
    let lines: Vec<_> = told.lines().collect();
    let first = "docker.io/library/nginx:latest for linux/amd64, linux/arm/v7, pinned by ann ";
    assert!(lines[0].starts_with(first) && lines[0].ends_with(": a & b"), "{told}");
    assert_eq!((lines.len(), lines[3]), (4, "registry.k8s.io/pause:*, by cache.keep"), "{told}");
    assert_eq!(json(&command(&server, &["pins", "--json"])), listed);
    server.restart();
    assert_eq!(pins(&server), listed, "pins outlive the process");

    let output = command(&server, &["unpin", &both, "ghcr.io/a/b:1", "nginx", "--json"]);
    assert_eq!(output.status.code(), Some(1), "one of them was not pinned any more");
    assert_eq!(stderr(&output), "lanyard: ghcr.io/a/b:1 is not pinned\n");
    let told = json(&output);
    assert_eq!(told[0]["images"], serde_json::json!(["ghcr.io/a/b:1", format!("ghcr.io/a/b@{exact}")]));
    assert_eq!(
        (&told[1]["image"], &told[1]["error"]),
        (&"ghcr.io/a/b:1".into(), &"ghcr.io/a/b:1 is not pinned".into())
    );
    assert_eq!(pins(&server), empty);

    let output = command(&server, &["pin", "nginx", "--platform", "all"]);
    assert_eq!(stdout(&output), "Pinned docker.io/library/nginx:latest.\n", "{}", stderr(&output));
    assert_eq!(pins(&server)["pins"][0]["platforms"], serde_json::json!([]));
}

#[test]
fn what_cannot_be_pinned_is_told_and_the_rest_is_pinned() {
    let mut server = Lanyard::start("mode = \"offline\"");
    Pusher(server.port()).image("team/app", "v1", b"layer");
    let output = command(&server, &["pin", "registry.example/a/b", "team/app:v1"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stdout(&output),
        "Pinned team/app:v1. It was pushed here, and pushed content is never evicted anyway.\n"
    );
    assert!(stderr(&output).contains("registry.example"), "{}", stderr(&output));
    for wrong in ["nginx?x", "a b", "", "nginx#", "%2e"] {
        assert_eq!(command(&server, &["pin", wrong]).status.code(), Some(64), "{wrong:?}");
    }
    assert_eq!(command(&server, &["pin"]).status.code(), Some(64));
    for wrong in ["amd64", "all,linux/amd64"] {
        let output = command(&server, &["pin", "nginx", "--platform", wrong]);
        assert_eq!(output.status.code(), Some(64), "{wrong:?}");
        assert!(stderr(&output).starts_with("lanyard: --platform: "), "{}", stderr(&output));
    }
    assert_eq!(command(&server, &["pin", "nginx", "--note", &"x".repeat(1001)]).status.code(), Some(1));
    assert_eq!(pins(&server)["pins"].as_array().unwrap().len(), 1);

    // A pin that cannot be read is told, with the repository that it keeps.
    let file = server.data_dir().join("pins/_hosted/team+app/v1");
    fs::write(&file, b"torn").unwrap();
    assert_eq!(
        (&pins(&server)["pins"], &pins(&server)["unreadable"]),
        (&serde_json::json!([]), &serde_json::json!(["team/app"]))
    );
    crate::wire::eventually("it is told", || server.logs().contains("a pin cannot be read"));
    let told = stdout(&command(&server, &["pins"]));
    assert_eq!(told, "team/app: a pin cannot be read, and nothing of it is evicted\n");
    assert!(command(&server, &["unpin", "team/app:v1"]).status.success());
    assert_eq!(stdout(&command(&server, &["pins"])), "No image is pinned.\n");
    assert_eq!(pins(&server)["unreadable"], serde_json::json!([]));

    server.stop();
    for words in [&["pin", "nginx"][..], &["unpin", "nginx"], &["pins"]] {
        assert_eq!(command(&server, words).status.code(), Some(69), "{words:?}");
    }
}
