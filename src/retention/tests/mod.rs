//! The collector against real folders, and what its tests share.

mod evictor;
mod kept;
mod model;
mod needed;
mod passes;
mod races;
mod remove;
mod rules;
mod scrub;
mod unreadable;

use std::{path::Path, time::Duration};

use bytes::Bytes;

use super::{
    Collection,
    sweep::{Pass, PassMode, SettledRepositories},
};
use crate::{
    oci::{Algorithm, Digest, Hasher, OCI_IMAGE, OCI_INDEX},
    storage::testing::Folder,
};

/// A folder in which nothing is protected but what is held.
pub(super) fn open(dir: &Path) -> Folder {
    let storage = Folder::open(dir);
    storage.leases.set_grace(Duration::ZERO);
    storage
}

/// One whole pass on this thread.
pub(super) fn pass(
    storage: &Folder,
    mode: PassMode,
    settled: SettledRepositories,
) -> (Collection, SettledRepositories) {
    storage.runtime.block_on(async {
        let pass = Pass::new(mode, settled).over_all(&storage.storage).await.unwrap();
        pass.leftovers(&storage.storage).await.unwrap().end()
    })
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
