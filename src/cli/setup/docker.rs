//! Docker Engine.
//!
//! Both image stores take an `http://` mirror without `insecure-registries`, and that is better left out: with the
//! containerd image store one insecure mirror was seen to switch off verification for the others as well.

use super::{Server, Setup};

/// `daemon.json`. JSON has no comments, so the notes go to the reader.
pub(super) fn setup(server: &Server) -> Setup {
    let authority = server.authority();
    let mut notes = format!(
        "\
# Docker Engine: merge this into /etc/docker/daemon.json (or make the file), then
#   sudo systemctl restart docker    # a reload would do for docker pull, but docker build may go on without lanyard
#   docker info --format '{{{{.RegistryConfig.Mirrors}}}}'    # shows {server}/
#
# Docker asks mirrors for Docker Hub's images only, and goes to Docker Hub when the mirror does not answer; it has no
# setting against that. Images of other registries are pulled by lanyard's name:
#   docker pull {authority}/ghcr.io/OWNER/IMAGE
"
    );
    if server.is_plain() && !server.is_loopback() {
        notes.push_str(&format!(
            "# Those pulls, unlike the mirror, need \"insecure-registries\": [\"{authority}\"] in the same file.\n"
        ));
    }
    if !server.is_plain() {
        notes.push_str(
            "\
#
# Where lanyard's certificate is from a CA of your own, add that to the system's trust store and restart docker.
# /etc/docker/certs.d is not read for mirrors by every version; without trust Docker goes to Docker Hub silently.
",
        );
    }
    notes.push_str(&super::loopback_note(server));
    Setup { notes, text: format!("{{\n  \"registry-mirrors\": [\"{server}\"]\n}}\n") }
}
