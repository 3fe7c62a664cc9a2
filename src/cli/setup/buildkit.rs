//! BuildKit on its own, and `docker buildx` with a builder in a container. It adds `?ns=` to its
//! requests to a mirror.

use super::Server;
use crate::config::BUILT_IN;

/// `buildkitd.toml`.
pub(super) fn text(server: &Server) -> String {
    let authority = server.authority();
    let mut text = format!(
        "\
# BuildKit: merge into /etc/buildkit/buildkitd.toml (rootless: ~/.config/buildkit/buildkitd.toml), then
#   sudo systemctl restart buildkit
# docker buildx with a builder of its own: save as buildkitd.toml, then
#   docker buildx create --use --name lanyard --driver docker-container --config buildkitd.toml
# The builder inside Docker Engine follows Docker's registry-mirrors: lanyard setup docker
{}",
        server.loopback_note()
    );
    if server.is_loopback() {
        text.push_str("# A builder in a container reaches it with: docker buildx create --driver-opt network=host …\n");
    }
    for (name, _) in BUILT_IN {
        text.push_str(&format!("\n[registry.\"{name}\"]\n  mirrors = [\"{authority}\"]\n"));
    }
    text.push_str(&format!("\n[registry.\"{authority}\"]\n"));
    text.push_str(match server.is_plain() {
        true => "  http = true\n",
        false => "  # ca = [\"/etc/buildkit/lanyard-ca.crt\"]   # if lanyard's certificate is from a CA of your own\n",
    });
    text
}
