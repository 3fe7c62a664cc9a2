//! The first scene: an image that was pulled through the mirror is pushed under the same name.
//!
//! Docker asks by HEAD whether the registry has each layer. The answers come from the mirrored
//! repository, as no hosted one exists yet, so Docker then sends only the manifest.

use super::Pusher;
use crate::{
    hub::{Fault, Hub, Image, On, digest_of},
    lanyard::Lanyard,
    pull::mirror,
    wire::{Answer, ask, blob, get, head, manifest},
};

const REPO: &str = "prefapp/debian-formacion";

/// Docker's requests: HEAD for each part, and the manifest.
fn push(lanyard: &Lanyard, image: &Image) -> Answer {
    for digest in image.platforms.iter().flat_map(|one| [&one.config].into_iter().chain(&one.layers)) {
        assert_eq!(head(lanyard.port(), &blob(REPO, digest)).status, 200);
    }
    let client = Pusher(lanyard.port());
    client.manifest(REPO, "latest", &image.media_type, &image.bytes)
}

/// The push. Returns the answer if it failed.
fn pushed(lanyard: &Lanyard, image: &Image) {
    let answer = push(lanyard, image);
    assert_eq!(answer.status, 201, "{}", answer.text());
}

/// Everything is served, and no upstream is asked for it.
fn is_hosted(lanyard: &Lanyard, hub: &Hub, image: &Image) {
    hub.go_down();
    hub.reset_counts();
    let answer = get(lanyard.port(), &manifest(REPO, "latest"));
    assert_eq!((answer.status, &answer.body), (200, &image.bytes));
    assert_eq!(answer.header("content-type"), Some(image.media_type.as_str()));
    for one in &image.platforms {
        let answer = get(lanyard.port(), &manifest(REPO, &one.digest));
        assert_eq!((answer.status, digest_of(&answer.body)), (200, one.digest.clone()));
        for digest in [&one.config].into_iter().chain(&one.layers) {
            assert_eq!(&digest_of(&get(lanyard.port(), &blob(REPO, digest)).body), digest);
        }
    }
    assert_eq!(hub.requests().len(), 0, "{:?}", hub.requests());
    assert_eq!(get(lanyard.port(), "/v2/_catalog").json()["repositories"], serde_json::json!([REPO]));
}

#[test]
fn an_image_pulled_through_the_mirror_is_pushed_under_its_own_name() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(100_000).layer(7).publish();
    let mut lanyard = mirror(&hub);
    assert_eq!(get(lanyard.port(), &manifest(REPO, "latest")).status, 200);
    for digest in image.blobs() {
        assert_eq!(get(lanyard.port(), &blob(REPO, digest)).status, 200);
    }
    pushed(&lanyard, &image);
    lanyard.kill9();
    lanyard.restart();
    is_hosted(&lanyard, &hub, &image);
}

/// The image came from Docker Hub directly: lanyard has none of it, and answered each HEAD with 200
/// because it can be fetched.
#[test]
fn what_is_not_here_yet_is_fetched_before_the_push_is_acknowledged() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(3_000_000).layer(7).publish();
    let lanyard = mirror(&hub);
    pushed(&lanyard, &image);
    assert_eq!(hub.blob_gets(image.layer(0)), 1);
    is_hosted(&lanyard, &hub, &image);
}

#[test]
fn an_index_brings_its_images_and_their_layers() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1000).platforms(&["linux/amd64", "linux/arm64"]).oci().publish();
    let lanyard = mirror(&hub);
    assert_eq!(get(lanyard.port(), &manifest(REPO, "latest")).status, 200);
    pushed(&lanyard, &image);
    is_hosted(&lanyard, &hub, &image);
}

/// When a part can no longer be fetched, the push fails, and nothing of it is kept.
#[test]
fn a_push_whose_parts_cannot_be_fetched_is_no_push() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(3_000_000).publish();
    let lanyard = mirror(&hub);
    hub.fault(On::blob(image.layer(0)).always(), Fault::status(404));
    for digest in [image.config(), image.layer(0)] {
        let _ = ask(lanyard.port(), "HEAD", &blob(REPO, digest), &[]);
    }
    let answer = Pusher(lanyard.port()).manifest(REPO, "latest", &image.media_type, &image.bytes);
    assert!(answer.status >= 400, "{}", answer.status);
    assert_eq!(get(lanyard.port(), "/v2/_catalog").json()["repositories"], serde_json::json!([]));
}

/// In a network without the internet, and with a black hole in its place: a client's questions
/// before a push are answered soon, and with "no", so that the client sends the content.
#[test]
fn a_push_needs_no_internet() {
    let hub = Hub::start();
    let lanyard = mirror(&hub);
    let client = Pusher(lanyard.port());
    hub.go_deaf(true);
    let began = std::time::Instant::now();
    assert_eq!(client.head(&blob("team/deaf", &digest_of(b"layer"))), 404);
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    client.image("team/deaf", "v1", b"layer");
    hub.go_deaf(false);
    hub.go_down();
    assert_eq!(client.head(&blob("team/down", &digest_of(b"layer"))), 404);
    // oras and helm ask for the digest of content that they have. A client that pulls gets the true
    // error.
    let path = manifest("team/down", &digest_of(b"manifest"));
    let every = [("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json")];
    assert_eq!(ask(lanyard.port(), "HEAD", &path, &every).status, 404);
    assert!((502..=504).contains(&ask(lanyard.port(), "GET", &path, &every).status));
    client.image("team/down", "v1", b"layer");
    // A client that names the registry gets the true error.
    let theirs = format!("/v2/docker.io/team/down/blobs/{}", digest_of(b"layer"));
    assert!((502..=504).contains(&client.head(&theirs)));
}
