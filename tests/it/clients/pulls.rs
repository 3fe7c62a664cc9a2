//! Which client pulls which image: every client in every spelling of a mirror that it knows, with
//! every shape of image.

use super::buildah::Buildah;
use super::buildkit::BuildKit;
use super::containerd::Containerd;
use super::containerd_store::{self, ContainerdStore};
use super::dockerd::Dockerd;
use super::podman::Podman;
use super::scenario::{Platforms, everyone_at_once, fallback_is_seen, whole_story, works_with_the_stand_in};
use super::skopeo::Skopeo;
use super::{available, buildah, containerd, dockerd, podman, skopeo};

#[test]
fn dockerd_with_registry_mirrors() {
    if available(dockerd::PROGRAMS) {
        whole_story(Platforms::Own, |lanyard| Dockerd::start(&lanyard.url()));
    }
}

#[test]
fn docker_28_with_the_containerd_store() {
    if let Some(program) = containerd_store::available() {
        whole_story(Platforms::Own, |lanyard| ContainerdStore::start(&lanyard.url(), &program));
    }
}

#[test]
fn buildkit_with_registry_mirrors() {
    if available(dockerd::PROGRAMS) {
        whole_story(Platforms::Own, |lanyard| BuildKit::start(&lanyard.url()));
    }
}

#[test]
fn containerd_which_sends_ns() {
    if available(containerd::PROGRAMS) {
        whole_story(Platforms::Own, |lanyard| Containerd::start(&lanyard.url(), false));
    }
}

#[test]
fn containerd_with_override_path() {
    if available(containerd::PROGRAMS) {
        whole_story(Platforms::Own, |lanyard| Containerd::start(&format!("{}/v2/docker.io", lanyard.url()), true));
    }
}

#[test]
fn containerd_with_the_registry_before_v2() {
    if available(containerd::PROGRAMS) {
        whole_story(Platforms::Own, |lanyard| Containerd::start(&format!("{}/docker.io", lanyard.url()), false));
    }
}

#[test]
fn podman_with_a_mirror_of_docker_io() {
    if available(podman::PROGRAMS) {
        whole_story(Platforms::Own, |lanyard| Podman::new(&lanyard.host()));
    }
}

#[test]
fn podman_with_a_prefixed_mirror() {
    if available(podman::PROGRAMS) {
        whole_story(Platforms::Own, |lanyard| Podman::new(&format!("{}/docker.io", lanyard.host())));
    }
}

#[test]
fn buildah_with_a_mirror_of_docker_io() {
    if available(buildah::PROGRAMS) {
        whole_story(Platforms::Own, |lanyard| Buildah::new(&lanyard.host()));
    }
}

#[test]
fn skopeo_with_a_mirror_of_docker_io() {
    if available(skopeo::PROGRAMS) {
        whole_story(Platforms::Own, |lanyard| Skopeo::new(&lanyard.host(), false));
    }
}

#[test]
fn skopeo_copies_every_platform() {
    if available(skopeo::PROGRAMS) {
        whole_story(Platforms::All, |lanyard| Skopeo::new(&lanyard.host(), true));
    }
}

/// Needs all five, as all of them pull one image at the same moment.
#[test]
fn all_clients_at_once_cost_one_download() {
    let all = [dockerd::PROGRAMS, containerd::PROGRAMS, podman::PROGRAMS, buildah::PROGRAMS, skopeo::PROGRAMS];
    if available(&all.concat()) {
        everyone_at_once();
    }
}

// The controls. Without a lanyard: each client and its driver work on this machine, and a client
// whose mirror is dead goes to Docker Hub, which these tests would see.

#[test]
fn dockerd_and_its_driver_work() {
    if available(dockerd::PROGRAMS) {
        let client = |host: &str| Dockerd::start(&format!("http://{host}"));
        works_with_the_stand_in(client);
        fallback_is_seen(client);
    }
}

#[test]
fn buildkit_and_its_driver_work() {
    if available(dockerd::PROGRAMS) {
        let client = |host: &str| BuildKit::start(&format!("http://{host}"));
        works_with_the_stand_in(client);
        fallback_is_seen(client);
    }
}

#[test]
fn containerd_and_its_driver_work() {
    if available(containerd::PROGRAMS) {
        let client = |host: &str| Containerd::start(&format!("http://{host}"), false);
        works_with_the_stand_in(client);
        fallback_is_seen(client);
    }
}

#[test]
fn podman_and_its_driver_work() {
    if available(podman::PROGRAMS) {
        works_with_the_stand_in(Podman::new);
        fallback_is_seen(Podman::new);
    }
}

#[test]
fn buildah_and_its_driver_work() {
    if available(buildah::PROGRAMS) {
        works_with_the_stand_in(Buildah::new);
        fallback_is_seen(Buildah::new);
    }
}

#[test]
fn skopeo_and_its_driver_work() {
    if available(skopeo::PROGRAMS) {
        works_with_the_stand_in(|host| Skopeo::new(host, false));
        fallback_is_seen(|host| Skopeo::new(host, false));
    }
}
