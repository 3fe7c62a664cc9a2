//! The content that a restart finds: interrupted downloads, and tags with their media types.

use std::time::Duration;

use super::mirror;
use crate::{
    hub::{Fault, Gate, Hub, On, digest_of},
    wire::{Connection, blob, eventually, get, manifest},
};

const REPO: &str = "library/busybox";
const SIZE: u64 = 16 << 20;

/// Seen in other caches: "an interrupted download starts again from zero"; "kill -9 in mid-sync
/// hangs every tag".
#[test]
fn f6_a_download_goes_on_after_kill_9() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(SIZE).publish();
    let layer = image.layer(0).to_owned();
    let mut lanyard = mirror(&hub);
    half(&hub, &lanyard, &layer);
    lanyard.kill9();
    lanyard.restart();
    hub.reset_counts();
    let answer = get(lanyard.port(), &blob(REPO, &layer));
    assert_eq!((answer.status, digest_of(&answer.body)), (200, layer.clone()));
    let again = hub.blob_bytes_sent(&layer);
    assert!(again <= SIZE * 55 / 100, "{again} of {SIZE} bytes were downloaded again");
}

/// An orderly stop parks the download.
#[test]
fn f6_a_download_goes_on_after_a_stop() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(SIZE).publish();
    let layer = image.layer(0).to_owned();
    let mut lanyard = mirror(&hub);
    half(&hub, &lanyard, &layer);
    assert!(lanyard.stop().success());
    lanyard.restart();
    hub.reset_counts();
    assert_eq!(digest_of(&get(lanyard.port(), &blob(REPO, &layer)).body), layer);
    assert!(hub.blob_bytes_sent(&layer) <= SIZE * 55 / 100);
}

/// Begins a download that stops at the half, with no client left.
fn half(hub: &Hub, lanyard: &crate::lanyard::Lanyard, layer: &str) {
    let gate = Gate::shut();
    hub.fault(On::blob(layer), Fault::StallAt { bytes: SIZE / 2, gate: gate.clone() });
    let mut client = Connection::open(lanyard.port());
    client.request("GET", &blob(REPO, layer), &[]);
    assert_eq!(client.head().unwrap().0, 200);
    assert_eq!(client.read_body(SIZE as usize / 2).len() as u64, SIZE / 2);
    assert!(gate.wait_for_arrivals(1, Duration::from_secs(60)));
}

#[test]
fn tags_and_media_types_survive_without_the_index() {
    let hub = Hub::start();
    let docker = hub.image(REPO, "docker").layer(10).platforms(&["linux/amd64", "linux/arm64"]).publish();
    let oci = hub.image(REPO, "oci").layer(10).oci().publish();
    let mut lanyard = mirror(&hub);
    for image in [&docker, &oci] {
        assert_eq!(get(lanyard.port(), &manifest(REPO, &image.tag)).status, 200);
        assert_eq!(get(lanyard.port(), &blob(REPO, image.layer(0))).status, 200);
        assert_eq!(get(lanyard.port(), &manifest(REPO, &image.platforms[0].digest)).status, 200);
        for digest in image.blobs() {
            assert_eq!(get(lanyard.port(), &blob(REPO, digest)).status, 200);
        }
    }
    lanyard.stop();
    std::fs::remove_dir_all(lanyard.data_dir().join("index")).unwrap();
    hub.go_down();
    lanyard.restart();
    for image in [&docker, &oci] {
        for reference in [&image.tag, &image.digest] {
            let answer = get(lanyard.port(), &manifest(REPO, reference));
            assert_eq!((answer.status, &answer.body), (200, &image.bytes), "{reference}");
            assert_eq!(answer.header("content-type"), Some(image.media_type.as_str()));
        }
    }
    eventually("the list of tags is complete", || {
        get(lanyard.port(), "/v2/library/busybox/tags/list").json()["tags"] == serde_json::json!(["docker", "oci"])
    });
}
