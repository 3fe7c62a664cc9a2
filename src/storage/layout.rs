//! The paths of the data folder.
//!
//! Promises: the name of a repository or a tag becomes a path only by way of [`names`]. A folder
//! that a newer lanyard has written is refused. Callers: every file of this room that touches the
//! disk.
//!
//! ```text
//! LOCK, format                                flock and who holds it; the version of this layout
//! blobs/sha256/ab/<hex>                       complete and verified content; sha512 too
//! repos/<namespace>/<repository>/tags/<tag>   record: what the tag names
//! repos/<namespace>/<repository>/links/<digest>  record: the repository holds or names it; `tags`
//!                                             beside it says that it has held a manifest
//! pins/<namespace>/<repository>/<tag>         record: the image is never evicted; for a digest
//!                                             `+` and its name
//! fills/<digest>/{part,state}                 a download under way
//! uploads/<uuid>/{data,state}                 a push of a blob under way
//! quarantine/<digest>                         content that was found rotten
//! scrub                                       record: where the scrub is
//! savings                                     record: what clients were sent, and what upstreams
//!                                             sent for it
//! tmp/                                        files not yet renamed into place; emptied at start
//! index/, index.clean                         sled, and the mark that it was closed in order
//! lanyard.sock                                the socket of the administration; `http` makes it
//! ```

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{OpenError, UploadId, durable, names};
use crate::oci::{Algorithm, Digest, Reference, Repository, Tag};

/// The folder of all repositories, in the data folder.
pub(super) const REPOS: &str = "repos";

/// The version of the layout, in the file `format`. A newer one is refused, every older one is
/// read.
const FORMAT: u32 = 1;

/// The folder's paths. Names from outside reach the disk only through [`names`].
#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        Layout { root: root.to_owned() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("LOCK")
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn shard(&self, algorithm: Algorithm, first: u8) -> PathBuf {
        self.root.join(format!("blobs/{}/{first:02x}", algorithm.as_str()))
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        let first = digest.as_bytes().first().copied().unwrap_or_default();
        self.shard(digest.algorithm(), first).join(digest.hex())
    }

    pub(super) fn quarantined(&self, digest: &Digest) -> PathBuf {
        self.root.join("quarantine").join(names::digest(digest))
    }

    pub(super) fn repos(&self) -> PathBuf {
        self.root.join(REPOS)
    }

    pub(super) fn repository(&self, repository: &Repository) -> PathBuf {
        self.repos().join(names::namespace(&repository.namespace)).join(names::repository(&repository.name))
    }

    pub(super) fn tags(&self, repository: &Repository) -> PathBuf {
        self.repository(repository).join("tags")
    }

    pub(super) fn tag(&self, repository: &Repository, tag: &Tag) -> PathBuf {
        self.tags(repository).join(names::tag(tag))
    }

    pub(super) fn links(&self, repository: &Repository) -> PathBuf {
        self.repository(repository).join("links")
    }

    pub(super) fn link(&self, repository: &Repository, digest: &Digest) -> PathBuf {
        self.links(repository).join(names::digest(digest))
    }

    pub(super) fn pins(&self) -> PathBuf {
        self.root.join("pins")
    }

    /// The pins of a repository.
    pub(super) fn pinned(&self, repository: &Repository) -> PathBuf {
        self.pins().join(names::namespace(&repository.namespace)).join(names::repository(&repository.name))
    }

    pub(super) fn pin(&self, repository: &Repository, reference: &Reference) -> PathBuf {
        self.pinned(repository).join(names::pin(reference))
    }

    pub(super) fn fills(&self) -> PathBuf {
        self.root.join("fills")
    }

    pub(super) fn fill(&self, digest: &Digest) -> PathBuf {
        self.fills().join(names::digest(digest))
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    pub(super) fn upload(&self, id: &UploadId) -> PathBuf {
        self.uploads().join(id.to_string())
    }

    pub(super) fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    pub(super) fn scrub(&self) -> PathBuf {
        self.root.join("scrub")
    }

    pub(super) fn savings(&self) -> PathBuf {
        self.root.join("savings")
    }

    pub(super) fn clean_mark(&self) -> PathBuf {
        self.root.join("index.clean")
    }

    /// Whether there is something to serve: the last folder that [`create`](Self::create) makes is
    /// there.
    pub(super) fn exists(&self) -> bool {
        self.repos().is_dir()
    }

    /// Creates what is missing, durably; empties `tmp`.
    pub(super) fn create(&self) -> Result<(), OpenError> {
        let folders = durable::Folders::new(&self.root);
        for folder in ["tmp", "quarantine", "fills", "uploads", "blobs", "blobs/sha256", "blobs/sha512", REPOS] {
            let path = self.root.join(folder);
            folders.ensure(&path).map_err(OpenError::io(&self.root, &path))?;
        }
        let tmp = durable::Temporaries::new(self.tmp());
        tmp.sweep().map_err(OpenError::io(&self.root, &self.tmp()))?;
        let format = self.root.join("format");
        if !format.exists() {
            tmp.replace(&format, format!("lanyard {FORMAT}\n").as_bytes())
                .and_then(|()| durable::sync_dir(&self.root))
                .map_err(OpenError::io(&self.root, &format))?;
        }
        Ok(())
    }

    /// Refuses a folder that a newer lanyard has written. A missing or empty file says nothing
    /// against it.
    pub(super) fn check_format(&self) -> Result<(), OpenError> {
        let path = self.root.join("format");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => String::new(),
            Err(error) => return Err(OpenError::io(&self.root, &path)(error)),
        };
        match text.trim().strip_prefix("lanyard ").map(str::parse::<u32>) {
            Some(Ok(version)) if version > FORMAT => {
                Err(OpenError::Newer { dir: self.root.clone(), format: version.to_string() })
            }
            Some(_) | None => Ok(()),
        }
    }
}
