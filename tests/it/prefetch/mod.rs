//! `lanyard pull` through the real binary: images are brought here by the running lanyard, by the
//! downloads that clients share.

mod endings;
mod lists;
mod orders;
mod pins;
mod platforms;
mod terminal;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    cli::{lanyard, stderr, stdout},
    faults::series,
    hub::{Fault, Gate, Hub, Image, On},
    lanyard::Lanyard,
    pull::{config, leftovers::Opens, mirror, mirror_with},
    push::Pusher,
    wire::{blob, eventually, get, manifest},
};

const REPO: &str = "library/busybox";
const PATIENCE: Duration = Duration::from_secs(60);

/// The words of the command for this server.
fn words(server: &Lanyard, more: &[&str]) -> Vec<String> {
    let data_dir = server.data_dir();
    let words = ["pull", "--data-dir", data_dir.to_str().unwrap()];
    words.iter().chain(more).map(|word| (*word).to_owned()).collect()
}

/// Runs it to its end.
fn pull(server: &Lanyard, more: &[&str]) -> Output {
    let words = words(server, more);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    lanyard(Path::new("/"), &words, &[])
}

/// Begins it.
fn begin(server: &Lanyard, more: &[&str]) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanyard"));
    command.args(words(server, more)).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("it was killed: {}", stderr(output)))
}

/// The events on standard output.
fn events(output: &Output) -> Vec<Value> {
    let text = stdout(output);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The outcomes of the blobs, by the last event of each.
fn outcomes(events: &[Value]) -> Vec<(String, String)> {
    let whole = events.iter().filter(|event| event["event"] == "blob" && event["whole"] == true);
    let mut all: Vec<_> = whole
        .map(|event| (event["digest"].as_str().unwrap().to_owned(), event["outcome"].as_str().unwrap().to_owned()))
        .collect();
    all.sort();
    all
}

fn all_with(blobs: &[&str], outcome: &str) -> Vec<(String, String)> {
    let mut all: Vec<_> = blobs.iter().map(|blob| ((*blob).to_owned(), outcome.to_owned())).collect();
    all.sort();
    all
}

/// Everything of the first platform is served without upstream.
fn is_here(server: &Lanyard, image: &Image) {
    let repo = &image.repo;
    assert_eq!(get(server.port(), &manifest(repo, &image.platforms[0].digest)).outcome(), "hit");
    for digest in image.blobs() {
        assert_eq!(get(server.port(), &blob(repo, digest)).outcome(), "hit", "{digest}");
    }
}

#[test]
fn an_image_is_brought_whole_and_its_second_pull_is_a_look() {
    let hub = Hub::start();
    let image = hub.image(REPO, "1.36").layer(300_000).layer(5).publish();
    let server = mirror(&hub);
    let output = pull(&server, &["busybox:1.36"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).starts_with("1 image whole.\n  3 blobs fetched, 293."), "{}", stdout(&output));
    let line = stderr(&output);
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("docker.io/library/busybox:1.36: whole, "), "{line}");

    hub.go_down();
    is_here(&server, &image);
    hub.come_back();
    let gets = (hub.any_blob_gets(), hub.manifest_gets());
    let again = pull(&server, &["docker.io/library/busybox:1.36", "busybox:1.36", "--json"]);
    assert_eq!(code(&again), 0);
    let events = events(&again);
    assert_eq!(outcomes(&events), all_with(&image.blobs(), "hit"), "each image once, each blob once");
    let states: Vec<_> = events.iter().filter(|event| event["event"] == "image").map(|event| &event["state"]).collect();
    assert_eq!(states, ["resolving", "fetching", "whole"]);
    let whole = events.iter().find(|event| event["state"] == "whole").unwrap();
    assert_eq!((&whole["digest"], &whole["bytes"]), (&image.digest.clone().into(), &whole["of"]));
    assert_eq!(events.last().unwrap(), &serde_json::json!({ "event": "end", "failed": 0 }));
    assert_eq!((hub.any_blob_gets(), hub.manifest_gets()), gets, "nothing was fetched again");
}

#[test]
fn a_download_that_a_client_began_is_joined() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1 << 20).publish();
    let server = mirror(&hub);
    let gate = Gate::shut();
    hub.fault(On::blob(image.layer(0)), Fault::StallAt { bytes: 100_000, gate: gate.clone() });
    let (output, answer) = std::thread::scope(|scope| {
        let gate = Opens(gate);
        let path = blob(REPO, image.layer(0));
        let port = server.port();
        assert_eq!(get(port, &manifest(REPO, "latest")).status, 200);
        let client = scope.spawn(move || get(port, &path));
        assert!(gate.0.wait_for_arrivals(1, PATIENCE));
        let pulled = scope.spawn(|| pull(&server, &["busybox", "--json"]));
        eventually("it has joined", || series(&server, "lanyard_fill_joins_total{upstream=\"docker.io\"}") == 1);
        drop(gate);
        (pulled.join().unwrap(), client.join().unwrap())
    });
    assert_eq!((code(&output), answer.status, answer.body.len()), (0, 200, 1 << 20));
    let events = events(&output);
    let of_layer = events.iter().filter(|event| event["digest"] == image.layer(0) && event["event"] == "blob");
    let outcomes: Vec<_> = of_layer.map(|event| event["outcome"].as_str().unwrap()).collect();
    assert!(outcomes.iter().all(|outcome| *outcome == "joined"), "{outcomes:?}");
    for digest in image.blobs() {
        assert_eq!(hub.blob_gets(digest), 1, "{digest}");
    }
}

#[test]
fn one_that_is_unknown_costs_the_others_nothing() {
    let hub = Hub::start();
    let (one, two) = (hub.image(REPO, "1").layer(10).publish(), hub.image("a/b", "2").layer(20).publish());
    let server = mirror(&hub);
    let output = pull(&server, &["busybox:1", "busybox:none", "other.example/x", "a/b:2"]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(stdout(&output).starts_with("2 images whole, 2 failed.\n"), "{}", stdout(&output));
    let told = stderr(&output);
    assert_eq!(told.lines().count(), 4, "{told}");
    for begin in ["docker.io/library/busybox:none: failed: ", "other.example/x: failed: lanyard does not mirror"] {
        assert!(told.lines().any(|line| line.starts_with(begin)), "{begin}\n{told}");
    }
    hub.go_down();
    is_here(&server, &one);
    is_here(&server, &two);
}

/// Content that was pushed is here already, and no upstream is asked for it.
#[test]
fn a_hosted_image_is_whole() {
    let hub = Hub::start();
    let server = mirror(&hub);
    Pusher(server.port()).image("team/app", "1", b"layer");
    hub.reset_counts();
    let output = pull(&server, &["team/app:1"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "1 image whole.\n  2 blobs here already, 7 bytes\n"));
    assert_eq!(code(&pull(&server, &["team/app:2"])), 1, "this one was not pushed");
    assert_eq!(hub.requests().len(), 0);
}

#[test]
fn no_more_blobs_are_fetched_at_once_than_are_allowed() {
    let hub = Hub::start();
    let names: Vec<_> = (0..5).map(|n| format!("library/image-{n}")).collect();
    for name in &names {
        hub.image(name, "latest").layer(20_000).layer(20_001).publish();
    }
    hub.fault(On::any_blob().always(), Fault::Slow { bytes_per_second: 200_000 });
    let server = mirror(&hub);
    let words: Vec<_> = names.iter().map(String::as_str).chain(["--jobs", "2"]).collect();
    assert_eq!(code(&pull(&server, &words)), 0);
    assert_eq!(hub.most_at_once(|record| record.is_any_blob_get()), 2);
}

/// The last known image is better than none, and its user is told.
#[test]
fn a_tag_that_cannot_be_checked_is_told() {
    let hub = Hub::start();
    hub.image(REPO, "1").layer(10).publish();
    let server = mirror_with(&hub, "[cache]\ntag_ttl = \"0s\"");
    assert_eq!(code(&pull(&server, &["busybox:1"])), 0);
    hub.go_down();
    let output = pull(&server, &["busybox:1"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("could not be asked whether the tag has moved"), "{}", stderr(&output));
}

#[test]
fn offline_is_75_for_what_is_not_here() {
    let hub = Hub::start();
    hub.image(REPO, "1").layer(10).publish();
    hub.image(REPO, "2").layer(10).publish();
    let mut server = mirror(&hub);
    assert_eq!(code(&pull(&server, &["busybox:1"])), 0);
    hub.go_down();
    let output = pull(&server, &["busybox:1", "busybox:2", "--json"]);
    assert_eq!(code(&output), 75, "an upstream that does not answer");
    assert!(events(&output).iter().any(|event| event["cause"] == "unreachable"), "{}", stdout(&output));

    server.reconfigure(&config(&hub, "mode = \"offline\""));
    server.restart();
    assert_eq!(code(&pull(&server, &["busybox:1"])), 0, "it is here");
    let output = pull(&server, &["busybox:1", "busybox:2", "--json"]);
    assert_eq!(code(&output), 75);
    let failed: Vec<_> = events(&output).into_iter().filter(|event| event["state"] == "failed").collect();
    assert!(failed.len() == 1 && failed[0]["cause"] == "offline", "{failed:?}");
    assert!(failed[0]["error"].as_str().unwrap().contains("offline"), "{failed:?}");
}

#[test]
fn no_room_is_75_and_nothing_is_passed_through() {
    let hub = Hub::start();
    let image = hub.image(REPO, "1").layer(4 << 20).publish();
    let server = mirror_with(&hub, "[cache]\nmax_size = \"1 MiB\"\nmin_free = \"0%\"");
    let output = pull(&server, &["busybox:1"]);
    assert_eq!(code(&output), 75, "{}", stderr(&output));
    assert!(stderr(&output).contains("failed: no room for it"), "{}", stderr(&output));
    assert!(hub.blob_bytes_sent(image.layer(0)) < 4 << 20);
}
