//! What a hosted repository's manifests need, and what of its links is garbage.
//!
//! Needed is what a manifest of the repository names: config, layers, children, and what the
//! children name. Every manifest stays, tagged or not, until a client deletes it; so garbage is
//! only what is no manifest and what none of them names. Where it cannot be told – a manifest
//! cannot be read – nothing of the repository is garbage: rot must not spread.

use std::collections::HashSet;

use bytes::Bytes;

use crate::{
    oci::{self, Digest, MAX_MANIFEST_BYTES, ManifestError, NeededError, Repository},
    storage::{LinkRecord, StorageError, TagRecord, files::Files},
};

/// Why it cannot be told what a repository needs.
#[derive(Debug, thiserror::Error)]
pub enum Unsure {
    /// The repository holds a manifest whose content is gone, or has rotted.
    #[error("its manifest {0} is missing on disk")]
    Missing(Digest),
    /// The content that is stored as a manifest cannot be read as one.
    #[error("its manifest {0} cannot be read: {1}")]
    Manifest(Digest, ManifestError),
    /// What may be a manifest has a damaged record.
    #[error("one of its links is damaged")]
    Link,
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What is garbage in a repository.
pub struct Unneeded {
    /// The links that none of its manifests needs.
    pub links: Vec<LinkRecord>,
    /// Something is needed only by a manifest that an index names and the repository does not hold.
    /// That is garbage once the manifest's bytes are gone, although nothing changes in the
    /// repository then.
    pub borrowed: bool,
}

/// The links that none of the repository's manifests needs.
pub(super) fn unneeded(
    files: &Files,
    repository: &Repository,
    links: &[LinkRecord],
    tags: &[TagRecord],
) -> Result<Unneeded, Unsure> {
    let manifests = links.iter().filter(|link| link.is_manifest()).map(|link| (link.digest, link.media_type.clone()));
    // A tag whose manifest has lost its link is damage; it still keeps what it names.
    let tagged = tags.iter().map(|tag| (tag.digest, tag.media_type.clone()));
    let mut borrowed = false;
    let needed = needed(manifests.chain(tagged), |digest, held| {
        let bytes = files.blobs.read(digest, MAX_MANIFEST_BYTES)?;
        borrowed |= !held && bytes.is_some();
        Ok(bytes)
    })?;
    let unneeded = |link: &&LinkRecord| !link.is_manifest() && !needed.contains(&link.digest);
    let unneeded: Vec<_> = links.iter().filter(unneeded).cloned().collect();
    // What is damaged is not among the links, and might be a manifest that needs them all.
    if !unneeded.is_empty() && files.catalog.has_damaged_link(repository)? {
        return Err(Unsure::Link);
    }
    Ok(Unneeded { links: unneeded, borrowed })
}

/// Everything that these manifests name, and the manifests themselves.
pub(crate) fn needed(
    manifests: impl Iterator<Item = (Digest, String)>,
    mut read: impl FnMut(&Digest, bool) -> Result<Option<Bytes>, StorageError>,
) -> Result<HashSet<Digest>, Unsure> {
    let needed = oci::needed(manifests, |digest, held| match read(digest, held) {
        // Any index may name what is no manifest.
        Err(StorageError::TooLarge { .. }) if !held => Ok(None),
        read => read,
    });
    needed.map_err(|error| match error {
        NeededError::Missing(digest) => Unsure::Missing(digest),
        NeededError::Manifest(digest, error) => Unsure::Manifest(digest, error),
        NeededError::Read(error) => Unsure::Storage(error),
    })
}

/// Everything that these manifests name, as deep as they go, and the manifests themselves.
pub(super) fn needed_by(files: &Files, manifests: Vec<(Digest, String)>) -> Result<HashSet<Digest>, Unsure> {
    needed(manifests.into_iter(), |digest, _| match files.blobs.read(digest, MAX_MANIFEST_BYTES) {
        Err(StorageError::TooLarge { .. }) => Ok(None),
        read => read,
    })
}
