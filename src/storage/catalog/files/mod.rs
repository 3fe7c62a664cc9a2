//! The catalogue in the data folder: a file per record, and the index over them.
//!
//! Promises: what a write acknowledges is in a synced file before it returns, and readable from
//! then on. A damaged record reads as absent and is reported. Reads come from the index where it is
//! sure, else from the files, with the same answers. Writes change the file first, then the index,
//! under a lock per repository. The rebuild takes that lock as well, so it never puts an older
//! record over a newer one. The contract of each operation stands at [`Catalog`](super::Catalog).
//!
//! Callers: [`Catalog`](super::Catalog); the rebuild, the check and the rot for what only files
//! have.

mod damage;
mod holders;
mod links;
#[cfg(test)]
mod tests;

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::Path,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    history::TagHistory,
    records::{LinkRecord, Presence, TagRecord},
};
use crate::{
    oci::{Digest, Namespace, Repository, RepositoryName, Tag},
    storage::{
        StorageError,
        disk::Disk,
        durable,
        index::{Entry, RepositoryKey},
        names,
        record::{self, report},
    },
};

/// The number of locks that all repositories share, each by the hash of its name.
const LOCKS: usize = 64;

/// The tags and links of every repository, as files.
#[derive(Clone, Debug)]
pub(crate) struct FileCatalog {
    disk: Arc<Disk>,
    locks: Arc<Vec<Mutex<()>>>,
}

impl FileCatalog {
    pub(in crate::storage) fn new(disk: Arc<Disk>) -> Self {
        FileCatalog { disk, locks: Arc::new((0..LOCKS).map(|_| Mutex::new(())).collect()) }
    }

    /// As [`Catalog::version`](super::Catalog::version).
    pub(crate) fn version(&self, repository: &Repository) -> u64 {
        self.disk.versions.of(repository)
    }

    /// The tag's record; `None` if there is none, or a damaged one.
    pub(crate) fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagRecord>, StorageError> {
        let path = self.disk.layout.tag(repository, tag);
        if let Some(text) = self.disk.index.tag(&RepositoryKey::new(repository), tag)
            && let Some(record) = checked_tag(tag, record::decode(&text).ok(), &path)
        {
            return Ok(Some(record));
        }
        Ok(checked_tag(tag, record::read(&path)?, &path))
    }

    /// What the tag has named so far, from its file; `None` if there is none, or a damaged one.
    pub(crate) fn tag_history(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagHistory>, StorageError> {
        let path = self.disk.layout.tag(repository, tag);
        Ok(record::read::<TagHistory>(&path)?.filter(|seen| is_of(tag, &seen.record, &path)))
    }

    /// The same of all of the repository's tags, sorted by the tags' bytes.
    pub(crate) fn tag_histories(&self, repository: &Repository) -> Result<Vec<TagHistory>, StorageError> {
        let mut tags = self.tag_files(repository)?;
        tags.sort_unstable();
        let mut histories = Vec::with_capacity(tags.len());
        for tag in tags {
            histories.extend(self.tag_history(repository, &tag)?);
        }
        Ok(histories)
    }

    /// Makes the tag name what the record says, durably.
    pub(crate) fn put_tag(&self, repository: &Repository, record: &TagRecord) -> Result<(), StorageError> {
        let _change = self.disk.versions.change(repository);
        let _permission = self.disk.writing()?;
        let path = self.disk.layout.tag(repository, &record.tag);
        let text = encode(record, &path)?;
        let tags = self.disk.layout.tags(repository);
        let _birth = (!tags.is_dir()).then(|| self.disk.versions.birth());
        let _lock = self.lock(repository);
        self.create(&tags)?;
        let whole = self.text_of_move(repository, record, &path)?;
        self.disk.temporaries.replace(&path, &whole).map_err(StorageError::io("writing", &path))?;
        let synced = sync(&self.disk.layout.tags(repository));
        // Also after a failed sync the file is there, and the index says what the files say.
        let key = RepositoryKey::new(repository);
        self.disk.index.write(Some(&key), vec![Entry::tag(&key, &record.tag, Some(text))]);
        synced
    }

    /// The text of a tag's file after a move: the record, and what the tag named before. A file
    /// that cannot be read is replaced, as if the tag were new.
    fn text_of_move(&self, repository: &Repository, record: &TagRecord, path: &Path) -> Result<Vec<u8>, StorageError> {
        let before = self.tag_history(repository, &record.tag).unwrap_or_else(|error| {
            report(path, &error);
            None
        });
        let mut seen = TagHistory::moved(before, record);
        loop {
            let text = encode(&seen, path)?;
            if text.len() <= record::MAX_BYTES as usize || seen.before.is_empty() {
                return Ok(text);
            }
            seen.forget_one();
        }
    }

    /// Removes the tag, durably; the link and the content that it named stay. Says whether it was
    /// there.
    pub(crate) fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool, StorageError> {
        let _change = self.disk.versions.change(repository);
        let _permission = self.disk.writing()?;
        let path = self.disk.layout.tag(repository, tag);
        let _lock = self.lock(repository);
        let was_there = durable::remove(&path).map_err(StorageError::io("removing", &path))?;
        let synced = if was_there { sync(&self.disk.layout.tags(repository)) } else { Ok(()) };
        let key = RepositoryKey::new(repository);
        self.disk.index.write(Some(&key), vec![Entry::tag(&key, tag, None)]);
        synced.map(|()| was_there)
    }

    /// The repository's first `limit` tags that sort after `last`, by their bytes.
    pub(crate) fn tags_after(
        &self,
        repository: &Repository,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Tag>, StorageError> {
        if let Some(tags) = self.disk.index.tags_after(&RepositoryKey::new(repository), last, limit) {
            return Ok(tags);
        }
        let mut names = self.tag_files(repository)?;
        names.retain(|tag| last.is_none_or(|last| tag.as_str() > last));
        names.sort_unstable();
        let mut tags = Vec::new();
        for tag in names {
            if tags.len() >= limit {
                break;
            }
            let path = self.disk.layout.tag(repository, &tag);
            if checked_tag(&tag, record::read(&path)?, &path).is_some() {
                tags.push(tag);
            }
        }
        Ok(tags)
    }

    /// The records of the repository's tags, sorted by the tags' bytes.
    pub(crate) fn tag_records(&self, repository: &Repository) -> Result<Vec<TagRecord>, StorageError> {
        let key = RepositoryKey::new(repository);
        if let Some(records) = self.disk.index.tag_texts(&key).and_then(|texts| decode_all(&texts)) {
            return Ok(records);
        }
        let mut records = Vec::new();
        for tag in self.tag_files(repository)? {
            let path = self.disk.layout.tag(repository, &tag);
            records.extend(checked_tag(&tag, record::read(&path)?, &path));
        }
        records.sort_unstable_by(|a, b| a.tag.cmp(&b.tag));
        Ok(records)
    }

    /// As [`Catalog::presence`](super::Catalog::presence): one look at the disk, or two. Only where
    /// there are blobs and no folder of tags the links are read.
    pub(crate) fn presence(&self, repository: &Repository) -> Presence {
        match fs::metadata(self.disk.layout.tags(repository)) {
            Ok(metadata) if metadata.is_dir() => Presence::Known,
            Ok(_) => Presence::Begun,
            Err(error) if is_absence(&error) => self.presence_by_links(repository),
            Err(_) => Presence::Unseen,
        }
    }

    /// The same where there is no folder of tags: a push may have died between its first manifest
    /// and that.
    fn presence_by_links(&self, repository: &Repository) -> Presence {
        match fs::metadata(self.disk.layout.links(repository)) {
            Ok(_) => match self.links(repository) {
                Ok(links) if links.iter().any(LinkRecord::is_manifest) => Presence::Known,
                Ok(_) => Presence::Begun,
                Err(_) => Presence::Unseen,
            },
            Err(error) if is_absence(&error) => Presence::Absent,
            Err(_) => Presence::Unseen,
        }
    }

    /// As [`Catalog::holds`](super::Catalog::holds): one look at the disk.
    pub(crate) fn holds(&self, repository: &Repository, digest: &Digest) -> bool {
        fs::symlink_metadata(self.disk.layout.link(repository, digest))
            .map_or_else(|error| !is_absence(&error), |_| true)
    }

    /// Whether the repository has the file of a tag or of a link.
    pub(crate) fn has_repository(&self, repository: &Repository) -> bool {
        [self.disk.layout.tags(repository), self.disk.layout.links(repository)]
            .iter()
            .any(|folder| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
    }

    /// As [`Catalog::repositories_after`](super::Catalog::repositories_after). Without the index it
    /// lists one folder, and looks into those of the answer; then one of which every record is
    /// damaged is among them as well.
    pub(crate) fn repositories_after(
        &self,
        namespace: &Namespace,
        last: Option<&RepositoryName>,
        limit: usize,
    ) -> Result<Vec<RepositoryName>, StorageError> {
        let is_here = |name: &RepositoryName| {
            self.has_repository(&Repository { namespace: namespace.clone(), name: name.clone() })
        };
        let follows = |name: &RepositoryName| last.is_none_or(|last| name > last);
        let Some((sure, changing)) = self.disk.index.repositories_after(namespace, last, limit) else {
            let mut names = self.folders(namespace)?;
            names.retain(follows);
            return Ok(names.into_iter().filter(is_here).take(limit).collect());
        };
        let changing = changing.iter().filter_map(RepositoryKey::repository);
        let changing =
            changing.filter(|repository| repository.namespace == *namespace).map(|repository| repository.name);
        let sure = sure.iter().filter_map(RepositoryKey::repository).map(|repository| repository.name);
        let mut names: Vec<_> = sure.chain(changing.filter(|name| follows(name) && is_here(name))).collect();
        names.sort_unstable();
        names.truncate(limit);
        Ok(names)
    }

    /// The names of all the namespace's repositories that have a folder, sorted by their bytes:
    /// also of those that hold nothing, that are not known, and that cannot be looked into.
    pub(crate) fn folders(&self, namespace: &Namespace) -> Result<Vec<RepositoryName>, StorageError> {
        let folder = self.disk.layout.repos().join(names::namespace(namespace));
        let mut names = file_names(&folder, names::parse_repository)?;
        names.sort_unstable();
        Ok(names)
    }

    /// The namespaces that have a folder.
    pub(crate) fn namespaces(&self) -> Result<Vec<Namespace>, StorageError> {
        file_names(&self.disk.layout.repos(), names::parse_namespace)
    }

    /// The tags that have a file, good or damaged.
    pub(in crate::storage) fn tag_files(&self, repository: &Repository) -> Result<Vec<Tag>, StorageError> {
        file_names(&self.disk.layout.tags(repository), names::parse_tag)
    }

    /// The digests whose links have a file, good or damaged.
    pub(in crate::storage) fn link_files(&self, repository: &Repository) -> Result<Vec<Digest>, StorageError> {
        file_names(&self.disk.layout.links(repository), names::parse_digest)
    }

    /// The index's entry for a tag, as its file says now. For the rebuild, which holds
    /// [`lock`](Self::lock).
    pub(in crate::storage) fn tag_entry(&self, repository: &Repository, tag: &Tag) -> Result<Entry, StorageError> {
        let path = self.disk.layout.tag(repository, tag);
        let record = checked_tag(tag, record::read(&path)?, &path);
        let text = record.map(|record| encode(&record, &path)).transpose()?;
        Ok(Entry::tag(&RepositoryKey::new(repository), tag, text))
    }

    /// The same for a link.
    pub(in crate::storage) fn link_entry(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Entry, StorageError> {
        let path = self.disk.layout.link(repository, digest);
        let record = checked_link(digest, record::read(&path)?, &path);
        let text = record.map(|record| encode(&record, &path)).transpose()?;
        Ok(Entry::link(&RepositoryKey::new(repository), digest, text))
    }

    /// The repository's lock: no record of it changes while it is held.
    pub(in crate::storage) fn lock(&self, repository: &Repository) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        repository.hash(&mut hasher);
        let at = (hasher.finish() % LOCKS as u64) as usize;
        self.locks[at].lock()
    }

    fn create(&self, folder: &Path) -> Result<(), StorageError> {
        self.disk.folders.ensure(folder).map_err(StorageError::io("creating", folder))
    }
}

/// The record, if it is that of the tag whose file it was in.
fn checked_tag(tag: &Tag, record: Option<TagRecord>, path: &Path) -> Option<TagRecord> {
    record.filter(|record| is_of(tag, record, path))
}

fn is_of(tag: &Tag, record: &TagRecord, path: &Path) -> bool {
    let fits = record.tag == *tag;
    if !fits {
        report(path, &"it is the record of another tag");
    }
    fits
}

/// The record, if it is that of the digest whose file it was in.
fn checked_link(digest: &Digest, record: Option<LinkRecord>, path: &Path) -> Option<LinkRecord> {
    let record = record?;
    if record.digest != *digest {
        report(path, &"it is the record of another digest");
        return None;
    }
    Some(record)
}

/// The records of texts from the index. `None`: one text is damaged, and the caller asks the files.
fn decode_all<T: serde::de::DeserializeOwned>(texts: &[Vec<u8>]) -> Option<Vec<T>> {
    texts.iter().map(|text| record::decode(text).ok()).collect()
}

fn encode<T: serde::Serialize>(record: &T, path: &Path) -> Result<Vec<u8>, StorageError> {
    record::encode(record).map_err(|damage| StorageError::io("writing", path)(io::Error::other(damage)))
}

fn sync(folder: &Path) -> Result<(), StorageError> {
    durable::sync_dir(folder).map_err(StorageError::io("syncing", folder))
}

/// Whether the error says that the path is not there. A stray file in the place of a folder counts
/// as no folder.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The names in a folder that parse, in no order; none if there is no such folder. Other names are
/// left alone.
fn file_names<T>(folder: &Path, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, StorageError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if is_absence(&error) => return Ok(Vec::new()),
        entries => entries.map_err(StorageError::io("listing", folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StorageError::io("listing", folder))?;
        found.extend(entry.file_name().to_str().and_then(&parse));
    }
    Ok(found)
}
