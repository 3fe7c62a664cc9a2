//! skopeo with a mirror in `registries.conf`; the files that it copied are hashed here, one by one.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::cell::Cell;
use super::pulled::{Pulled, sha256};
use super::registries::cell_with_mirror;
use super::{Client, Program, Pushes};

pub(crate) const PROGRAMS: &[Program] = &[("skopeo", "skopeo")];

/// skopeo and an empty folder to copy into.
pub(crate) struct Skopeo {
    cell: Cell,
    every_platform: bool,
}

impl Skopeo {
    /// `location` is the mirror's, `HOST:PORT` or `HOST:PORT/docker.io`. With `every_platform` it
    /// copies with `--all`.
    pub(crate) fn new(location: &str, every_platform: bool) -> Self {
        Skopeo { cell: cell_with_mirror(location), every_platform }
    }
}

impl Skopeo {
    fn pulled(&self, name: &str, more: &[&str]) -> Result<Pulled, String> {
        // skopeo writes over the files of an earlier copy.
        let _ = fs::remove_dir_all(self.cell.path("copied"));
        let (from, to) = (format!("docker://{name}"), format!("dir:{}", self.cell.text("copied")));
        self.cell.run("skopeo", &[&["copy", "--quiet"], self.all(), more, &[&from, &to]].concat())?;
        let mut held = BTreeSet::new();
        let mut tag = None;
        for entry in fs::read_dir(self.cell.path("copied")).map_err(|error| error.to_string())? {
            let entry = entry.map_err(|error| error.to_string())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let bytes = fs::read(entry.path()).map_err(|error| error.to_string())?;
            let digest = sha256(&hex(&Sha256::digest(&bytes)));
            match name.as_str() {
                // The layout's own marker.
                "version" => continue,
                // Without --all the index is not kept, and this is the platform's manifest.
                "manifest.json" => tag = self.every_platform.then(|| digest.clone()),
                _ => assert_eq!(sha256(name.trim_end_matches(".manifest.json")), digest, "the name of the file {name}"),
            }
            held.insert(digest);
        }
        Ok(Pulled { tag, held: Some(held), unpacked: None })
    }

    /// A path in its folder, for content that it will push.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.cell.path(name)
    }

    /// Pushes the one manifest of an OCI image layout, byte for byte.
    pub(super) fn push_layout(&self, layout: &str, to: &str) -> Result<(), String> {
        let (from, to) = (format!("oci:{}", self.cell.text(layout)), format!("docker://{to}"));
        let args = ["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false", &from, &to];
        self.cell.run("skopeo", &args).map(drop)
    }

    /// The file that the last pull brought for this digest.
    pub(super) fn pulled_file(&self, digest: &str) -> Vec<u8> {
        fs::read(self.cell.path("copied").join(digest.trim_start_matches("sha256:"))).expect("the blob was pulled")
    }

    fn all(&self) -> &'static [&'static str] {
        if self.every_platform { &["--all"] } else { &[] }
    }
}

impl Pushes for Skopeo {
    /// From registry to registry: it has no store.
    fn push(&self, from: &str, to: &str) -> Result<(), String> {
        let (from, to) = (format!("docker://{from}"), format!("docker://{to}"));
        let args = [&["copy", "--quiet", "--dest-tls-verify=false"], self.all(), &[&from, &to]].concat();
        self.cell.run("skopeo", &args).map(drop)
    }

    fn pull_back(&self, name: &str) -> Result<Pulled, String> {
        self.pulled(name, &["--src-tls-verify=false"])
    }
}

impl Client for Skopeo {
    fn pull(&self, name: &str) -> Result<Pulled, String> {
        self.pulled(name, &[])
    }

    fn hub_asked(&self) -> usize {
        self.cell.hub_asked()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
