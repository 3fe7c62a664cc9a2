//! The contract of the verbs of [`Storage`](super::Storage), as one suite for every catalogue.
//!
//! Each test runs on the files with their index, on the files without it, and on the catalogue in
//! memory. All three are wrapped, so that an operation can be made to fail. A new catalogue is one
//! more [`Kind`].
//!
//! | file | states |
//! |---|---|
//! | `commits.rs` | what a commit expects, writes and refuses |
//! | `looks.rs` | what is seen: tags, referrers, holders, repositories, presence, versions |
//! | `evictions.rs` | what is evicted, and how downloads wait for it |
//! | `histories.rs` | what a tag has named so far |
//! | `forgets.rs` | what is forgotten of a mirrored repository, and what a failure leaves |
//! | `keeps.rs` | what stays and what goes, also while a push comes between |
//! | `uses.rs` | what a use changes, and what is shown of it |
//! | `scenes.rs` | what holds when the Nth operation of a scene fails, for every N |

mod commits;
mod evictions;
mod forgets;
mod histories;
mod keeps;
mod looks;
mod scenes;
mod uses;

use std::{future::Future, ops::Deref, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Change, CommitError, Limits, LinkRecord, LinkRight, Refusal, Storage,
    catalog::{Catalog, Faults, MemoryCatalog, When},
    testing::Folder,
    tests::{LIMITS, digest, eventually, hosted, link_record, repository, tag, tag_record},
};
use crate::oci::{Digest, OCI_IMAGE, Repository};

/// A catalogue that the suite runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Files,
    FilesWithoutIndex,
    Memory,
}

const KINDS: [Kind; 3] = [Kind::Files, Kind::FilesWithoutIndex, Kind::Memory];

/// An open storage with nothing in it.
struct House {
    folder: Folder,
    faults: Faults,
    _dir: tempfile::TempDir,
}

impl House {
    fn open(kind: Kind, limits: Limits) -> House {
        let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::default());
        let folder = Folder::open_with(dir.path(), limits, |files, disk| {
            let catalog = match kind {
                Kind::Files | Kind::FilesWithoutIndex => Catalog::Files(files.clone()),
                Kind::Memory => Catalog::Memory(MemoryCatalog::new(Arc::clone(&disk))),
            };
            Catalog::Failing(Box::new(catalog), faults.clone())
        });
        eventually(|| folder.index_is_ready());
        if kind == Kind::FilesWithoutIndex {
            folder.disk.index.close();
        }
        House { folder, faults, _dir: dir }
    }

    fn run<T>(&self, verb: impl Future<Output = T>) -> T {
        self.folder.runtime.block_on(verb)
    }

    fn commit(&self, change: Change) -> Result<bool, CommitError> {
        self.run(self.storage().commit(change))
    }

    fn refused(&self, change: Change) -> Refusal {
        match self.commit(change) {
            Err(CommitError::Refused(refusal)) => refusal,
            other => panic!("it is not refused: {other:?}"),
        }
    }

    /// Stores content and links it as pushed, with the media type.
    fn push(&self, repository: &Repository, bytes: &[u8], media_type: &str) -> Digest {
        let link = (pushed(bytes, media_type), super::IfLinked::Replace);
        let content = Some((digest(bytes), Bytes::copy_from_slice(bytes)));
        assert!(self.commit(Change { content, links: vec![link], ..Change::of(repository) }).unwrap());
        digest(bytes)
    }

    fn tag(&self, repository: &Repository, name: &str, bytes: &[u8]) {
        let tags = vec![tag_record(name, bytes)];
        assert!(self.commit(Change { tags, ..Change::of(repository) }).unwrap());
    }

    /// The record of a link.
    fn link(&self, repository: &Repository, bytes: &[u8]) -> Option<LinkRecord> {
        self.run(self.storage().link(repository, &digest(bytes))).unwrap()
    }

    /// The digest that a tag names.
    fn named(&self, repository: &Repository, name: &str) -> Option<Digest> {
        self.run(self.storage().tag(repository, &tag(name))).unwrap().map(|record| record.digest)
    }

    fn storage(&self) -> &Storage {
        &self.folder.storage
    }
}

impl Deref for House {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.folder
    }
}

/// Runs a test on every kind. No content is protected by a grace.
fn each(test: impl Fn(&House)) {
    for kind in KINDS {
        eprintln!("on {kind:?}");
        let house = House::open(kind, LIMITS);
        house.storage().set_grace(Duration::ZERO);
        test(&house);
    }
}

fn pushed(bytes: &[u8], media_type: &str) -> LinkRecord {
    LinkRecord { right: LinkRight::Pushed, media_type: media_type.to_owned(), ..link_record(bytes) }
}

/// An image manifest with this config and these layers.
fn manifest(config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
    let descriptor = |bytes: &[u8]| serde_json::json!({ "mediaType": "a/b", "digest": digest(bytes).to_string(), "size": bytes.len() });
    let layers: Vec<_> = layers.iter().map(|layer| descriptor(layer)).collect();
    let image = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_IMAGE, "config": descriptor(config), "layers": layers,
    });
    serde_json::to_vec(&image).unwrap()
}
