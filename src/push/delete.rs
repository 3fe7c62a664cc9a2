//! Deleting tags, manifests and blobs (distribution-spec, "Content Management").
//!
//! A deletion removes the tag or the link from its repository at once. The collector
//! ([`retention`](crate::retention)) removes the bytes later, when no repository holds them.
//! Nothing that an immutable tag needs can be deleted (S7). Called by http.

use std::sync::Arc;

use super::{Push, PushError, names::hosted};
use crate::{
    oci::{Digest, ErrorCode, Repository, Tag},
    storage::{Change, Expectation, TagRecord, Unsure},
};

impl Push {
    /// Deletes a tag. Its manifest stays.
    pub async fn delete_tag(self: &Arc<Self>, repo: &Repository, tag: Tag) -> Result<(), PushError> {
        hosted(repo)?;
        let (this, repo) = (Arc::clone(self), repo.clone());
        self.run_detached(async move {
            let _turn = this.lock_repository(&repo).await;
            this.check_deletable(&repo, std::slice::from_ref(&tag))?;
            let change = Change { untag: vec![tag.clone()], ..Change::of(&repo) };
            if !this.storage.commit(change).await? {
                return Err(unknown(ErrorCode::ManifestUnknown, &repo, "no tag", &tag));
            }
            tracing::info!(repo = %repo, %tag, "tag deleted");
            Ok(())
        })
        .await
    }

    /// Deletes a manifest and every tag that names it, unless an immutable tag needs the manifest.
    pub async fn delete_manifest(self: &Arc<Self>, repo: &Repository, digest: Digest) -> Result<(), PushError> {
        hosted(repo)?;
        let (this, repo) = (Arc::clone(self), repo.clone());
        self.run_detached(async move {
            let _turn = this.lock_repository(&repo).await;
            if !this.is_manifest(&repo, digest).await?.unwrap_or(false) {
                return Err(unknown(ErrorCode::ManifestUnknown, &repo, "no manifest", &digest));
            }
            let records = this.storage.tag_records(&repo).await?;
            let tags: Vec<_> = records.iter().filter(|record| record.digest == digest).map(|r| r.tag.clone()).collect();
            this.check_deletable(&repo, &tags)?;
            this.check_unneeded(&repo, digest, records).await?;
            let expect = vec![Expectation::NamedBy(digest, tags.clone())];
            this.storage.commit(Change { expect, untag: tags, unlink: vec![digest], ..Change::of(&repo) }).await?;
            tracing::info!(repo = %repo, %digest, "manifest deleted");
            Ok(())
        })
        .await
    }

    /// Deletes a blob, also where manifests of the repository still name it, unless an immutable
    /// tag needs it. A manifest is not deleted as a blob.
    pub async fn delete_blob(self: &Arc<Self>, repo: &Repository, digest: Digest) -> Result<(), PushError> {
        hosted(repo)?;
        let (this, repo) = (Arc::clone(self), repo.clone());
        self.run_detached(async move {
            let _turn = this.lock_repository(&repo).await;
            match this.is_manifest(&repo, digest).await? {
                None => return Err(unknown(ErrorCode::BlobUnknown, &repo, "no blob", &digest)),
                Some(true) => {
                    return Err(PushError::Refused(format!(
                        "{digest} is a manifest of {repo}: delete it as a manifest"
                    )));
                }
                Some(false) => {}
            }
            let records = this.storage.tag_records(&repo).await?;
            this.check_unneeded(&repo, digest, records).await?;
            this.storage.commit(Change { unlink: vec![digest], ..Change::of(&repo) }).await?;
            tracing::info!(repo = %repo, %digest, "blob deleted");
            Ok(())
        })
        .await
    }

    /// Whether the repository holds the digest as a manifest; `None` if it does not hold it.
    async fn is_manifest(&self, repo: &Repository, digest: Digest) -> Result<Option<bool>, PushError> {
        let link = self.storage.link(repo, &digest).await?;
        Ok(link.map(|link| !link.media_type.is_empty()))
    }

    /// Refuses if one of the tags is immutable.
    fn check_deletable(&self, repo: &Repository, tags: &[Tag]) -> Result<(), PushError> {
        match tags.iter().find(|tag| self.immutable(repo, tag)) {
            None => Ok(()),
            Some(tag) => Err(PushError::Refused(format!(
                "the tag {tag} of {repo} is immutable (hosted.immutable_tags): neither it nor what it names can be deleted"
            ))),
        }
    }

    /// Refuses if an immutable tag of `tags` needs the content, at any depth (SECURITY.md S7).
    async fn check_unneeded(&self, repo: &Repository, digest: Digest, tags: Vec<TagRecord>) -> Result<(), PushError> {
        let kept: Vec<_> = tags
            .into_iter()
            .filter(|record| self.immutable(repo, &record.tag))
            .map(|record| (record.digest, record.media_type))
            .collect();
        if kept.is_empty() {
            return Ok(());
        }
        match self.storage.needed_by(kept).await {
            Ok(needed) if !needed.contains(&digest) => Ok(()),
            Ok(_) => Err(PushError::Refused(format!(
                "an immutable tag of {repo} (hosted.immutable_tags) names an image that needs {digest}: it cannot be deleted"
            ))),
            Err(Unsure::Storage(error)) => Err(error.into()),
            Err(error @ (Unsure::Missing(_) | Unsure::Manifest(..) | Unsure::Pin | Unsure::Tag(_) | Unsure::Link)) => {
                Err(PushError::Refused(format!(
                    "lanyard cannot tell what the immutable tags of {repo} (hosted.immutable_tags) need, so nothing can \
                 be deleted: {error}; push it again"
                )))
            }
        }
    }
}

fn unknown(code: ErrorCode, repo: &Repository, what: &str, which: &dyn std::fmt::Display) -> PushError {
    PushError::Unknown { code, message: format!("{repo} has {what} {which}") }
}
