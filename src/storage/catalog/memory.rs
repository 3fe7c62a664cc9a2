//! The catalogue in memory: the contract of [`Catalog`](super::Catalog) without a file.
//!
//! Promises the same, except that nothing outlives the process. Content stays in files, and a link
//! of a pushed digest is refused without it. Callers: the suite.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    history::TagHistory,
    pushed::hold_linked,
    records::{LinkRecord, Presence, TagRecord},
};
use crate::{
    oci::{Digest, Namespace, Repository, RepositoryName, Tag},
    storage::{StorageError, disk::Disk},
};

/// The tags and links of every repository, in maps.
#[derive(Debug)]
pub(crate) struct MemoryCatalog {
    disk: Arc<Disk>,
    repositories: Mutex<BTreeMap<Repository, Records>>,
}

/// One repository. It stays when its last record has gone.
#[derive(Debug, Default)]
struct Records {
    /// It has had a manifest or a tag.
    known: bool,
    tags: BTreeMap<Tag, TagHistory>,
    links: BTreeMap<Digest, LinkRecord>,
}

impl MemoryCatalog {
    pub(in crate::storage) fn new(disk: Arc<Disk>) -> Self {
        MemoryCatalog { disk, repositories: Mutex::default() }
    }

    pub(super) fn version(&self, repository: &Repository) -> u64 {
        self.disk.versions.of(repository)
    }

    pub(super) fn presence(&self, repository: &Repository) -> Presence {
        match self.lock().get(repository) {
            Some(records) if records.known => Presence::Known,
            Some(_) => Presence::Begun,
            None => Presence::Absent,
        }
    }

    pub(super) fn holds(&self, repository: &Repository, digest: &Digest) -> bool {
        self.lock().get(repository).is_some_and(|records| records.links.contains_key(digest))
    }

    pub(super) fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagRecord>, StorageError> {
        Ok(self.lock().get(repository).and_then(|records| records.tags.get(tag).map(|seen| seen.record.clone())))
    }

    pub(super) fn tag_history(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagHistory>, StorageError> {
        Ok(self.lock().get(repository).and_then(|records| records.tags.get(tag).cloned()))
    }

    pub(super) fn tag_histories(&self, repository: &Repository) -> Result<Vec<TagHistory>, StorageError> {
        Ok(self.lock().get(repository).map(|records| records.tags.values().cloned().collect()).unwrap_or_default())
    }

    pub(super) fn put_tag(&self, repository: &Repository, record: &TagRecord) -> Result<(), StorageError> {
        let _change = self.disk.versions.change(repository);
        let _permission = self.disk.writing()?;
        let mut repositories = self.lock();
        let records = repositories.entry(repository.clone()).or_default();
        let _birth = (!records.known).then(|| self.disk.versions.birth());
        records.known = true;
        let seen = TagHistory::moved(records.tags.remove(&record.tag), record);
        records.tags.insert(record.tag.clone(), seen);
        Ok(())
    }

    pub(super) fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool, StorageError> {
        let _change = self.disk.versions.change(repository);
        let _permission = self.disk.writing()?;
        Ok(self.lock().get_mut(repository).is_some_and(|records| records.tags.remove(tag).is_some()))
    }

    pub(super) fn tags_after(
        &self,
        repository: &Repository,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Tag>, StorageError> {
        let records = self.tag_records(repository)?.into_iter();
        let tags = records.map(|record| record.tag).filter(|tag| last.is_none_or(|last| tag.as_str() > last));
        Ok(tags.take(limit).collect())
    }

    pub(super) fn tag_records(&self, repository: &Repository) -> Result<Vec<TagRecord>, StorageError> {
        let histories = self.tag_histories(repository)?.into_iter();
        Ok(histories.map(|seen| seen.record).collect())
    }

    pub(super) fn link(&self, repository: &Repository, digest: &Digest) -> Result<Option<LinkRecord>, StorageError> {
        Ok(self.lock().get(repository).and_then(|records| records.links.get(digest).cloned()))
    }

    pub(super) fn put_links(&self, repository: &Repository, records: &[LinkRecord]) -> Result<(), StorageError> {
        if records.is_empty() {
            return Ok(());
        }
        let _hold = hold_linked(&self.disk, records)?;
        let _change = self.disk.versions.change(repository);
        let _permission = self.disk.writing()?;
        let mut repositories = self.lock();
        let present = repositories.entry(repository.clone()).or_default();
        for record in records {
            let _birth = (record.is_manifest() && !present.known).then(|| self.disk.versions.birth());
            present.known |= record.is_manifest();
            let is_there = |there: &LinkRecord| LinkRecord { created: record.created, ..there.clone() } == *record;
            if !present.links.get(&record.digest).is_some_and(is_there) {
                present.links.insert(record.digest, record.clone());
            }
        }
        Ok(())
    }

    pub(super) fn delete_link(&self, repository: &Repository, digest: &Digest) -> Result<bool, StorageError> {
        let _change = self.disk.versions.change(repository);
        let _permission = self.disk.writing()?;
        Ok(self.lock().get_mut(repository).is_some_and(|records| records.links.remove(digest).is_some()))
    }

    pub(super) fn links(&self, repository: &Repository) -> Result<Vec<LinkRecord>, StorageError> {
        Ok(self.lock().get(repository).map(|records| records.links.values().cloned().collect()).unwrap_or_default())
    }

    pub(super) fn tag_files(&self, repository: &Repository) -> Result<Vec<Tag>, StorageError> {
        self.tags_after(repository, None, usize::MAX)
    }

    pub(super) fn link_files(&self, repository: &Repository) -> Result<Vec<Digest>, StorageError> {
        Ok(self.links(repository)?.into_iter().map(|link| link.digest).collect())
    }

    pub(super) fn referrers_after(
        &self,
        repository: &Repository,
        subject: &Digest,
        last: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<LinkRecord>, Option<Digest>), StorageError> {
        let mut found = self.links(repository)?;
        found.retain(|link| {
            link.subject.as_ref() == Some(subject) && last.is_none_or(|last| *link.digest.to_string() > *last)
        });
        found.truncate(limit);
        let next = found.last().map(|link| link.digest).filter(|_| found.len() == limit);
        Ok((found, next))
    }

    pub(super) fn has_damaged_link(&self, _: &Repository) -> Result<bool, StorageError> {
        Ok(false)
    }

    pub(super) fn holders(&self, digest: &Digest) -> Result<Vec<Repository>, StorageError> {
        let repositories = self.lock();
        let holding = repositories.iter().filter(|(_, records)| records.links.contains_key(digest));
        Ok(holding.map(|(repository, _)| repository.clone()).collect())
    }

    pub(super) fn is_held(&self, digest: &Digest) -> Result<bool, StorageError> {
        Ok(self.lock().values().any(|records| records.links.contains_key(digest)))
    }

    pub(super) fn repositories_after(
        &self,
        namespace: &Namespace,
        last: Option<&RepositoryName>,
        limit: usize,
    ) -> Result<Vec<RepositoryName>, StorageError> {
        let repositories = self.lock();
        let of = |name: &RepositoryName| Repository { namespace: namespace.clone(), name: name.clone() };
        let from = last.map_or(Bound::Unbounded, |last| Bound::Excluded(of(last)));
        let here = repositories.range((from, Bound::Unbounded)).filter(|(repository, records)| {
            repository.namespace == *namespace && (!records.tags.is_empty() || !records.links.is_empty())
        });
        Ok(here.map(|(repository, _)| repository.name.clone()).take(limit).collect())
    }

    pub(super) fn folders(&self, namespace: &Namespace) -> Result<Vec<RepositoryName>, StorageError> {
        let repositories = self.lock();
        let of = repositories.keys().filter(|repository| repository.namespace == *namespace);
        Ok(of.map(|repository| repository.name.clone()).collect())
    }

    pub(super) fn namespaces(&self) -> Result<Vec<Namespace>, StorageError> {
        let all: BTreeSet<_> = self.lock().keys().map(|repository| repository.namespace.clone()).collect();
        Ok(all.into_iter().collect())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Repository, Records>> {
        self.repositories.lock()
    }
}
