//! Podman, Buildah, Skopeo and CRI-O share `registries.conf`. They send no `ns=`, so every mirror
//! has its prefix. They use plain HTTP only with `insecure = true`, from localhost too: without it
//! they ask the registry itself, without a word.

use super::Server;
use crate::config::BUILT_IN;

/// A drop-in file.
pub(super) fn text(server: &Server) -> String {
    let authority = server.authority();
    let mut text = format!(
        "\
# Podman, Buildah, Skopeo and CRI-O: save as /etc/containers/registries.conf.d/lanyard.conf, for one user as
# ~/.config/containers/registries.conf.d/lanyard.conf:
#   lanyard setup podman --server {server} | sudo tee /etc/containers/registries.conf.d/lanyard.conf
# It is read at each pull; only CRI-O is told: sudo systemctl reload crio
# Images of your own: podman push IMAGE {authority}/NAME
#
# When lanyard does not answer, the registry itself is asked. To forbid that, write lanyard's location also as the
# location below the prefix, and for http insecure = true with it.
"
    );
    if !server.is_plain() {
        text.push_str(&format!(
            "#\n# If lanyard's certificate is from a CA of your own: /etc/containers/certs.d/{authority}/ca.crt\n"
        ));
    }
    text.push_str(&server.loopback_note());
    let insecure = if server.is_plain() { "insecure = true\n" } else { "" };
    if server.is_plain() {
        // Without it a push, or a pull of a pushed image, insists on TLS.
        text.push_str(&format!("\n[[registry]]\nlocation = \"{authority}\"\n{insecure}"));
    }
    for (name, _) in BUILT_IN {
        text.push_str(&format!(
            "\n[[registry]]\nprefix = \"{name}\"\nlocation = \"{name}\"\n\n[[registry.mirror]]\nlocation = \"{authority}/{name}\"\n{insecure}"
        ));
    }
    text
}
