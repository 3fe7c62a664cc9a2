//! What is kept, in `lanyard ls`: a pinned part of an image has a row, and what stays is no part of
//! the order of eviction.

use std::fs;

use serde_json::Value;

use super::{AMD64, ARM64, admin, file, ls, names, one, pull, stderr, text};
use crate::{
    hub::Hub,
    pull::mirror,
    wire::{eventually, get, manifest},
};

/// Both platforms of an image are here, and one is pinned by its digest.
#[test]
fn a_pinned_child_of_an_index_has_a_row_of_its_own() {
    const INDEX: &str = "docker.io/library/multi:1";
    let hub = Hub::start();
    let multi = hub.image("library/multi", "1").layer(30_000).platforms(&[AMD64, ARM64]).publish();
    let server = mirror(&hub);
    assert_eq!(get(server.port(), &manifest("library/multi", "1")).status, 200);
    for child in &multi.platforms {
        pull(&server, "library/multi", &child.digest, &[&child.config, &child.layers[0]]);
    }
    assert_eq!(names(&ls(&server, &[])), [INDEX]);

    let arm = &multi.platforms[1].digest;
    let (short, child) = (format!("multi@{arm}"), format!("docker.io/library/multi@{arm}"));
    let pinned = admin::command(&server, &["pin", short.as_str()]);
    assert!(pinned.status.success(), "{}", stderr(&pinned));
    let all = ls(&server, &[]);
    assert_eq!(names(&all), [INDEX, child.as_str()]);
    assert_eq!((&one(&all, INDEX)["why"], &one(&all, INDEX)["of"]), (&"tagged".into(), &"whole".into()));
    let row = one(&all, &child);
    assert_eq!((&row["why"], &row["of"], &row["digest"]), (&"pinned".into(), &"whole".into(), &arm.as_str().into()));
    assert_eq!(row["platforms"], serde_json::json!([ARM64]), "{row}");
    assert_eq!(names(&ls(&server, &["--why", "pinned"])), [child.as_str()]);
    assert_eq!(names(&ls(&server, &[short.as_str()])), [child.as_str()]);
    // Its bytes are those of the index.
    assert!(text(&server, &[]).lines().last().unwrap().starts_with("2 images, "), "{}", text(&server, &[]));

    assert!(admin::command(&server, &["unpin", short.as_str()]).status.success());
    assert_eq!(names(&ls(&server, &[])), [INDEX]);
}

/// Neither pinned content nor manifests go before it.
#[test]
fn a_place_in_the_order_of_eviction_counts_what_would_go() {
    let hub = Hub::start();
    let pinned = hub.image("library/pinned", "1").layer(300_000).publish();
    let first = hub.image("library/first", "1").layer(40_000).publish();
    let second = hub.image("library/second", "1").layer(50_000).publish();
    let server = mirror(&hub);
    for image in [&pinned, &first, &second] {
        pull(&server, &image.repo, "1", &image.blobs());
    }
    let place = |digest: &str| -> Value {
        let output = admin::command(&server, &["ls", "--json", "--digest", digest]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["place"].clone()
    };
    // Each has a config and a layer. A download holds its content until it is wholly over.
    eventually("all content but the manifests may go", || place(second.layer(0))["of"] == 6);
    assert!(place(second.layer(0))["bytes_before"].as_u64() >= Some(340_000));

    assert!(admin::command(&server, &["pin", "pinned:1"]).status.success());
    let told = place(second.layer(0));
    assert_eq!(told["of"], 4, "{told}");
    let size = |digest: &str| fs::metadata(file(&server, digest)).unwrap().len();
    let before = 40_000 + size(first.config());
    // lanyard fetches configs ahead, so that the config of an image goes before its layer or after.
    let (bytes, place_of) = (told["bytes_before"].as_u64().unwrap(), told["place"].as_u64().unwrap());
    let expected = [(before, 3), (before + size(second.config()), 4)];
    assert!(expected.contains(&(bytes, place_of)), "{told} {expected:?}");
    for stays in [pinned.layer(0), pinned.config(), first.digest.as_str()] {
        assert_eq!(place(stays), Value::Null, "{stays}");
    }
}
