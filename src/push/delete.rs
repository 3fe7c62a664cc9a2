//! Taking away tags, manifests and blobs (distribution-spec, "Content Management"). What is taken away is gone from its
//! repository at once; its bytes go later, when no repository holds them.

use std::sync::Arc;

use super::{Push, PushError, names::hosted};
use crate::oci::{Digest, ErrorCode, Repository, Tag};

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

    /// Takes a manifest away, and every tag that names it.
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

    /// Takes a blob away, also where manifests of the repository still name it. A manifest is none.
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
}

fn unknown(code: ErrorCode, repo: &Repository, what: &str, which: &dyn std::fmt::Display) -> PushError {
    PushError::Unknown { code, message: format!("{repo} has {what} {which}") }
}
