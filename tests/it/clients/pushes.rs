//! Which client pushes which image: pull through the mirror, push to the same address, remove, and
//! pull back with Docker Hub gone; compared by digest. The first test is the commands of a user,
//! word for word.

use super::buildah::Buildah;
use super::containerd::Containerd;
use super::dockerd::Dockerd;
use super::podman::Podman;
use super::skopeo::Skopeo;
use super::{Client as _, Pushes, available, buildah, containerd, dockerd, podman, skopeo};
use crate::hub::{Hub, Image, digest_of};
use crate::lanyard::Lanyard;
use crate::wire::{get, manifest};

/// A lanyard in front of a Docker Hub which has `repo:latest` for one platform.
fn stage(repo: &str, oci: bool) -> (Hub, Image, Lanyard) {
    let hub = Hub::start();
    let image = hub.image(repo, "latest").real_layer(300_000).real_layer(2_000).real_layer(100_000);
    let image = if oci { image.oci() } else { image }.publish();
    let lanyard = Lanyard::start(&format!("[[upstream]]\nname = \"docker.io\"\nurl = \"{}\"\n", hub.url()));
    (hub, image, lanyard)
}

/// `docker tag`, `docker push`, `docker rmi`, `docker pull`, with an image that came through the
/// mirror.
#[test]
fn docker_pushes_what_it_pulled_through_the_mirror_under_the_same_name() {
    if !available(dockerd::PROGRAMS) {
        return;
    }
    const NAME: &str = "prefapp/debian-formacion";
    let (hub, image, mut lanyard) = stage(NAME, false);
    let docker = Dockerd::start(&lanyard.url());
    let theirs = format!("localhost:{}/{NAME}", lanyard.port());
    let first = docker.docker(&["pull", "--quiet", NAME]).and_then(|_| id(&docker, NAME)).unwrap();
    docker.docker(&["tag", NAME, &theirs]).unwrap();
    docker.docker(&["push", &theirs]).unwrap();
    docker.docker(&["rmi", &theirs]).unwrap();
    docker.docker(&["rmi", NAME]).unwrap();
    hub.go_down();
    hub.reset_counts();
    lanyard.kill9();
    lanyard.restart();
    docker.docker(&["pull", &theirs]).unwrap();
    assert_eq!(id(&docker, &theirs).unwrap(), first);
    assert_eq!(hub.requests().len(), 0, "a hosted name was looked up: {:?}", hub.requests());
    assert_eq!(first, image.config());
    assert_eq!(get(lanyard.port(), "/v2/_catalog").json()["repositories"], serde_json::json!([NAME]));
}

fn id(docker: &Dockerd, name: &str) -> Result<String, String> {
    docker.docker(&["image", "inspect", "--format", "{{.Id}}", name]).map(|said| said.trim().to_owned())
}

/// containerd asks for the manifest before it sends it, and sends nothing if the answer is yes:
/// that answer must not come from the mirror.
#[test]
fn containerd_pushes_what_came_through_the_mirror_under_the_same_name() {
    if !available(containerd::PROGRAMS) {
        return;
    }
    let (hub, image, lanyard) = stage("library/app", true);
    let client = Containerd::start(&lanyard.url(), false);
    client.pull("docker.io/library/app:latest").unwrap();
    // The short name means the same mirrored repository until an image is pushed under it.
    let name = format!("127.0.0.1:{}/app:latest", lanyard.port());
    client.push("docker.io/library/app:latest", &name).unwrap_or_else(|said| panic!("{said}\n{}", lanyard.logs()));
    assert_eq!(get(lanyard.port(), "/v2/_catalog").json()["repositories"], serde_json::json!(["app"]));
    hub.go_down();
    let pulled = client.pull_back(&name).unwrap_or_else(|said| panic!("{said}\n{}", lanyard.logs()));
    assert_eq!(pulled.tag.as_deref(), Some(image.digest.as_str()));
}

/// Pulls `library/app` through the mirror, pushes it as a team's, and pulls it back from lanyard
/// alone.
fn there_and_back<C: Pushes>(oci: bool, own_name: impl Fn(&Lanyard) -> String, client: impl Fn(&Lanyard) -> C) {
    let (hub, image, mut lanyard) = stage("library/app", oci);
    let client = client(&lanyard);
    let before = client.pull("docker.io/library/app:latest").unwrap();
    let name = format!("127.0.0.1:{}/team/app:v1", lanyard.port());
    // Pushing needs no internet. skopeo has no store: it reads the image from the mirror while it
    // pushes, and the mirror needs no internet either.
    hub.go_down();
    client.push(&own_name(&lanyard), &name).unwrap_or_else(|said| panic!("{said}\n{}", lanyard.logs()));
    lanyard.kill9();
    lanyard.restart();
    let after = client.pull_back(&name).unwrap_or_else(|said| panic!("{said}\n{}", lanyard.logs()));
    assert_eq!(after.unpacked, before.unpacked, "the unpacked layers");
    let held = after.held.as_ref().unwrap();
    assert!(held.contains(image.config()), "the configuration is another: {after:?}");
    // The client's own digest of the tag, and lanyard's.
    let stored = get(lanyard.port(), &manifest("team/app", "v1"));
    assert_eq!(stored.status, 200);
    if let Some(tag) = &after.tag {
        assert_eq!(*tag, digest_of(&stored.body));
    }
    assert_eq!(client.hub_asked(), 0);
}

#[test]
fn docker_pushes() {
    if available(dockerd::PROGRAMS) {
        there_and_back(false, |_| "app:latest".to_owned(), |lanyard| Dockerd::start(&lanyard.url()));
    }
}

#[test]
fn podman_pushes() {
    if available(podman::PROGRAMS) {
        there_and_back(true, |_| "docker.io/library/app:latest".to_owned(), |lanyard| Podman::new(&lanyard.host()));
    }
}

#[test]
fn buildah_pushes() {
    if available(buildah::PROGRAMS) {
        there_and_back(true, |_| "docker.io/library/app:latest".to_owned(), |lanyard| Buildah::new(&lanyard.host()));
    }
}

#[test]
fn containerd_pushes() {
    if available(containerd::PROGRAMS) {
        let client = |lanyard: &Lanyard| Containerd::start(&lanyard.url(), false);
        there_and_back(true, |_| "docker.io/library/app:latest".to_owned(), client);
    }
}

#[test]
fn skopeo_pushes_one_platform() {
    if available(skopeo::PROGRAMS) {
        there_and_back(
            false,
            |_| "docker.io/library/app:latest".to_owned(),
            |lanyard| Skopeo::new(&lanyard.host(), false),
        );
    }
}

/// Every platform with its index, byte for byte.
#[test]
fn skopeo_pushes_all_platforms() {
    if !available(skopeo::PROGRAMS) {
        return;
    }
    for oci in [false, true] {
        let hub = Hub::start();
        let image = hub.image("library/app", "latest").real_layer(300_000).platforms(&["linux/amd64", "linux/arm64"]);
        let image = if oci { image.oci() } else { image }.publish();
        let lanyard = Lanyard::start(&format!("[[upstream]]\nname = \"docker.io\"\nurl = \"{}\"\n", hub.url()));
        let client = Skopeo::new(&lanyard.host(), true);
        let name = format!("127.0.0.1:{}/team/app:v1", lanyard.port());
        client.push("docker.io/library/app:latest", &name).unwrap();
        hub.go_down();
        let pulled = client.pull_back(&name).unwrap();
        assert_eq!(pulled.tag.as_deref(), Some(image.digest.as_str()));
        let parts = image.platforms.iter().flat_map(|one| [&one.digest, &one.config].into_iter().chain(&one.layers));
        let missing: Vec<_> = parts.filter(|digest| !pulled.held.as_ref().unwrap().contains(*digest)).collect();
        assert!(missing.is_empty(), "{missing:?} is missing in {pulled:?}");
        assert_eq!(get(lanyard.port(), &manifest("team/app", "v1")).body, image.bytes);
    }
}

/// Every other client pulls the image that one client pushed.
#[test]
fn what_podman_pushed_docker_pulls() {
    if !available(dockerd::PROGRAMS) || !available(podman::PROGRAMS) {
        return;
    }
    let (hub, image, lanyard) = stage("library/app", true);
    let (podman, docker) = (Podman::new(&lanyard.host()), Dockerd::start(&lanyard.url()));
    let before = podman.pull("docker.io/library/app:latest").unwrap();
    let name = format!("127.0.0.1:{}/team/app:v1", lanyard.port());
    podman.push("docker.io/library/app:latest", &name).unwrap();
    hub.go_down();
    let after = docker.pull_back(&name).unwrap();
    assert_eq!(after.unpacked, before.unpacked);
    assert!(after.held.unwrap().contains(image.config()));
}
