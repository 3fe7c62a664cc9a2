//! containerd: a `hosts.toml` for each registry. containerd adds `?ns=` to its requests, so one
//! host serves all registries.

use super::Server;
use crate::config::BUILT_IN;

/// A shell script that writes the files and keeps those that stood there before.
pub(super) fn text(server: &Server) -> String {
    let mut text = format!(
        "\
#!/bin/sh
# containerd 1.6 and later: a hosts.toml for each registry. On every machine:
#   lanyard setup containerd --server {server} | sudo sh
# containerd reads these files at each pull, so nothing is reloaded. nerdctl reads them; ctr with
# --hosts-dir /etc/containerd/certs.d; Kubernetes and crictl where /etc/containerd/config.toml has config_path:
{CONFIG_PATH}{}
set -eu
folder=${{CERTS_D:-/etc/containerd/certs.d}}

put() {{
  mkdir -p \"$folder/$1\"
  file=$folder/$1/hosts.toml
  if [ -e \"$file\" ] && [ ! -e \"$file.before-lanyard\" ]; then cp -p \"$file\" \"$file.before-lanyard\"; fi
  cat > \"$file\"
}}
",
        server.loopback_note()
    );
    for (name, url) in BUILT_IN {
        text.push_str(&format!("\nput {name} <<'EOF'\n{}EOF\n", hosts_toml(url, server)));
    }
    text
}

/// Comment lines: the setting that names the folder to the CRI plugin.
pub(super) const CONFIG_PATH: &str = "\
#   [plugins.\"io.containerd.grpc.v1.cri\".registry]     # containerd 1.x
#   [plugins.\"io.containerd.cri.v1.images\".registry]   # containerd 2.x
#     config_path = \"/etc/containerd/certs.d\"
# and then: sudo systemctl restart containerd
";

/// The file for one registry. Its `server` is the registry itself, which containerd asks when
/// lanyard does not answer. With lanyard as `server` and no `[host]`, containerd 1.6 and 1.7 would
/// ask the registry and not lanyard.
pub(super) fn hosts_toml(upstream: &str, server: &Server) -> String {
    let ca = match server.is_plain() {
        true => "",
        false => "  # ca = \"/etc/containerd/lanyard-ca.crt\"   # if lanyard's certificate is from a CA of your own\n",
    };
    format!(
        "\
# When lanyard does not answer, containerd asks this server. To forbid that: server = \"{server}\"
server = \"{upstream}\"

[host.\"{server}\"]
  capabilities = [\"pull\", \"resolve\"]
{ca}"
    )
}
