//! What manifests need: everything that they name, and that what they name names in turn.

use std::collections::{HashSet, VecDeque};

use super::{Digest, Manifest, ManifestError, is_manifest};

/// Why it cannot be told what manifests need.
#[derive(Debug, thiserror::Error)]
pub enum NeededError<E> {
    /// One of the manifests is not there.
    #[error("the manifest {0} is missing")]
    Missing(Digest),
    /// One of them is none.
    #[error("the manifest {0} cannot be read: {1}")]
    Manifest(Digest, ManifestError),
    /// The reading failed.
    #[error(transparent)]
    Read(#[from] E),
}

/// A manifest to look into.
struct Visit {
    digest: Digest,
    /// What it is kept as; `None` for a child, which is what its bytes say.
    media_type: Option<String>,
}

/// Everything that these manifests name, and the manifests themselves. Each is read once, however many ways lead to it
/// (SECURITY.md S21).
///
/// `read` gives the bytes of a manifest, or `None` where there are none; it is told whether it is one of `manifests`, which
/// must be there and be what they are said to be. A child need not: a sparse index names what is not here, and any index may
/// name what is no manifest. Manifests of types that lanyard does not know are opaque, and are not read.
///
/// # Errors
/// One of `manifests` is missing or none, or the reading failed.
pub fn needed<B: AsRef<[u8]>, E>(
    manifests: impl Iterator<Item = (Digest, String)>,
    mut read: impl FnMut(&Digest, bool) -> Result<Option<B>, E>,
) -> Result<HashSet<Digest>, NeededError<E>> {
    let mut needed = HashSet::new();
    let mut seen = HashSet::new();
    // First in, first out: the manifests themselves are looked into before they are met as children.
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
            // A child is looked into as a client would that gets it, whatever the index calls it.
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
