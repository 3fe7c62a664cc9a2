//! Links: what a repository holds.

use super::{super::pushed::hold_linked, FileCatalog, LinkRecord, checked_link, decode_all, encode, sync};
use crate::{
    oci::{Digest, Repository},
    storage::{
        StorageError, durable,
        index::{Entry, RepositoryKey},
        record,
    },
};

impl FileCatalog {
    /// What the repository knows of the digest; `None` if it does not hold it.
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
        self.create(&self.disk.layout.links(repository))?;
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
        // The folder of tags says that the repository is known, and it is from its first manifest
        // on, not before.
        if records.iter().any(LinkRecord::is_manifest) {
            self.create(&self.disk.layout.tags(repository))?;
        }
        Ok(())
    }

    /// Makes the repository hold the digest no more, durably; the blob stays. Says whether it held
    /// it.
    pub(crate) fn delete_link(&self, repository: &Repository, digest: &Digest) -> Result<bool, StorageError> {
        let _change = self.disk.versions.change(repository);
        let _permission = self.disk.writing()?;
        let path = self.disk.layout.link(repository, digest);
        let _lock = self.lock(repository);
        let tags = self.disk.layout.tags(repository);
        // What was known by this manifest alone stays known.
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

    /// Everything that the repository holds, sorted by the digests.
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

    /// Manifests in the repository that say they belong to `subject`, sorted by their digests: some
    /// that follow `last`, and behind which digest there may be others. From the index they are
    /// `limit` at most; without it all, since every link of the repository is read for them.
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
