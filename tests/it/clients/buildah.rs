//! buildah with a mirror in `registries.conf`.

use super::cell::Cell;
use super::pulled::{Pulled, sha256, strings};
use super::registries::cell_with_mirror;
use super::{Client, Program, Pushes};

pub(crate) const PROGRAMS: &[Program] = &[("buildah", "buildah")];

/// buildah with an empty store.
pub(crate) struct Buildah {
    cell: Cell,
}

impl Buildah {
    /// `location` is the mirror's, `HOST:PORT` or `HOST:PORT/docker.io`.
    pub(crate) fn new(location: &str) -> Self {
        Buildah { cell: cell_with_mirror(location) }
    }

    fn json(&self, args: &[&str]) -> Result<serde_json::Value, String> {
        let said = self.cell.run("buildah", args)?;
        serde_json::from_str(&said).map_err(|error| format!("{error} in {said}"))
    }
}

impl Buildah {
    fn pulled(&self, name: &str, more: &[&str]) -> Result<Pulled, String> {
        self.cell.run("buildah", &[&["pull", "--quiet"], more, &[name]].concat())?;
        let listed = self.json(&["images", "--json", name])?;
        let image = self.json(&["inspect", "--type", "image", name])?;
        let manifest = image["FromImageDigest"].as_str().map(str::to_owned);
        Ok(Pulled {
            tag: listed[0]["digest"].as_str().map(str::to_owned),
            held: Some(manifest.into_iter().chain(image["FromImageID"].as_str().map(sha256)).collect()),
            unpacked: Some(strings(&image["OCIv1"]["rootfs"]["diff_ids"])),
        })
    }
}

impl Pushes for Buildah {
    fn push(&self, from: &str, to: &str) -> Result<(), String> {
        self.cell.run("buildah", &["push", "--quiet", "--tls-verify=false", from, &format!("docker://{to}")])?;
        self.cell.run("buildah", &["rmi", "--force", from]).map(drop)
    }

    fn pull_back(&self, name: &str) -> Result<Pulled, String> {
        self.pulled(name, &["--tls-verify=false"])
    }
}

impl Client for Buildah {
    fn pull(&self, name: &str) -> Result<Pulled, String> {
        self.pulled(name, &[])
    }

    fn hub_asked(&self) -> usize {
        self.cell.hub_asked()
    }
}
