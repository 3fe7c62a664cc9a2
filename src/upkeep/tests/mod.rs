//! The collector against real folders, and what its tests share.

mod model;
mod needed;
mod passes;
mod races;
mod scrub;
mod unreadable;

use std::{path::Path, time::Duration};

use bytes::Bytes;

use super::{
    Collection,
    sweep::{How, Pass, Settled},
};
use crate::{
    config::MinFree,
    oci::{Algorithm, Digest, Hasher, OCI_IMAGE, OCI_INDEX},
    storage::{Limits, Storage},
};

/// A folder in which nothing is protected but what is held.
pub(super) fn open(dir: &Path) -> Storage {
    let storage = Storage::open(dir, Limits { max_size: None, min_free: MinFree::Bytes(0) }).unwrap();
    storage.leases.set_grace(Duration::ZERO);
    storage
}

/// One whole pass on this thread.
pub(super) fn pass(storage: &Storage, how: How, settled: Settled) -> (Collection, Settled) {
    let (mut pass, repositories) = Pass::new(how, settled).repositories(storage).unwrap();
    for repository in repositories {
        pass = pass.repository(storage, repository).unwrap();
    }
    pass = pass.blobs(storage, storage.blobs.all()).unwrap();
    pass.leftovers(storage).unwrap().end()
}

pub(super) fn digest(bytes: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, bytes)
}

/// An image of these layers; the first is its config.
pub(super) fn image(layers: &[Digest]) -> Bytes {
    let layers: Vec<_> = layers.iter().map(|digest| serde_json::json!({ "digest": digest, "size": 1 })).collect();
    let image = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_IMAGE, "config": layers.first(), "layers": layers.get(1..).unwrap_or_default(),
    });
    image.to_string().into()
}

/// An index of these manifests; `note` tells it from others of the same.
pub(super) fn index(children: &[(Digest, &str)], note: &str) -> Bytes {
    let children: Vec<_> = children
        .iter()
        .map(|(digest, media_type)| serde_json::json!({ "digest": digest, "mediaType": media_type, "size": 1 }))
        .collect();
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children, "annotations": { "note": note },
    });
    index.to_string().into()
}
