//! Looks at one digest, for an operator: what a repository has to do with it, and what an
//! unfinished download left of it. A look is no use. Callers: the administration.

use std::fs;

use super::{Files, LinkRecord, Storage, StorageError};
use crate::oci::{Digest, MAX_MANIFEST_BYTES, Manifest, Repository, Tag};

/// What a repository has to do with a digest.
#[derive(Debug)]
pub struct Relation {
    /// The repository's record of it.
    pub link: Option<LinkRecord>,
    /// The tags that name it.
    pub tags: Vec<Tag>,
    /// The manifests of the repository that name it and can be read, in the order of digests.
    pub named_by: Vec<Digest>,
}

impl Storage {
    /// What the repository has to do with the digest. Reads the repository's manifests.
    ///
    /// # Errors
    /// The disk's.
    pub async fn relation(&self, repository: &Repository, digest: &Digest) -> Result<Relation, StorageError> {
        let (repository, digest) = (repository.clone(), *digest);
        self.read_with(move |files| relation(files, &repository, &digest)).await
    }

    /// The bytes that an unfinished download left of a digest; `None`: there is none, or one is
    /// under way. One look at the disk.
    ///
    /// # Errors
    /// [`StorageError::Lost`].
    pub async fn leftover(&self, digest: &Digest) -> Result<Option<u64>, StorageError> {
        let digest = *digest;
        self.read_with(move |files| {
            let part = files.downloads.leftover_file(&digest);
            Ok(part.and_then(|path| fs::metadata(path).ok()).map(|metadata| metadata.len()))
        })
        .await
    }
}

fn relation(files: &Files, repository: &Repository, digest: &Digest) -> Result<Relation, StorageError> {
    let tags = files.catalog.tag_records(repository)?.into_iter();
    let tags = tags.filter(|record| record.digest == *digest).map(|record| record.tag).collect();
    let mut named_by = Vec::new();
    for link in files.catalog.links(repository)?.into_iter().filter(LinkRecord::is_manifest) {
        // What cannot be read names nothing.
        let Ok(Some(bytes)) = files.blobs.read_unnoticed(&link.digest, MAX_MANIFEST_BYTES) else { continue };
        let manifest = Manifest::parse(&link.media_type, &bytes);
        if manifest.is_ok_and(|manifest| manifest.parts().any(|part| part.digest == *digest)) {
            named_by.push(link.digest);
        }
    }
    named_by.sort_unstable();
    Ok(Relation { link: files.catalog.link(repository, digest)?, tags, named_by })
}
