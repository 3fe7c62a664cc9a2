//! A large manifest sent from its file. `http::v2::manifests` calls this if the bound on bytes in
//! memory (`http/transport/loads.rs`, S28) refuses another copy.

use super::{FileRange, PullThrough};
use crate::oci::Digest;

impl PullThrough {
    /// The file of a manifest of this length, which the caller has just been given, to be sent from
    /// there. `None`: the disk does not have it.
    pub async fn manifest_file(&self, digest: &Digest, length: u64) -> Option<FileRange> {
        let stored = self.storage.content(digest).await.ok().flatten()?;
        (stored.size == length).then(|| FileRange::new(self.disk.clone(), stored.file, 0, length))
    }
}
