//! Docker Engine 28 or newer with the containerd image store, which reads
//! `/etc/docker/certs.d/REGISTRY/hosts.toml`.
//!
//! Debian 12 has no such engine. An engine that is on the path beside Debian's is used; Debian's
//! containerd and docker serve it. Where Go is, `go install
//! github.com/moby/moby/v2/cmd/dockerd@latest` installs one.

use std::path::{Path, PathBuf};

use super::cell::{Cell, Daemon};
use super::pulled::{Pulled, strings};
use super::{Client, Weight, dockerd, hindrance, unhindered};

/// The folders of Debian's own engine.
const DEBIANS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The daemon's program, or none where the only engine is Debian's; the test then says that it is
/// left out. It is never required.
pub(super) fn available() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others =
        std::env::split_paths(&path).filter(|folder| !DEBIANS.iter().any(|debians| folder == Path::new(debians)));
    let program = others.map(|folder| folder.join("dockerd")).find(|program| program.is_file());
    let none = program.is_none().then(|| {
        "no dockerd is on the path but Debian's (https://github.com/moby/moby, version 28 or newer)".to_owned()
    });
    unhindered(hindrance(dockerd::PROGRAMS).or(none), Weight::Extra).then_some(program)?
}

/// One daemon with an empty data root; ended when dropped.
pub(super) struct ContainerdStore {
    _daemon: Daemon,
    cell: Cell,
    socket: String,
}

impl ContainerdStore {
    /// Starts it with this mirror of Docker Hub and no way around it.
    pub(super) fn start(mirror: &str, program: &Path) -> Self {
        let cell = Cell::new();
        let hosts = format!("server = \"{mirror}\"\n[host.\"{mirror}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
        cell.write("etc/docker/certs.d/docker.io/hosts.toml", &hosts);
        ContainerdStore::start_in(cell, program)
    }

    /// Starts it in a cell whose `etc/docker/certs.d` has the `hosts.toml` files. Its `daemon.json`
    /// names no mirror.
    pub(super) fn start_in(cell: Cell, program: &Path) -> Self {
        let socket = format!("unix://{}", cell.text("docker.sock"));
        let config = serde_json::json!({
            "data-root": cell.text("data"),
            "exec-root": cell.text("exec"),
            "pidfile": cell.text("dockerd.pid"),
            "hosts": [socket],
            "features": { "containerd-snapshotter": true },
            "storage-driver": if cell.overlay() { "overlayfs" } else { "native" },
            "bridge": "none",
            "iptables": false,
            "ip6tables": false,
            "ip-forward": false,
            "ip-masq": false,
        });
        let config = cell.write("daemon.json", &config.to_string());
        let program = program.to_str().expect("the path of a program is UTF-8");
        let daemon = cell.daemon(program, &["--config-file", &config], &cell.text("docker.sock"));
        ContainerdStore { _daemon: daemon, cell, socket }
    }

    pub(super) fn docker(&self, args: &[&str]) -> Result<String, String> {
        self.cell.run("docker", &[&["--host", &self.socket], args].concat())
    }
}

impl Client for ContainerdStore {
    fn pull(&self, name: &str) -> Result<Pulled, String> {
        self.docker(&["pull", "--quiet", name])?;
        let said = self.docker(&["image", "inspect", name])?;
        let image: serde_json::Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        let image = &image[0];
        let digest = strings(&image["RepoDigests"]).first().and_then(|name| Some(name.split_once('@')?.1.to_owned()));
        Ok(Pulled {
            tag: Some(digest.ok_or_else(|| format!("no RepoDigests in {said}"))?),
            // The Id that it gives to an image is the digest that the tag points to.
            held: None,
            unpacked: Some(strings(&image["RootFS"]["Layers"])),
        })
    }

    fn hub_asked(&self) -> usize {
        self.cell.hub_asked()
    }
}
