//! Docker Engine with its classic store and `registry-mirrors`.

use std::collections::BTreeSet;

use super::cell::{Cell, Daemon};
use super::pulled::{Pulled, strings};
use super::{Client, Program, Pushes, SignsIn};

pub(crate) const PROGRAMS: &[Program] =
    &[("dockerd", "docker.io"), ("docker", "docker.io"), ("containerd", "containerd")];

/// One dockerd with an empty data root; ended when dropped.
pub(crate) struct Dockerd {
    _daemon: Daemon,
    cell: Cell,
    socket: String,
}

impl Dockerd {
    /// Starts a daemon whose only registry mirror is `mirror`, `http://HOST:PORT`.
    pub(crate) fn start(mirror: &str) -> Self {
        Dockerd::configured(&serde_json::json!({ "registry-mirrors": [mirror] }))
    }

    /// Starts a daemon whose `daemon.json` is this object, merged into the settings that keep it in
    /// its cell.
    pub(crate) fn configured(daemon_json: &serde_json::Value) -> Self {
        Dockerd::configured_in(Cell::new(), daemon_json)
    }

    /// The same in this cell.
    pub(crate) fn configured_in(cell: Cell, daemon_json: &serde_json::Value) -> Self {
        let socket = format!("unix://{}", cell.text("docker.sock"));
        let driver = if cell.overlay() { "overlay2" } else { "vfs" };
        let mut config = serde_json::json!({
            "data-root": cell.text("data"),
            "exec-root": cell.text("exec"),
            "pidfile": cell.text("dockerd.pid"),
            "deprecated-key-path": cell.text("key.json"),
            "hosts": [socket],
            "storage-driver": driver,
            "bridge": "none",
            "iptables": false,
            "ip-forward": false,
            "ip-masq": false,
            "userland-proxy": false,
        });
        for (key, value) in daemon_json.as_object().expect("daemon.json is an object") {
            config[key] = value.clone();
        }
        let config = cell.write("daemon.json", &config.to_string());
        let daemon = cell.daemon("dockerd", &["--config-file", &config], &cell.text("docker.sock"));
        Dockerd { _daemon: daemon, cell, socket }
    }

    pub(super) fn docker(&self, args: &[&str]) -> Result<String, String> {
        self.cell.run("docker", &[&["--host", &self.socket], args].concat())
    }

    /// A folder of its cell with one file in it.
    pub(super) fn folder_with(&self, folder: &str, file: &str, text: &str) -> String {
        self.cell.write(&format!("{folder}/{file}"), text);
        self.cell.text(folder)
    }
}

impl Pushes for Dockerd {
    fn push(&self, from: &str, to: &str) -> Result<(), String> {
        self.docker(&["tag", from, to])?;
        self.docker(&["push", to])?;
        self.docker(&["rmi", "--force", from, to]).map(drop)
    }

    fn pull_back(&self, name: &str) -> Result<Pulled, String> {
        self.pull(name)
    }
}

impl SignsIn for Dockerd {
    fn login(&self, registry: &str, user: &str, password: &str) -> Result<(), String> {
        self.docker(&["login", "--username", user, "--password", password, registry]).map(drop)
    }

    fn logout(&self, registry: &str) -> Result<(), String> {
        self.docker(&["logout", registry]).map(drop)
    }

    fn forget(&self) -> Result<(), String> {
        self.docker(&["image", "prune", "--all", "--force"]).map(drop)
    }
}

impl Dockerd {
    /// Pulls an image of Linux on another architecture.
    pub(super) fn pull_for(&self, name: &str, architecture: &str) -> Result<Pulled, String> {
        self.pulled(name, &["--platform", &format!("linux/{architecture}")])
    }

    fn pulled(&self, name: &str, more: &[&str]) -> Result<Pulled, String> {
        self.docker(&[&["pull", "--quiet", name], more].concat())?;
        let said = self.docker(&["image", "inspect", name])?;
        let image: serde_json::Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        let image = &image[0];
        // "name@sha256:…", with the digest that the tag points to.
        let digest = strings(&image["RepoDigests"]).first().and_then(|name| Some(name.split_once('@')?.1.to_owned()));
        Ok(Pulled {
            tag: Some(digest.ok_or_else(|| format!("no RepoDigests in {said}"))?),
            held: Some(image["Id"].as_str().map(str::to_owned).into_iter().collect::<BTreeSet<_>>()),
            unpacked: Some(strings(&image["RootFS"]["Layers"])),
        })
    }
}

impl Client for Dockerd {
    fn pull(&self, name: &str) -> Result<Pulled, String> {
        self.pulled(name, &[])
    }

    fn hub_asked(&self) -> usize {
        self.cell.hub_asked()
    }
}
