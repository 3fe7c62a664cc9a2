//! The repositories that link a digest.
//!
//! Promises: [`FileCatalog::is_held`] says "no" only after a look at the files. Callers: `Catalog`;
//! the quarantine, which names them in the log; the rebuild and the check, for the list of all
//! repositories.

use std::fs;

use super::{FileCatalog, checked_link, is_absence};
use crate::{
    oci::{Digest, Repository},
    storage::{StorageError, index::RepositoryKey, record},
};

impl FileCatalog {
    /// The repositories that link the digest, sorted: hosted ones first.
    pub(crate) fn holders(&self, digest: &Digest) -> Result<Vec<Repository>, StorageError> {
        let (mut found, unsure) = match self.disk.index.holders(digest) {
            Some((sure, changing)) => (to_repositories(&sure), to_repositories(&changing)),
            None => (Vec::new(), self.everywhere()?),
        };
        for repository in unsure {
            let path = self.disk.layout.link(&repository, digest);
            if checked_link(digest, record::read(&path)?, &path).is_some() {
                found.push(repository);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Whether a repository has a link of the digest, good or damaged. "No" comes from the files
    /// alone, since the caller removes content because of it.
    pub(in crate::storage) fn is_held(&self, digest: &Digest) -> Result<bool, StorageError> {
        if self.disk.index.holders(digest).is_some_and(|(sure, _)| !sure.is_empty()) {
            return Ok(true);
        }
        for repository in self.everywhere()? {
            let path = self.disk.layout.link(&repository, digest);
            match fs::symlink_metadata(&path) {
                Ok(_) => return Ok(true),
                Err(error) if is_absence(&error) => {}
                Err(error) => return Err(StorageError::io("looking at", &path)(error)),
            }
        }
        Ok(false)
    }

    /// Every repository that has a folder.
    pub(in crate::storage) fn everywhere(&self) -> Result<Vec<Repository>, StorageError> {
        let mut all = Vec::new();
        for namespace in self.namespaces()? {
            let names = self.folders(&namespace)?;
            all.extend(names.into_iter().map(|name| Repository { namespace: namespace.clone(), name }));
        }
        Ok(all)
    }
}

fn to_repositories(keys: &[RepositoryKey]) -> Vec<Repository> {
    keys.iter().filter_map(RepositoryKey::repository).collect()
}
