//! Taking away tags, manifests and blobs (distribution-spec, "Content Management"). What is taken away is gone from its
//! repository at once; its bytes go later, when no repository holds them.

use std::sync::Arc;

use super::{Push, PushError, names::hosted};
use crate::{
    oci::{self, Digest, ErrorCode, MAX_MANIFEST_BYTES, NeededError, Repository, Tag},
    storage::StorageError,
};

impl Push {
    /// Takes a tag away; what it named stays.
    pub async fn delete_tag(self: &Arc<Self>, repo: &Repository, tag: Tag) -> Result<(), PushError> {
        hosted(repo)?;
        let (this, repo) = (Arc::clone(self), repo.clone());
        self.to_the_end(async move {
            let _turn = this.turn(&repo).await;
            this.may_go(&repo, std::slice::from_ref(&tag))?;
            let (at, gone) = (repo.clone(), tag.clone());
            if !this.on_disk(move |storage| storage.catalog.delete_tag(&at, &gone)).await? {
                return Err(unknown(ErrorCode::ManifestUnknown, &repo, "no tag", &tag));
            }
            tracing::info!(repo = %repo, %tag, "tag deleted");
            Ok(())
        })
        .await
    }

    /// Takes a manifest away, and every tag that names it, unless an immutable tag needs it.
    pub async fn delete_manifest(self: &Arc<Self>, repo: &Repository, digest: Digest) -> Result<(), PushError> {
        hosted(repo)?;
        let (this, repo) = (Arc::clone(self), repo.clone());
        self.to_the_end(async move {
            let _turn = this.turn(&repo).await;
            if !this.is_manifest(&repo, digest).await?.unwrap_or(false) {
                return Err(unknown(ErrorCode::ManifestUnknown, &repo, "no manifest", &digest));
            }
            let at = repo.clone();
            let tags = this.on_disk(move |storage| storage.catalog.tags_naming(&at, &digest)).await?;
            this.may_go(&repo, &tags)?;
            this.may_lose(&repo, digest).await?;
            let at = repo.clone();
            this.on_disk(move |storage| {
                // Tags first: none may be left that names nothing.
                for tag in &tags {
                    storage.catalog.delete_tag(&at, tag)?;
                }
                storage.catalog.delete_link(&at, &digest)
            })
            .await?;
            tracing::info!(repo = %repo, %digest, "manifest deleted");
            Ok(())
        })
        .await
    }

    /// Takes a blob away, also where manifests of the repository still name it, unless an immutable tag needs it. A manifest
    /// is none.
    pub async fn delete_blob(self: &Arc<Self>, repo: &Repository, digest: Digest) -> Result<(), PushError> {
        hosted(repo)?;
        let (this, repo) = (Arc::clone(self), repo.clone());
        self.to_the_end(async move {
            let _turn = this.turn(&repo).await;
            match this.is_manifest(&repo, digest).await? {
                None => return Err(unknown(ErrorCode::BlobUnknown, &repo, "no blob", &digest)),
                Some(true) => {
                    return Err(PushError::Refused(format!("{digest} is a manifest of {repo}: delete it as one")));
                }
                Some(false) => {}
            }
            this.may_lose(&repo, digest).await?;
            let at = repo.clone();
            this.on_disk(move |storage| storage.catalog.delete_link(&at, &digest)).await?;
            tracing::info!(repo = %repo, %digest, "blob deleted");
            Ok(())
        })
        .await
    }

    /// Whether what the repository holds is a manifest; `None` if it does not hold it.
    async fn is_manifest(&self, repo: &Repository, digest: Digest) -> Result<Option<bool>, PushError> {
        let repo = repo.clone();
        let link = self.on_disk(move |storage| storage.catalog.link(&repo, &digest)).await?;
        Ok(link.map(|link| !link.media_type.is_empty()))
    }

    /// Refuses if one of the tags is immutable.
    fn may_go(&self, repo: &Repository, tags: &[Tag]) -> Result<(), PushError> {
        match tags.iter().find(|tag| self.immutable(repo, tag)) {
            None => Ok(()),
            Some(tag) => Err(PushError::Refused(format!(
                "the tag {tag} of {repo} is immutable (hosted.immutable_tags): neither it nor what it names can be deleted"
            ))),
        }
    }

    /// Refuses if the content is a part of what an immutable tag names, however deep in it (SECURITY.md S7).
    async fn may_lose(&self, repo: &Repository, digest: Digest) -> Result<(), PushError> {
        if self.rules.immutable_tags.is_empty() {
            return Ok(());
        }
        let at = repo.clone();
        let tags = self.on_disk(move |storage| storage.catalog.tag_records(&at)).await?;
        let held: Vec<_> = tags
            .into_iter()
            .filter(|record| self.immutable(repo, &record.tag))
            .map(|record| (record.digest, record.media_type))
            .collect();
        let needed = self
            .on_disk(move |storage| {
                Ok(oci::needed(held.into_iter(), |digest, _| match storage.blobs.read(digest, MAX_MANIFEST_BYTES) {
                    Err(StorageError::TooLarge { .. }) => Ok(None),
                    read => read,
                }))
            })
            .await?;
        match needed {
            Ok(needed) if !needed.contains(&digest) => Ok(()),
            Ok(_) => Err(PushError::Refused(format!(
                "an immutable tag of {repo} (hosted.immutable_tags) names an image that needs {digest}: it cannot be deleted"
            ))),
            Err(NeededError::Read(error)) => Err(error.into()),
            Err(error @ (NeededError::Missing(_) | NeededError::Manifest(..))) => Err(PushError::Refused(format!(
                "it cannot be told what the immutable tags of {repo} (hosted.immutable_tags) need, so nothing can be \
                 deleted: {error}; push it again"
            ))),
        }
    }
}

fn unknown(code: ErrorCode, repo: &Repository, what: &str, which: &dyn std::fmt::Display) -> PushError {
    PushError::Unknown { code, message: format!("{repo} has {what} {which}") }
}
