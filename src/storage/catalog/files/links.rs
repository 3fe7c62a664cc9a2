//! The links of the catalogue in files: reading, writing and removing their records.
//!
//! Promises: those of `mod.rs`; the contract of each operation stands at `Catalog`. Callers:
//! `Catalog`, and `mod.rs` for the presence of a repository.

use std::fs;

use super::{super::pushed::hold_linked, FileCatalog, LinkRecord, checked_link, decode_all, encode, is_absence, sync};
use crate::{
    oci::{Digest, Namespace, Repository},
    storage::{
        StorageError, durable,
        index::{Entry, RepositoryKey},
        record,
    },
};

impl FileCatalog {
    /// The repository's link of the digest; `None` if it has none, or a damaged one.
    pub(crate) fn link(&self, repository: &Repository, digest: &Digest) -> Result<Option<LinkRecord>, StorageError> {
        let path = self.disk.layout.link(repository, digest);
        if let Some(text) = self.disk.index.link(&RepositoryKey::new(repository), digest)
            && let Some(record) = checked_link(digest, record::decode(&text).ok(), &path)
        {
            return Ok(Some(record));
        }
        Ok(checked_link(digest, record::read(&path)?, &path))
    }

    /// Makes the repository hold the digests, durably: each record is synced, then the folder once.
    /// A record that differs only in its time stays. The digests are leased from now on, except
    /// those of `LinkRight::Named`.
    ///
    /// Errors: [`StorageError::Gone`] if one of `LinkRight::Pushed` is not here, and then nothing
    /// is linked. (Content of the other rights may be missing: it was only named, or upstream has
    /// it.)
    pub(crate) fn put_links(&self, repository: &Repository, records: &[LinkRecord]) -> Result<(), StorageError> {
        if records.is_empty() {
            return Ok(());
        }
        let _hold = hold_linked(&self.disk, records)?;
        let _change = self.disk.versions.change(repository);
        let _permission = self.disk.writing()?;
        let _lock = self.lock(repository);
        let links = self.disk.layout.links(repository);
        if repository.namespace == Namespace::Hosted
            && fs::symlink_metadata(&links).is_err_and(|error| is_absence(&error))
        {
            self.disk.census.begins(&repository.name);
        }
        self.create(&links)?;
        let key = RepositoryKey::new(repository);
        let mut entries = Vec::with_capacity(records.len());
        let mut write = || {
            for record in records {
                let path = self.disk.layout.link(repository, &record.digest);
                let present = checked_link(&record.digest, record::read(&path)?, &path);
                if present.is_some_and(|present| LinkRecord { created: record.created, ..present } == *record) {
                    continue;
                }
                let is_new = !path.exists();
                let text = encode(record, &path)?;
                self.disk.temporaries.replace(&path, &text).map_err(StorageError::io("writing", &path))?;
                if is_new {
                    self.disk.census.linked(repository, &record.digest, &self.disk.layout);
                }
                entries.push(Entry::link(&key, &record.digest, Some(text)));
            }
            Ok(())
        };
        let written = write();
        let synced = sync(&self.disk.layout.links(repository));
        self.disk.index.write(Some(&key), entries);
        written.and(synced)?;
        // The folder of tags says that the repository is known: it is made with the first manifest,
        // not before.
        if records.iter().any(LinkRecord::is_manifest) {
            let tags = self.disk.layout.tags(repository);
            let _birth = (!tags.is_dir()).then(|| self.disk.versions.birth());
            self.create(&tags)?;
        }
        Ok(())
    }

    /// Removes the repository's link of the digest, durably; the blob stays. Says whether the link
    /// was there.
    pub(crate) fn delete_link(&self, repository: &Repository, digest: &Digest) -> Result<bool, StorageError> {
        let _change = self.disk.versions.change(repository);
        let _permission = self.disk.writing()?;
        let path = self.disk.layout.link(repository, digest);
        let _lock = self.lock(repository);
        let tags = self.disk.layout.tags(repository);
        // A repository that is known only by this manifest stays known.
        if !tags.is_dir() && record::read(&path)?.is_some_and(|link: LinkRecord| link.is_manifest()) {
            self.create(&tags)?;
        }
        let was_there = durable::remove(&path).map_err(StorageError::io("removing", &path))?;
        if was_there {
            self.disk.census.unlinked(repository, digest, &self.disk.layout);
        }
        let synced = if was_there { sync(&self.disk.layout.links(repository)) } else { Ok(()) };
        let key = RepositoryKey::new(repository);
        self.disk.index.write(Some(&key), vec![Entry::link(&key, digest, None)]);
        synced.map(|()| was_there)
    }

    /// All of the repository's links, sorted by their digests.
    pub(crate) fn links(&self, repository: &Repository) -> Result<Vec<LinkRecord>, StorageError> {
        let key = RepositoryKey::new(repository);
        let from_index = self.disk.index.link_texts(&key).and_then(|texts| decode_all::<LinkRecord>(&texts));
        let mut records = match from_index {
            Some(records) => records,
            None => {
                let mut records = Vec::new();
                for digest in self.link_files(repository)? {
                    let path = self.disk.layout.link(repository, &digest);
                    records.extend(checked_link(&digest, record::read(&path)?, &path));
                }
                records
            }
        };
        records.sort_unstable_by_key(|record| record.digest);
        Ok(records)
    }

    /// Manifests of the repository whose subject is `subject`, sorted by their digests: some after
    /// `last`, and the digest after which there may be more. With the index they are `limit` at
    /// most. Without it they are all of them, since every link of the repository is read.
    pub(crate) fn referrers_after(
        &self,
        repository: &Repository,
        subject: &Digest,
        last: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<LinkRecord>, Option<Digest>), StorageError> {
        let key = RepositoryKey::new(repository);
        let Some(digests) = self.disk.index.referrers_after(&key, subject, last, limit) else {
            let mut found = self.links(repository)?;
            found.retain(|link| {
                link.subject.as_ref() == Some(subject) && last.is_none_or(|last| *link.digest.to_string() > *last)
            });
            return Ok((found, None));
        };
        let next = digests.last().copied().filter(|_| digests.len() == limit);
        let links = digests.iter().map(|digest| self.link(repository, digest));
        Ok((links.filter_map(Result::transpose).collect::<Result<_, _>>()?, next))
    }
}
