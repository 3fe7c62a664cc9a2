//! What clients get for tags, as the entries of a lock file. Called by `/api/v1/lock`; `lanyard
//! lock` reads the answer.
//!
//! A tag names what lanyard last saw it name, or what a rule freezes it at; no upstream is asked.
//! The tags are those of mirrored images: a pushed one names what the team pushed. To look is no
//! use of an image.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Admin;
use crate::{
    config::LockedImage,
    names::Image,
    oci::{Digest, ErrorCode, Manifest, Namespace, RegistryError, Repository, Tag},
    pull::Ruled,
    runtime::clock,
    storage::{LinkRecord, StorageError},
};

/// `/api/v1/lock`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Locked {
    /// What clients get for the tags, sorted by name.
    pub images: Vec<LockedImage>,
    /// The images that were asked for and are not here.
    pub unknown: Vec<String>,
    /// The tags that a rule freezes, and that clients are told to be unknown.
    #[serde(default)]
    pub refused: Vec<String>,
}

/// The tags of a repository that lock files freeze.
type OfFiles = [(Tag, LockedImage)];

impl Admin {
    /// What clients get for the tags of these images; without images, for all tags of mirrored
    /// repositories that are here.
    ///
    /// # Errors
    /// One of them is no image, has no tag, or is hosted: 400 and its like. The disk's.
    pub async fn lock(&self, images: &[String]) -> Result<Locked, RegistryError> {
        let mut locked = if images.is_empty() { self.lock_all().await? } else { self.lock_these(images).await? };
        locked.images.sort_by(|a, b| a.name.cmp(&b.name));
        locked.images.dedup_by(|a, b| a.name == b.name);
        Ok(locked)
    }

    async fn lock_these(&self, images: &[String]) -> Result<Locked, RegistryError> {
        let mut locked = Locked::default();
        for text in images {
            let Image { repository, tag, .. } = match self.image(text) {
                Ok(image) => image,
                // A lock file may be of another lanyard, with other upstreams.
                Err(error) if error.code == ErrorCode::NameUnknown => {
                    locked.unknown.push(text.clone());
                    continue;
                }
                Err(error) => return Err(error.with_status(400)),
            };
            let bad = |what| RegistryError::new(ErrorCode::Unsupported, format!("{text}: {what}")).with_status(400);
            let tag = tag.ok_or_else(|| bad("it has no tag, so there is nothing to lock"))?;
            if repository.namespace == Namespace::Hosted {
                return Err(bad("it is pushed here, and a lock file is about images of upstreams"));
            }
            let of_files = self.pull.locked(&repository);
            self.lock_one(&repository, &tag, &of_files, &mut locked).await.map_err(told)?;
        }
        Ok(locked)
    }

    async fn lock_all(&self) -> Result<Locked, RegistryError> {
        let mut locked = Locked::default();
        for namespace in self.storage.namespaces().await.map_err(told)? {
            if namespace == Namespace::Hosted {
                continue;
            }
            for name in self.storage.repositories(&namespace, None, usize::MAX).await.map_err(told)? {
                let repository = Repository { namespace: namespace.clone(), name };
                self.lock_repository(&repository, &mut locked).await.map_err(told)?;
            }
        }
        // A damaged record names nothing.
        locked.unknown.clear();
        Ok(locked)
    }

    async fn lock_repository(&self, repository: &Repository, locked: &mut Locked) -> Result<(), StorageError> {
        let of_files = self.pull.locked(repository);
        let mut tags: BTreeSet<_> = self.storage.tag_names(repository).await?.into_iter().collect();
        // A tag of a lock file is served without a record of its own.
        for (tag, LockedImage { digest, .. }) in &of_files {
            if self.storage.link(repository, digest).await?.is_some_and(|link| link.is_held()) {
                tags.insert(tag.clone());
            }
        }
        for tag in tags {
            self.lock_one(repository, &tag, &of_files, locked).await?;
        }
        Ok(())
    }

    /// Adds what clients get for a tag.
    async fn lock_one(
        &self,
        repository: &Repository,
        tag: &Tag,
        of_files: &OfFiles,
        locked: &mut Locked,
    ) -> Result<(), StorageError> {
        let name = format!("{repository}:{tag}");
        let seen = self.storage.tag_history(repository, tag).await?;
        let digest = match self.pull.ruled(repository, tag).await? {
            Ruled::Frozen(digest) => Some(digest),
            Ruled::Free => seen.as_ref().map(|seen| seen.record.digest),
            Ruled::Refused => {
                locked.refused.push(name);
                return Ok(());
            }
        };
        let Some(digest) = digest else {
            locked.unknown.push(name);
            return Ok(());
        };
        // What is not known here, the file may know that says so.
        let of_file = of_files.iter().find(|(locked, image)| locked == tag && image.digest == digest);
        let since = seen.and_then(|seen| seen.since_it_named(&digest)).map(clock::day);
        let platforms = self.platforms(repository, &digest).await?;
        locked.images.push(LockedImage {
            name,
            digest,
            platforms: platforms.or(of_file.map(|(_, image)| image.platforms.clone())).unwrap_or_default(),
            seen: since.or(of_file.and_then(|(_, image)| image.seen.clone())),
        });
        Ok(())
    }

    /// The platforms of a manifest; `None`: it is not here.
    async fn platforms(&self, repository: &Repository, digest: &Digest) -> Result<Option<Vec<String>>, StorageError> {
        let Some(bytes) = self.storage.read_unnoticed(digest).await? else { return Ok(None) };
        let link = self.storage.link(repository, digest).await?;
        let told = link.filter(LinkRecord::is_manifest).map(|link| link.media_type);
        let media_type = told.unwrap_or_else(|| Manifest::sniff(&bytes));
        Ok(Some(Manifest::parse(&media_type, &bytes).as_ref().map(platforms).unwrap_or_default()))
    }
}

/// The platforms of an index, sorted. Attestations are of none.
fn platforms(manifest: &Manifest) -> Vec<String> {
    let platforms = manifest.manifests.iter().flatten().filter_map(|child| child.platform.as_ref());
    let known = platforms.filter(|platform| !platform.os.is_empty() && platform.os != "unknown");
    let mut texts: Vec<_> = known
        .map(|platform| {
            let variant = platform.variant.as_ref().map_or_else(String::new, |variant| format!("/{variant}"));
            format!("{}/{}{variant}", platform.os, platform.architecture)
        })
        .collect();
    texts.sort_unstable();
    texts.dedup();
    texts
}

fn told(error: StorageError) -> RegistryError {
    RegistryError::new(ErrorCode::Unknown, error.to_string())
}
