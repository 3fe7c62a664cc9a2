//! `lanyard rm` through the real binary: an image of an upstream goes, with what only it needed.

use std::{path::Path, process::Output};

use crate::{
    cli::{lanyard, stderr, stdout},
    hub::{Hub, Image},
    lanyard::Lanyard,
    pull::{config, mirror},
    push::Pusher,
    wire::{blob, get, manifest},
};

/// Runs a command on the server's folder.
fn command(server: &Lanyard, words: &[&str]) -> Output {
    let data_dir = server.data_dir();
    let words: Vec<_> = words.iter().copied().chain(["--data-dir", data_dir.to_str().unwrap()]).collect();
    lanyard(Path::new("/"), &words, &[])
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}{}", stdout(output), stderr(output)))
}

fn pull(server: &Lanyard, repo: &str, tag: &str, image: &Image) {
    assert_eq!(get(server.port(), &manifest(repo, tag)).status, 200);
    for digest in image.blobs() {
        assert_eq!(get(server.port(), &blob(repo, digest)).status, 200);
    }
}

#[test]
fn an_image_is_removed_and_comes_again() {
    let hub = Hub::start();
    let image = hub.image("library/busybox", "1").layer(100_000).publish();
    let server = mirror(&hub);
    Pusher(server.port()).image("team/app", "v1", b"pushed");
    pull(&server, "library/busybox", "1", &image);
    let stored = || crate::admin::ask(&server, "GET", "/api/v1/status").json()["kept"]["blobs"].as_u64().unwrap();
    crate::wire::eventually("it is stored", || stored() == 6);

    // A download holds its content for a moment after its client has it.
    let mut planned = serde_json::Value::Null;
    crate::wire::eventually("nothing is in use", || {
        let output = command(&server, &["rm", "busybox:1", "--dry-run", "--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        planned = json(&output);
        planned["in_use"] == 0
    });
    assert_eq!(stored(), 6, "a dry run removes nothing");
    // The server may read a layer for a moment after its client has it.
    let mut let_go = 0;
    crate::wire::eventually("the bytes are let go", || {
        let bytes = json(&command(&server, &["rm", "busybox:1", "--bytes-only", "--json"]));
        assert_eq!((&bytes["tags"], &bytes["links"]), (&0.into(), &0.into()), "{bytes}");
        let_go += bytes["bytes"].as_u64().unwrap();
        stored() == 4
    });
    pull(&server, "library/busybox", "1", &image);
    crate::wire::eventually("it is stored again", || stored() == 6);
    crate::wire::eventually("nothing is in use again", || {
        json(&command(&server, &["rm", "busybox:1", "--dry-run", "--json"])) == planned
    });
    let gets = hub.manifest_gets();
    let removed = command(&server, &["rm", "busybox:1", "--json"]);
    assert!(removed.status.success(), "{}", stderr(&removed));
    let removed = json(&removed);
    assert_eq!(planned, removed);
    assert_eq!((&removed["tags"], &removed["manifests"], &removed["blobs"]), (&1.into(), &1.into(), &3.into()));
    assert_eq!(stored(), 3, "what was pushed stays");
    let metrics = get(server.port(), "/metrics").text();
    let rm = metrics.lines().find_map(|line| line.strip_prefix("lanyard_evicted_bytes_total{why=\"rm\"} "));
    let removed_bytes = |removed: &serde_json::Value| removed["bytes"].as_u64().unwrap();
    assert_eq!(rm.unwrap().parse(), Ok(removed_bytes(&removed) + let_go), "{metrics}");
    let tags = get(server.port(), "/v2/library/busybox/tags/list");
    assert!(tags.status == 200 || tags.status == 404, "{}", tags.status);
    pull(&server, "library/busybox", "1", &image);
    assert_eq!(hub.manifest_gets(), gets + 1, "it is fetched anew");

    let pinned = command(&server, &["pin", "busybox:1"]);
    assert!(pinned.status.success());
    let refused = command(&server, &["rm", "busybox:1", "team/app:v1", "busybox:2", "registry.example/a/b"]);
    assert_eq!((refused.status.code(), stdout(&refused).as_str()), (Some(1), ""));
    let told = stderr(&refused);
    for why in
        ["is pinned: unpin it first", "delete it through the registry", "busybox:2 is not here", "does not mirror"]
    {
        assert!(told.contains(why), "{why}\n{told}");
    }
    assert_eq!(command(&server, &["rm", "busybox:1", "--force", "--bytes-only"]).status.code(), Some(64));
    let forced = command(&server, &["rm", "busybox:1", "--force"]);
    assert!(forced.status.success(), "{}", stderr(&forced));
    assert!(
        stdout(&forced).starts_with("Removed: docker.io/library/busybox:1\n  1 tags, 1 manifests, 3 links"),
        "{}",
        stdout(&forced)
    );
    assert_eq!(command(&server, &["rm", "a b"]).status.code(), Some(64));
}

/// Its bytes would not be free: the room would be given away twice.
#[test]
fn what_a_client_reads_is_in_use_and_goes_later() {
    let hub = Hub::start();
    let image = hub.image("library/busybox", "1").layer(64 << 20).publish();
    let server = mirror(&hub);
    pull(&server, "library/busybox", "1", &image);
    let slow = crate::raw::send(server.host().parse().unwrap(), "GET", &blob("library/busybox", image.layer(0)), &[]);
    let told = |words: &[&str]| json(&command(&server, words));
    crate::wire::eventually("only the layer is in use", || {
        told(&["rm", "busybox:1", "--dry-run", "--json"])["in_use"] == 1
    });
    let removed = told(&["rm", "busybox:1", "--json"]);
    assert_eq!((&removed["in_use"], &removed["tags"]), (&1.into(), &1.into()), "{removed}");
    assert!(removed["bytes"].as_u64().unwrap() < 64 << 20, "{removed}");
    let reserved = || {
        let status = crate::admin::ask(&server, "GET", "/api/v1/status").json();
        status["cache"]["reserved"].as_u64().unwrap()
    };
    assert_eq!(reserved(), 64 << 20, "its bytes are not free yet");
    let mut slow = slow;
    assert_eq!(crate::raw::finish(&mut slow).rest.len(), 64 << 20, "the reader gets all of it");
    crate::wire::eventually("the room is given back", || reserved() == 0);
}

#[test]
fn k8_offline_nothing_is_removed() {
    let hub = Hub::start();
    let image = hub.image("library/busybox", "1").layer(1000).publish();
    let mut server = mirror(&hub);
    pull(&server, "library/busybox", "1", &image);
    server.reconfigure(&config(&hub, "mode = \"offline\""));
    server.restart();
    for words in [&["rm", "busybox:1"][..], &["rm", "busybox:1", "--force"], &["rm", "busybox:1", "--bytes-only"]] {
        let offline = command(&server, words);
        assert_eq!(offline.status.code(), Some(75), "{}", stderr(&offline));
        assert!(stderr(&offline).contains("could not be fetched again"), "{}", stderr(&offline));
    }
    pull(&server, "library/busybox", "1", &image);
    server.stop();
    assert_eq!(command(&server, &["rm", "busybox:1"]).status.code(), Some(69));
}
