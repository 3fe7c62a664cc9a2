//! Mounts: from hosted repositories, from mirrored ones, without a source; and never from one that
//! the client may not pull.

use super::{Pusher, registry};
use crate::{
    hub::{Hub, digest_of},
    pull::mirror,
    wire::{Answer, blob, eventually, get, send},
};

fn mount(port: u16, repo: &str, query: &str) -> Answer {
    send(port, "POST", &format!("/v2/{repo}/blobs/uploads/?{query}"), &[], b"")
}

#[test]
fn a_blob_is_mounted_from_where_it_is_and_uploaded_where_it_is_not() {
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    let digest = client.blob("team/base", b"layer");
    let answer = mount(lanyard.port(), "team/one", &format!("mount={digest}&from=team/base"));
    assert_eq!((answer.status, answer.header("docker-content-digest")), (201, Some(digest.as_str())));
    assert_eq!(answer.header("location"), Some(blob("team/one", &digest).as_str()));
    assert_eq!(get(lanyard.port(), &blob("team/one", &digest)).body, b"layer");
    let answer = mount(lanyard.port(), "team/two", &format!("mount={digest}"));
    assert_eq!((answer.status, client.head(&blob("team/two", &digest))), (201, 200));

    let missing = digest_of(b"never pushed");
    for query in [
        format!("mount={missing}&from=team/base"),
        format!("mount={missing}"),
        format!("mount={digest}&from=team/none"),
        format!("mount={digest}&from=No//name"),
        format!("mount={digest}&from="),
    ] {
        let answer = mount(lanyard.port(), "team/three", &query);
        assert_eq!(answer.status, 202, "{query}");
        assert!(answer.header("location").unwrap().starts_with("/v2/team/three/blobs/uploads/"));
    }
    assert_eq!(client.head(&blob("team/three", &digest)), 404);
    // The blob belongs to the repository now.
    assert_eq!(client.delete(&blob("team/base", &digest)), 202);
    assert_eq!(client.head(&blob("team/one", &digest)), 200);
}

#[test]
fn a_layer_of_a_mirrored_image_is_mounted() {
    let hub = Hub::start();
    let base = hub.image("library/debian", "12").layer(5000).publish();
    let lanyard = mirror(&hub);
    let (port, layer) = (lanyard.port(), base.layer(0).to_owned());
    let from = format!("mount={layer}&from=library/debian");
    assert_eq!(mount(port, "team/app", &from).status, 202, "it is not here yet");
    assert_eq!(get(port, "/v2/library/debian/manifests/12").status, 200);
    assert_eq!(mount(port, "team/app", &from).status, 202, "it is named, and not here yet");
    assert_eq!(get(port, &blob("library/debian", &layer)).status, 200);
    // The mirror holds the blob a moment after the last byte has been sent.
    eventually("it is here whole", || mount(port, "team/zero", &from).status == 201);
    for (repo, query) in [
        ("team/one", from.clone()),
        ("team/two", format!("mount={layer}&from=docker.io/library/debian")),
        ("team/three", format!("mount={layer}")),
    ] {
        assert_eq!(mount(port, repo, &query).status, 201, "{query}");
        assert_eq!(digest_of(&get(port, &blob(repo, &layer)).body), layer);
    }
    assert_eq!(hub.blob_gets(&layer), 1);
}

/// S5: a client that knows a digest has thereby no right to it.
#[test]
fn s5_nothing_is_mounted_from_where_the_client_may_not_pull() {
    let rule = |who, repositories, actions| {
        format!("[[access]]\nwho = [\"{who}\"]\nrepositories = [\"{repositories}\"]\nactions = {actions}\n")
    };
    let mut lanyard = registry("");
    let digest = Pusher(lanyard.port()).blob("secret/base", b"layer");
    lanyard.reconfigure(&format!("mode = \"offline\"\n{}", rule("loopback", "team/**", r#"["pull", "push"]"#)));
    lanyard.restart();
    for query in [format!("mount={digest}&from=secret/base"), format!("mount={digest}")] {
        assert_eq!(mount(lanyard.port(), "team/app", &query).status, 202, "{query}");
    }
    assert_eq!(Pusher(lanyard.port()).head(&blob("team/app", &digest)), 404);
    let list = get(lanyard.port(), "/v2/_catalog").json();
    assert_eq!(list["repositories"], serde_json::json!([]), "what may not be pulled is not listed");
}
