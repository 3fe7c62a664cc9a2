//! Kept content: what an image needs that is not to be evicted; and the tags and pins that say so.
//!
//! Callers: the retention, which gathers all of it into one set.

use std::collections::HashSet;

use crate::{
    oci::{Digest, Repository, Tag},
    storage::{Pin, Storage, StorageError, Unsure, Wanted, kept_content},
};

impl Storage {
    /// Everything that these images of the repository need, as far as they are here; with the
    /// manifests, and those that refer to them.
    ///
    /// # Errors
    /// [`Unsure`]: it cannot be told. Then nothing of [`everything_of`](Self::everything_of) may
    /// go.
    pub async fn kept_content(&self, repository: &Repository, wanted: Vec<Wanted>) -> Result<HashSet<Digest>, Unsure> {
        let repository = repository.clone();
        self.read_with(move |files| Ok(kept_content::kept_content(files, &repository, &wanted))).await?
    }

    /// All content that the repository has to do with, as far as it can be told.
    ///
    /// # Errors
    /// Its links cannot be listed.
    pub async fn everything_of(&self, repository: &Repository) -> Result<HashSet<Digest>, StorageError> {
        let repository = repository.clone();
        self.read_with(move |files| kept_content::everything_of(files, &repository)).await
    }

    /// The repository's tags that have a record, good or damaged, in no order.
    ///
    /// # Errors
    /// The disk's.
    pub async fn tag_names(&self, repository: &Repository) -> Result<Vec<Tag>, StorageError> {
        let repository = repository.clone();
        self.read_with(move |files| files.catalog.tag_files(&repository)).await
    }

    /// The pins of a repository; `None`: one of them cannot be read.
    ///
    /// # Errors
    /// [`StorageError::Lost`].
    pub async fn pins_of(&self, repository: &Repository) -> Result<Option<Vec<Pin>>, StorageError> {
        let repository = repository.clone();
        self.read_with(move |files| Ok(files.pins.of(&repository))).await
    }

    /// A number that rises when a repository becomes known, before that is acknowledged. From
    /// memory.
    pub fn births(&self) -> u64 {
        self.files.disk.versions.births()
    }
}
