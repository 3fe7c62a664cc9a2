//! All content that manifests need: the content that they name, and so on through their children.
//! The collector and the deletion of manifests use it; `read` gives them the bytes.

use std::collections::{HashSet, VecDeque};

use super::{Digest, Manifest, ManifestError, is_manifest};

/// Why the needed content is not known.
#[derive(Debug, thiserror::Error)]
pub enum NeededError<E> {
    /// One of the manifests is missing.
    #[error("the manifest {0} is missing")]
    Missing(Digest),
    /// One of them is not a manifest.
    #[error("the manifest {0} cannot be read: {1}")]
    Manifest(Digest, ManifestError),
    /// The reading failed.
    #[error(transparent)]
    Read(#[from] E),
}

/// A manifest to look into.
struct Visit {
    digest: Digest,
    /// The type that it is stored as. `None`: a child, whose bytes tell its type.
    media_type: Option<String>,
}

/// The digests of these manifests and of all content that they need. Each manifest is read once,
/// however many others name it (SECURITY.md S21).
///
/// `read` gives the bytes of a manifest, or `None` if they are missing. Its second argument says
/// whether the manifest is one of `manifests`; these have to be here and be of their type. A child
/// may be missing, because a sparse index names missing content, and it may be no manifest.
/// Manifests of types that lanyard does not know are opaque, and are not read.
///
/// # Errors
/// One of `manifests` is missing or is not a manifest, or the reading failed.
pub fn needed<B: AsRef<[u8]>, E>(
    manifests: impl Iterator<Item = (Digest, String)>,
    mut read: impl FnMut(&Digest, bool) -> Result<Option<B>, E>,
) -> Result<HashSet<Digest>, NeededError<E>> {
    let mut needed = HashSet::new();
    let mut seen = HashSet::new();
    // First in, first out: the manifests themselves come before the same ones as children.
    let mut visits: VecDeque<_> =
        manifests.map(|(digest, media_type)| Visit { digest, media_type: Some(media_type) }).collect();
    while let Some(Visit { digest, media_type }) = visits.pop_front() {
        if !seen.insert(digest) {
            continue;
        }
        needed.insert(digest);
        if media_type.as_deref().is_some_and(|media_type| !is_manifest(media_type)) {
            continue;
        }
        let bytes = match (read(&digest, media_type.is_some())?, &media_type) {
            (Some(bytes), _) => bytes,
            (None, Some(_)) => return Err(NeededError::Missing(digest)),
            (None, None) => continue,
        };
        let bytes = bytes.as_ref();
        let manifest = match &media_type {
            Some(media_type) => {
                Manifest::parse(media_type, bytes).map_err(|error| NeededError::Manifest(digest, error))?
            }
            // A child is read as a client would read it, whatever type the index gives it.
            None => match Manifest::parse(&Manifest::sniff(bytes), bytes) {
                Ok(manifest) => manifest,
                Err(_) => continue,
            },
        };
        needed.extend(manifest.blobs().map(|blob| blob.digest));
        visits.extend(manifest.children().map(|child| Visit { digest: child.digest, media_type: None }));
    }
    Ok(needed)
}
