//! podman with a mirror in `registries.conf`.

use super::cell::Cell;
use super::pulled::{Pulled, sha256, strings};
use super::registries::{cell_with, cell_with_mirror, with_mirror};
use super::{Client, Program, Pushes, SignsIn};

pub(crate) const PROGRAMS: &[Program] = &[("podman", "podman")];

/// podman with an empty store.
pub(crate) struct Podman {
    cell: Cell,
}

impl Podman {
    /// `location` is the mirror's, `HOST:PORT` or `HOST:PORT/docker.io`.
    pub(crate) fn new(location: &str) -> Self {
        Podman { cell: cell_with_mirror(location) }
    }

    /// The same in this cell.
    pub(crate) fn new_in(cell: Cell, location: &str) -> Self {
        Podman { cell: with_mirror(cell, location) }
    }

    /// With `text` as the drop-in `NAME.conf` of `/etc/containers/registries.conf.d`.
    pub(crate) fn with_drop_in(name: &str, text: &str) -> Self {
        Podman { cell: cell_with(&format!("registries.conf.d/{name}.conf"), text) }
    }
}

impl Podman {
    /// Pulls an image of Linux on another architecture.
    pub(super) fn pull_for(&self, name: &str, architecture: &str) -> Result<Pulled, String> {
        self.pulled(name, &["--arch", architecture])
    }

    fn pulled(&self, name: &str, more: &[&str]) -> Result<Pulled, String> {
        self.cell.run("podman", &[&["pull", "--quiet", name], more].concat())?;
        let said = self.cell.run("podman", &["image", "inspect", name])?;
        let image: serde_json::Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        let image = &image[0];
        // The digests of the index and of the platform's manifest, as "name@sha256:…".
        let manifests = strings(&image["RepoDigests"]);
        let manifests = manifests.iter().filter_map(|name| Some(name.split_once('@')?.1.to_owned()));
        Ok(Pulled {
            tag: image["Digest"].as_str().map(str::to_owned),
            held: Some(manifests.chain(image["Id"].as_str().map(sha256)).collect()),
            unpacked: Some(strings(&image["RootFS"]["Layers"])),
        })
    }
}

impl Pushes for Podman {
    fn push(&self, from: &str, to: &str) -> Result<(), String> {
        self.cell.run("podman", &["push", "--quiet", "--tls-verify=false", from, to])?;
        self.cell.run("podman", &["rmi", "--force", from]).map(drop)
    }

    fn pull_back(&self, name: &str) -> Result<Pulled, String> {
        self.pulled(name, &["--tls-verify=false"])
    }
}

impl SignsIn for Podman {
    fn login(&self, registry: &str, user: &str, password: &str) -> Result<(), String> {
        let signing_in = ["login", "--tls-verify=false", "--username", user, "--password", password, registry];
        self.cell.run("podman", &signing_in).map(drop)
    }

    fn logout(&self, registry: &str) -> Result<(), String> {
        self.cell.run("podman", &["logout", registry]).map(drop)
    }

    fn forget(&self) -> Result<(), String> {
        self.cell.run("podman", &["image", "prune", "--all", "--force"]).map(drop)
    }
}

impl Client for Podman {
    fn pull(&self, name: &str) -> Result<Pulled, String> {
        self.pulled(name, &[])
    }

    fn hub_asked(&self) -> usize {
        self.cell.hub_asked()
    }
}
