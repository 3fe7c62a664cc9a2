//! Which names can be pushed to.

use super::{OCI_IMAGE, Pusher, image, registry};
use crate::{
    hub::{Hub, digest_of},
    pull::mirror,
    wire::{ask, blob, get, manifest, send},
};

/// Reserved and upstream names refuse every change, with a sentence that says what to do.
#[test]
fn names_that_are_not_the_teams_are_refused() {
    let lanyard = registry("[hosted]\nreserved = [\"library/**\", \"golden/*\"]\n");
    let id = "0b1fe0c8-7d4e-4b3a-9a52-6c1d8f0e2b47";
    for (name, query, word) in [
        ("library/busybox", "", "another name"),
        ("golden/base", "", "another name"),
        ("docker.io/team/app", "", "docker.io"),
        ("ghcr.io/team/app", "", "ghcr.io"),
        ("team/app", "&ns=docker.io", "docker.io"),
    ] {
        for (method, path) in [
            ("POST", format!("/v2/{name}/blobs/uploads/?x=1{query}")),
            ("PUT", format!("/v2/{name}/manifests/v1?x=1{query}")),
            ("PATCH", format!("/v2/{name}/blobs/uploads/{id}?x=1{query}")),
            ("PUT", format!("/v2/{name}/blobs/uploads/{id}?digest={}{query}", digest_of(b""))),
        ] {
            let answer = send(lanyard.port(), method, &path, &[("Content-Type", OCI_IMAGE)], b"{}");
            assert_eq!((answer.status, answer.error_code()), (403, "DENIED".to_owned()), "{method} {path}");
            assert!(answer.text().contains(word), "{}", answer.text());
        }
    }
    // Deleting mirrored content does not delete hosted content.
    let answer = ask(lanyard.port(), "DELETE", "/v2/docker.io/team/app/manifests/v1", &[]);
    assert_eq!((answer.status, answer.error_code()), (403, "DENIED".to_owned()));
    let answer = send(lanyard.port(), "POST", "/v2/team/app/blobs/uploads/?ns=evil.example.com", &[], b"");
    assert_eq!(answer.status, 404);
}

/// S16: a hosted name is never looked up upstream, and the prefix still means the upstream.
#[test]
fn s16_hosted_and_mirrored_content_of_one_name_never_mix() {
    let hub = Hub::start();
    let theirs = hub.image("team/app", "v1").layer(10).publish();
    let newer = hub.image("team/app", "v2").layer(20).publish();
    let lanyard = mirror(&hub);
    assert_eq!(get(lanyard.port(), &manifest("team/app", "v1")).body, theirs.bytes);
    let client = Pusher(lanyard.port());
    let ours = client.image("team/app", "v1", b"ours");
    assert_eq!(get(lanyard.port(), &manifest("team/app", "v1")).header("docker-content-digest"), Some(ours.as_str()));
    assert_eq!(client.head(&manifest("team/app", "v2")), 404, "never looked up");
    for path in ["/v2/docker.io/team/app/manifests/v1", "/v2/team/app/manifests/v1?ns=docker.io"] {
        assert_eq!(get(lanyard.port(), path).body, theirs.bytes, "{path}");
    }
    assert_eq!(get(lanyard.port(), "/v2/docker.io/team/app/manifests/v2").body, newer.bytes);
    let list = |path: &str| get(lanyard.port(), path).json()["tags"].clone();
    assert_eq!(list("/v2/team/app/tags/list"), serde_json::json!(["v1"]));
    assert_eq!(list("/v2/docker.io/team/app/tags/list"), serde_json::json!(["v1", "v2"]));
}

/// A name without a slash is hosted once it is pushed; the official image keeps its long name.
#[test]
fn short_names_are_the_teams() {
    let hub = Hub::start();
    let official = hub.image("library/app", "latest").layer(10).publish();
    let lanyard = mirror(&hub);
    assert_eq!(get(lanyard.port(), &manifest("app", "latest")).body, official.bytes);
    let client = Pusher(lanyard.port());
    let bytes = image(&client.blob("app", b"{}"), &[]).to_string();
    assert_eq!(client.manifest("app", "latest", OCI_IMAGE, bytes.as_bytes()).status, 201);
    assert_eq!(get(lanyard.port(), &manifest("app", "latest")).text(), bytes);
    assert_eq!(get(lanyard.port(), &manifest("library/app", "latest")).body, official.bytes);
}

/// A push that breaks off after its first layer, or is refused, does not take the name: the
/// mirrored image is served until there is a hosted one. The blobs of the push belong to the hosted
/// repository meanwhile, and can be mounted.
#[test]
fn a_push_that_breaks_off_does_not_take_the_name() {
    let hub = Hub::start();
    let theirs = hub.image("grafana/grafana", "latest").layer(10).publish();
    let mut lanyard = mirror(&hub);
    let client = Pusher(lanyard.port());
    let layer = client.blob("grafana/grafana", b"a layer of ours");
    for _ in 0..2 {
        assert_eq!(get(lanyard.port(), &manifest("grafana/grafana", "latest")).body, theirs.bytes);
        assert_eq!(get(lanyard.port(), &blob("grafana/grafana", &layer)).body, b"a layer of ours");
        assert_eq!(digest_of(&get(lanyard.port(), &blob("grafana/grafana", theirs.layer(0))).body), theirs.layer(0));
        let mount = format!("/v2/team/app/blobs/uploads/?mount={layer}&from=grafana/grafana");
        assert_eq!(send(lanyard.port(), "POST", &mount, &[], b"").status, 201);
        lanyard.kill9();
        lanyard.restart();
    }
    client.image("grafana/grafana", "latest", b"ours");
    assert_ne!(get(lanyard.port(), &manifest("grafana/grafana", "latest")).body, theirs.bytes);
}
