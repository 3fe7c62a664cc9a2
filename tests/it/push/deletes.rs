//! Deletion: at once, in its own repository only, and for good.

use super::{Pusher, registry};
use crate::{
    hub::{Hub, digest_of},
    pull::mirror,
    wire::{ask, blob, get, manifest},
};

const REPO: &str = "team/app";

#[test]
fn what_is_deleted_is_gone_at_once_and_nobody_elses() {
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    let digest = client.image(REPO, "v1", b"layer");
    assert_eq!(client.image(REPO, "v2", b"layer"), digest);
    assert_eq!(client.image("team/other", "v1", b"layer"), digest);
    let layer = digest_of(b"layer");
    // Content that was just served from memory is not served again.
    for reference in ["v1", "v2", &digest] {
        assert_eq!(get(lanyard.port(), &manifest(REPO, reference)).status, 200);
    }
    assert_eq!((client.delete(&manifest(REPO, "v1")), client.head(&manifest(REPO, "v1"))), (202, 404));
    assert_eq!((client.head(&manifest(REPO, "v2")), client.head(&manifest(REPO, &digest))), (200, 200));
    assert_eq!(client.delete(&manifest(REPO, &digest)), 202);
    for path in [manifest(REPO, "v2"), manifest(REPO, &digest)] {
        assert_eq!((client.head(&path), get(lanyard.port(), &path).status), (404, 404), "{path}");
    }
    assert_eq!((client.delete(&blob(REPO, &layer)), client.head(&blob(REPO, &layer))), (202, 404));
    for (path, code) in [
        (manifest(REPO, "v1"), "MANIFEST_UNKNOWN"),
        (manifest(REPO, &digest), "MANIFEST_UNKNOWN"),
        (blob(REPO, &layer), "BLOB_UNKNOWN"),
        (manifest("never/heard-of", "v1"), "MANIFEST_UNKNOWN"),
        (manifest("team/other", &layer), "MANIFEST_UNKNOWN"),
    ] {
        let answer = ask(lanyard.port(), "DELETE", &path, &[]);
        assert_eq!((answer.status, answer.error_code().as_str()), (404, code), "{path}");
    }
    for path in [manifest("team/other", "v1"), manifest("team/other", &digest), blob("team/other", &layer)] {
        assert_eq!(client.head(&path), 200, "{path}");
    }
}

#[test]
fn what_is_deleted_does_not_come_back() {
    let mut lanyard = registry("");
    let client = Pusher(lanyard.port());
    let digest = client.image(REPO, "v1", b"layer");
    client.image(REPO, "v2", b"another");
    assert_eq!(client.delete(&manifest(REPO, &digest)), 202);
    assert_eq!(client.delete(&blob(REPO, &digest_of(b"layer"))), 202);
    lanyard.kill9();
    std::fs::remove_dir_all(lanyard.data_dir().join("index")).unwrap();
    lanyard.restart();
    for path in [manifest(REPO, "v1"), manifest(REPO, &digest), blob(REPO, &digest_of(b"layer"))] {
        assert_eq!(client.head(&path), 404, "{path}");
    }
    assert_eq!(get(lanyard.port(), &format!("/v2/{REPO}/tags/list")).json()["tags"], serde_json::json!(["v2"]));
}

/// S16: a name that was hosted does not become the upstream's when its last image is deleted.
#[test]
fn s16_an_emptied_repository_stays_the_teams() {
    let hub = Hub::start();
    hub.image(REPO, "v1").layer(10).publish();
    let mut lanyard = mirror(&hub);
    let client = Pusher(lanyard.port());
    let digest = client.image(REPO, "v1", b"layer");
    for path in [manifest(REPO, &digest), blob(REPO, &digest_of(b"layer")), blob(REPO, &digest_of(b"{}"))] {
        assert_eq!(client.delete(&path), 202);
    }
    for _ in 0..2 {
        assert_eq!(get(lanyard.port(), &manifest(REPO, "v1")).status, 404);
        let list = get(lanyard.port(), &format!("/v2/{REPO}/tags/list"));
        assert_eq!((list.status, list.json()["tags"].clone()), (200, serde_json::json!([])));
        lanyard.restart();
    }
    assert_eq!(hub.requests().len(), 0, "{:?}", hub.requests());
}
