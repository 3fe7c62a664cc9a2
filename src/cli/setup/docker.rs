//! Docker Engine: `daemon.json` for every version, and for newer ones a `hosts.toml` for each
//! registry.
//!
//! Both image stores take an `http://` mirror without `insecure-registries`. Leave that key out:
//! with the containerd image store one insecure mirror was seen to switch off verification for the
//! others as well.
//!
//! `/etc/docker/certs.d/REGISTRY/hosts.toml` is read by Docker 28.0 and newer with the containerd
//! image store (docs/WIRE.md, "Pulls"). A file with two hosts takes the place of
//! `registry-mirrors`, so lanyard stands there twice: as the host and as the server that Docker
//! would fall back to.

use super::Server;
use crate::config::BUILT_IN;

/// `daemon.json`.
pub(super) fn text(server: &Server) -> String {
    format!("{{\n  \"registry-mirrors\": [\"{server}\"]\n}}\n")
}

/// The notes for the reader, as comment lines: JSON has no comments.
pub(super) fn notes(server: &Server) -> String {
    let authority = server.authority();
    let mut notes = format!(
        "\
# Docker Engine: merge this into /etc/docker/daemon.json (or make the file), then
#   sudo systemctl restart docker    # a reload would do for docker pull, but docker build may go on without lanyard
#   docker info --format '{{{{.RegistryConfig.Mirrors}}}}'    # shows {server}/
#
# Docker asks mirrors for Docker Hub's images only, and goes to Docker Hub when the mirror does not answer. Images of
# other registries are pulled by lanyard's name:
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
    notes.push_str(&hosts_notes(server));
    notes.push_str(&server.loopback_note());
    notes
}

/// The other way, as comment lines: a `hosts.toml`, and one command that writes it for each
/// registry and keeps a file that stood there before.
fn hosts_notes(server: &Server) -> String {
    let ca = match server.is_plain() {
        true => "",
        false => "#     # ca = \"/etc/docker/lanyard-ca.crt\"   if lanyard's certificate is from a CA of your own\n",
    };
    let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    format!(
        "\
#
# Docker Engine 28.0 or newer, with the containerd image store (docker info says there
# driver-type: io.containerd.snapshotter.v1), can pull from lanyard alone: images of every registry by their own
# names, and with an error instead of a way around lanyard when it does not answer. It then needs no daemon.json.
# For each registry it reads /etc/docker/certs.d/REGISTRY/hosts.toml, at each pull, so nothing is restarted:
#
#   server = \"{server}\"
#   [host.\"{server}\"]
#     capabilities = [\"pull\", \"resolve\"]
{ca}#
# To write it for all of them:
#   for r in {names}; do d=/etc/docker/certs.d/$r; sudo mkdir -p $d; \
if [ -e $d/hosts.toml ]; then sudo cp -n $d/hosts.toml $d/hosts.toml.before-lanyard; fi; \
printf 'server = \"{server}\"\\n[host.\"{server}\"]\\n  capabilities = [\"pull\", \"resolve\"]\\n' \
| sudo tee $d/hosts.toml >/dev/null; done
# Older versions, and the classic image store of any version, do not read these files and have no setting against
# going to Docker Hub. Pushes to those registries go to lanyard then, which refuses them.
",
        names = names.join(" ")
    )
}
