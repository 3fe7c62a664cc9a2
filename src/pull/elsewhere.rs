//! The entry for every manifest pull, and the way back for pushed content that has rotted.
//!
//! [`PullThrough::manifest`] is what `http` calls for a manifest by tag or digest. If a hosted
//! repository links a digest that is not on disk, the digest is fetched again from the upstream of
//! a mirrored repository that links it too. The push gave the hosted repository that digest, so its
//! clients get the same bytes as before (S5). `blobs` does the same by `refetched_blob`. Nothing is
//! fetched in `mode = "offline"`.

use std::sync::Arc;

use super::{ManifestAnswer, PullError, PullThrough};
use crate::{
    config::Mode,
    oci::{Accept, Digest, Namespace, Reference, Repository},
};

impl PullThrough {
    /// A manifest by tag or digest.
    pub async fn manifest(
        self: &Arc<Self>,
        repo: &Repository,
        reference: &Reference,
        accept: &Accept<'_>,
    ) -> Result<ManifestAnswer, PullError> {
        match self.find_manifest(repo, reference, accept).await {
            // On the heap: rare, and 288 bytes that other pulls do not need.
            Err(PullError::Unknown { .. }) if Box::pin(self.refetched_manifest(repo, reference)).await => {
                self.find_manifest(repo, reference, accept).await
            }
            found => found,
        }
    }

    /// Whether a blob that a hosted repository holds, and that is not here any more, has been
    /// fetched again.
    pub(super) async fn refetched_blob(self: &Arc<Self>, repo: &Repository, digest: &Digest) -> bool {
        for holder in self.mirrors_of_lost(repo, Reference::Digest(*digest)).await.unwrap_or_default() {
            if self.stored_blob(&holder.0, &holder.1).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// The same for a manifest.
    async fn refetched_manifest(self: &Arc<Self>, repo: &Repository, reference: &Reference) -> bool {
        for holder in self.mirrors_of_lost(repo, reference.clone()).await.unwrap_or_default() {
            if self.by_digest(&holder.0, &holder.1).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// The mirrored repositories that hold what this hosted one has lost, with its digest.
    async fn mirrors_of_lost(
        &self,
        repo: &Repository,
        reference: Reference,
    ) -> Result<Vec<(Repository, Digest)>, PullError> {
        if repo.namespace != Namespace::Hosted || self.mode == Mode::Offline {
            return Ok(Vec::new());
        }
        let digest = match &reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(tag) => self.storage.tag(repo, tag).await?.map(|tag| tag.digest),
        };
        let Some(digest) = digest else { return Ok(Vec::new()) };
        // Rare: the repository links the digest, and it is not here. Only then the others are
        // looked up.
        if self.storage.link(repo, &digest).await?.is_none() || self.storage.size(&digest).await?.is_some() {
            return Ok(Vec::new());
        }
        let holders = self.storage.holders(&digest).await?.into_iter().map(|holder| holder.repository);
        Ok(holders.filter(|holder| holder.namespace != Namespace::Hosted).map(|holder| (holder, digest)).collect())
    }
}
