//! What manifests need, and which links of a hosted repository are garbage.
//!
//! A manifest needs what it names: config, layers, children, and what the children name. In a
//! hosted repository every manifest stays, tagged or not, until a client deletes it. A link there
//! is garbage if it is no manifest's and no manifest needs its digest. If one manifest cannot be
//! read, the needs are [`Unsure`] and nothing of the repository is garbage: rot must not spread. To
//! look is no use of a manifest. Callers: the verbs `unneeded` and `needed_by`, and `forget.rs`.

use std::collections::HashSet;

use bytes::Bytes;

use crate::{
    oci::{self, Digest, MAX_MANIFEST_BYTES, ManifestError, NeededError, Repository, Tag},
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
    /// A pin of it cannot be read.
    #[error("one of its pins cannot be read")]
    Pin,
    /// The record of a tag is damaged.
    #[error("the record of its tag {0} is damaged")]
    Tag(Tag),
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
    /// Some content is needed only by a manifest that an index names and the repository does not
    /// hold. That content becomes garbage when the manifest's bytes go, although the repository
    /// does not change then.
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
        let bytes = files.blobs.read_unnoticed(digest, MAX_MANIFEST_BYTES)?;
        borrowed |= !held && bytes.is_some();
        Ok(bytes)
    })?;
    let unneeded = |link: &&LinkRecord| !link.is_manifest() && !needed.contains(&link.digest);
    let unneeded: Vec<_> = links.iter().filter(unneeded).cloned().collect();
    // A damaged link is not among `links`, and may be a manifest that needs them all.
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
        // An index may name content that is no manifest.
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
    needed(manifests.into_iter(), |digest, _| match files.blobs.read_unnoticed(digest, MAX_MANIFEST_BYTES) {
        Err(StorageError::TooLarge { .. }) => Ok(None),
        read => read,
    })
}
