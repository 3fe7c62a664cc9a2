//! What a hosted repository's manifests need, and what of its links is garbage.
//!
//! Needed is what a manifest of the repository names: config, layers, children, and what the children name. Every manifest
//! stays, tagged or not, until a client deletes it; so garbage is only what is no manifest and what none of them names.
//! Where it cannot be told – a manifest cannot be read – nothing of the repository is garbage: rot must not spread.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;

use crate::{
    oci::{
        DOCKER_IMAGE, DOCKER_LIST, Digest, MAX_MANIFEST_BYTES, Manifest, ManifestError, OCI_IMAGE, OCI_INDEX,
        Repository,
    },
    storage::{LinkRecord, Storage, StorageError, TagRecord},
};

/// Why it cannot be told what a repository needs.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsure {
    /// The repository holds a manifest whose content is gone, or has rotted.
    #[error("its manifest {0} is missing on disk")]
    Missing(Digest),
    /// What is stored as a manifest is none.
    #[error("its manifest {0} cannot be read: {1}")]
    Manifest(Digest, ManifestError),
    /// What may be a manifest has a damaged record.
    #[error("one of its links is damaged")]
    Link,
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A manifest to look into.
struct Visit {
    digest: Digest,
    media_type: String,
    /// The repository itself holds it as a manifest, so that it must be here and must be one.
    held: bool,
}

/// The links that none of the repository's manifests needs.
pub(super) fn unneeded(
    storage: &Storage,
    repository: &Repository,
    links: &[LinkRecord],
    tags: &[TagRecord],
) -> Result<Vec<LinkRecord>, Unsure> {
    let manifests = links.iter().filter(|link| link.is_manifest()).map(|link| (link.digest, link.media_type.clone()));
    // A tag whose manifest has lost its link is damage; it still keeps what it names.
    let tagged = tags.iter().map(|tag| (tag.digest, tag.media_type.clone()));
    let needed = needed(manifests.chain(tagged), |digest| storage.blobs.read(digest, MAX_MANIFEST_BYTES))?;
    let unneeded = |link: &&LinkRecord| !link.is_manifest() && !needed.contains(&link.digest);
    let unneeded: Vec<_> = links.iter().filter(unneeded).cloned().collect();
    // What is damaged is not among the links, and might be a manifest that needs them all.
    if !unneeded.is_empty() && storage.catalog.has_damaged_link(repository)? {
        return Err(Unsure::Link);
    }
    Ok(unneeded)
}

/// Everything that these manifests name, and the manifests themselves. Each is read once, however many ways lead to it
/// (SECURITY.md S21).
pub(super) fn needed(
    manifests: impl Iterator<Item = (Digest, String)>,
    mut read: impl FnMut(&Digest) -> Result<Option<Bytes>, StorageError>,
) -> Result<HashSet<Digest>, Unsure> {
    let mut needed = HashSet::new();
    let mut seen = HashSet::new();
    // First in, first out: whatever the repository holds itself is looked into before it is met as a child.
    let mut visits: VecDeque<_> =
        manifests.map(|(digest, media_type)| Visit { digest, media_type, held: true }).collect();
    while let Some(Visit { digest, media_type, held }) = visits.pop_front() {
        if !seen.insert(digest) {
            continue;
        }
        needed.insert(digest);
        // Others are opaque, like the layers that some build caches list as children.
        if ![OCI_INDEX, OCI_IMAGE, DOCKER_LIST, DOCKER_IMAGE].contains(&media_type.as_str()) {
            continue;
        }
        let manifest = match read(&digest) {
            Ok(Some(bytes)) => Manifest::parse(&media_type, &bytes),
            Ok(None) if held => return Err(Unsure::Missing(digest)),
            // A sparse index names what is not here, and any index may name what is no manifest.
            Ok(None) => continue,
            Err(StorageError::TooLarge { .. }) if !held => continue,
            Err(error) => return Err(error.into()),
        };
        match manifest {
            Ok(manifest) => {
                needed.extend(manifest.blobs().map(|blob| blob.digest));
                visits.extend(manifest.children().map(|child| Visit {
                    digest: child.digest,
                    media_type: child.media_type.clone(),
                    held: false,
                }));
            }
            Err(error) if held => return Err(Unsure::Manifest(digest, error)),
            // What an index calls a manifest, and is none, needs nothing.
            Err(_) => {}
        }
    }
    Ok(needed)
}
