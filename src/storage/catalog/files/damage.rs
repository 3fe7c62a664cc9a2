//! The look for a damaged link in a repository.
//!
//! Promises: a link that comes or goes meanwhile is not taken for damage. Callers: `Catalog`, for
//! the needs: where a link is damaged, nothing of the repository is garbage.

use super::{FileCatalog, checked_link};
use crate::{
    oci::Repository,
    storage::{StorageError, record},
};

impl FileCatalog {
    /// Whether the repository has a link that cannot be read, so that its links are not all known.
    pub(crate) fn has_damaged_link(&self, repository: &Repository) -> Result<bool, StorageError> {
        for digest in self.link_files(repository)? {
            if self.link(repository, &digest)?.is_none() {
                let path = self.disk.layout.link(repository, &digest);
                // It may have gone, or come back, since it was listed.
                let _lock = self.lock(repository);
                if path.exists() && checked_link(&digest, record::read(&path)?, &path).is_none() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
