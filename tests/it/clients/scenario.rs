//! The story every client goes through: cold, warm, Docker Hub gone, lanyard killed and started
//! again.
//!
//! The tests assert the requests that the stand-in counted, the digests that the client holds, and
//! that the client never went to Docker Hub. A pull that succeeded proves nothing, as clients hide
//! a mirror's failures.

use std::collections::BTreeSet;

use super::Client;
use super::buildah::Buildah;
use super::containerd::Containerd;
use super::dockerd::Dockerd;
use super::podman::Podman;
use super::pulled::{Expected, strings};
use super::skopeo::Skopeo;
use crate::hub::{Hub, Image};
use crate::lanyard::Lanyard;

/// Which platforms of an image a client pulls.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Platforms {
    /// The platform that it runs on.
    Own,
    /// Every one.
    All,
}

/// One image of every shape that Docker Hub serves.
fn publish_all_shapes(hub: &Hub) -> Vec<Image> {
    let both = ["linux/amd64", "linux/arm64"];
    let image = |repo| hub.image(repo, "latest").real_layer(300_000).real_layer(2_000).real_layer(100_000);
    vec![
        image("library/docker-single").publish(),
        image("library/oci-single").oci().publish(),
        image("library/docker-list").platforms(&both).publish(),
        image("library/oci-index").platforms(&both).oci().publish(),
    ]
}

/// The content that a client must have after it pulled `image`.
pub(super) fn expected(hub: &Hub, image: &Image, platforms: Platforms) -> Expected {
    let own = format!("linux/{}", std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"));
    let wanted = |platform: &str| platforms == Platforms::All || image.platforms.len() == 1 || platform == own;
    let chosen: Vec<_> = image.platforms.iter().filter(|image| wanted(&image.platform)).collect();
    assert!(!chosen.is_empty(), "there is no image for {own}");
    let config = |digest: &str| -> serde_json::Value {
        serde_json::from_slice(&hub.blob(digest).expect("the stand-in has it")).expect("a configuration is JSON")
    };
    Expected {
        tag: image.digest.clone(),
        manifests: chosen.iter().map(|image| image.digest.clone()).collect(),
        configs: chosen.iter().map(|image| image.config.clone()).collect(),
        layers: chosen.iter().flat_map(|image| image.layers.clone()).collect(),
        unpacked: chosen.iter().flat_map(|image| strings(&config(&image.config)["rootfs"]["diff_ids"])).collect(),
    }
}

/// A lanyard in front of `hub` which trusts no tag for any time, so that a warm pull asks upstream,
/// and an offline one gets no answer there.
fn lanyard_before(hub: &Hub) -> Lanyard {
    let url = hub.url();
    Lanyard::start(&format!("[cache]\ntag_ttl = \"0s\"\n[[upstream]]\nname = \"docker.io\"\nurl = \"{url}\"\n"))
}

/// Pulls with one client and compares. `when` stands in the message of a failure.
fn pull(client: &dyn Client, image: &Image, expected: &Expected, when: &str) {
    let name = format!("docker.io/{}", image.name());
    pull_named(client, &name, expected, when);
}

/// The same for an image of any registry, under the client's own name for it.
pub(super) fn pull_named(client: &dyn Client, name: &str, expected: &Expected, when: &str) {
    let pulled = client.pull(name);
    assert_eq!(client.hub_asked(), 0, "{name}, {when}: the client went to the registry itself: {pulled:?}");
    match pulled {
        Ok(pulled) => expected.assert_is(&pulled),
        Err(said) => panic!("{name}, {when}: {said}"),
    }
}

/// Panics unless every manifest and blob was asked for exactly once since the counts were reset,
/// and nothing else was.
fn assert_one_download(hub: &Hub, expected: &Expected, name: &str) {
    let blobs: BTreeSet<_> = expected.configs.union(&expected.layers).collect();
    for digest in &blobs {
        assert_eq!(hub.blob_gets(digest), 1, "GETs of the blob {digest} of {name}: {:#?}", hub.requests());
    }
    assert_eq!(hub.any_blob_gets(), blobs.len(), "blob GETs for {name}: {:#?}", hub.requests());
    let manifests = BTreeSet::from_iter(expected.manifests.iter().chain([&expected.tag])).len();
    assert_eq!(hub.manifest_gets(), manifests, "manifest GETs for {name}: {:#?}", hub.requests());
}

/// Every shape of image through one lanyard, by clients that each start clean.
pub(super) fn whole_story<C: Client>(platforms: Platforms, client: impl Fn(&Lanyard) -> C) {
    let hub = Hub::start();
    let images: Vec<_> = publish_all_shapes(&hub)
        .into_iter()
        .map(|image| {
            let expected = expected(&hub, &image, platforms);
            (image, expected)
        })
        .collect();
    let mut lanyard = lanyard_before(&hub);

    for (image, expected) in &images {
        hub.reset_counts();
        pull(&client(&lanyard), image, expected, "cold");
        assert_one_download(&hub, expected, &image.name());
    }

    hub.reset_counts();
    for (image, expected) in &images {
        pull(&client(&lanyard), image, expected, "warm");
    }
    assert_eq!(hub.any_blob_gets() + hub.manifest_gets(), 0, "a warm pull crossed the internet: {:#?}", hub.requests());

    hub.go_down();
    for (image, expected) in &images {
        pull(&client(&lanyard), image, expected, "without Docker Hub");
    }

    lanyard.kill9();
    lanyard.restart();
    for (image, expected) in &images {
        pull(&client(&lanyard), image, expected, "without Docker Hub, after a kill -9");
    }
    assert!(lanyard.stop().success(), "a lanyard that is asked to end ends well");
}

/// All five clients pull one cold image at the same moment.
pub(super) fn everyone_at_once() {
    let hub = Hub::start();
    let image = hub.image("library/popular", "latest").platforms(&["linux/amd64", "linux/arm64"]);
    let image = image.real_layer(3_000_000).real_layer(500_000).publish();
    let expected = expected(&hub, &image, Platforms::Own);
    let lanyard = lanyard_before(&hub);
    let (url, host) = (lanyard.url(), lanyard.host());
    let (dockerd, containerd) = (Dockerd::start(&url), Containerd::start(&url, false));
    let (podman, buildah, skopeo) = (Podman::new(&host), Buildah::new(&host), Skopeo::new(&host, false));
    let everyone: [&(dyn Client + Sync); 5] = [&dockerd, &containerd, &podman, &buildah, &skopeo];
    std::thread::scope(|scope| {
        for client in everyone {
            scope.spawn(|| pull(client, &image, &expected, "everyone at once"));
        }
    });
    assert_one_download(&hub, &expected, &image.name());
}

/// The driver and the client work on this machine, shown without a lanyard: the mirror is a
/// stand-in that needs no tokens. If this fails, the other tests of the client say nothing about
/// lanyard.
pub(super) fn works_with_the_stand_in<C: Client>(client: impl Fn(&str) -> C) {
    let hub = Hub::builder().open().start();
    let image = hub.image("library/direct", "latest").platforms(&["linux/amd64", "linux/arm64"]);
    let image = image.real_layer(300_000).real_layer(100_000).publish();
    let expected = expected(&hub, &image, Platforms::Own);
    pull(&client(&hub.address().to_string()), &image, &expected, "from the stand-in");
}

/// A client whose mirror is dead goes to Docker Hub, and the watch sees it.
pub(super) fn fallback_is_seen<C: Client>(client: impl Fn(&str) -> C) {
    // Nothing listens on port 1, and the test would fail if something did.
    let client = client("127.0.0.1:1");
    let said = client.pull("docker.io/library/anything:latest").expect_err("there is nothing to pull from");
    assert!(client.hub_asked() > 0, "the client did not try Docker Hub, or the watch missed it: {said}");
}
