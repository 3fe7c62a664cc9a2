//! The check of one repository: its records, and, if it is hosted, the content that it needs.
//!
//! Promises: a repair never removes a record that a newer lanyard wrote, and never makes a mirrored
//! repository hold what it may only have named (S23). Callers: `check/mod.rs`.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use serde::{Serialize, de::DeserializeOwned};

use super::{CheckReport, Checker, Damaged, Mended, Missing, Needed};
use crate::{
    oci::{Digest, MAX_MANIFEST_BYTES, Manifest, Namespace, Repository},
    runtime::clock,
    storage::{
        LinkRecord, LinkRight, StorageError, TagRecord, durable, names,
        record::{self, Damage},
    },
};

/// A record's file, and its record if that is good.
pub(super) struct Examined<K, R> {
    pub(super) key: K,
    pub(super) path: PathBuf,
    pub(super) record: Result<R, Bad>,
}

/// Why a file is no good record.
pub(super) enum Bad {
    Damage(Damage),
    Foreign,
    Unreadable(io::Error),
}

impl Checker<'_> {
    /// Reads every record of the repository, mends what is damaged if this is a repair, and looks
    /// for what is missing.
    pub(super) fn repository(&self, repository: &Repository, report: &mut CheckReport) -> Result<(), StorageError> {
        let (tags, links) = (self.disk.layout.tags(repository), self.disk.layout.links(repository));
        let mut good_tags = Vec::new();
        for Examined { path, record, .. } in
            examine(&tags, names::parse_tag, |record: &TagRecord, tag| record.tag == *tag, report)?
        {
            match record {
                Ok(record) => good_tags.push(record),
                // The digest that it named cannot be known, so it is not written anew.
                Err(bad) => self.mend(path, &bad, None::<&TagRecord>, report)?,
            }
        }
        let mut good_links = Vec::new();
        for Examined { key, path, record } in
            examine(&links, names::parse_digest, |record: &LinkRecord, digest| record.digest == *digest, report)?
        {
            match record {
                Ok(record) => good_links.push(record),
                Err(bad) => {
                    let renewed = self.renewed(repository, &key)?;
                    self.mend(path, &bad, renewed.as_ref(), report)?;
                    good_links.extend(renewed.filter(|_| self.options.repair));
                }
            }
        }
        if self.options.repair {
            for folder in [&tags, &links].into_iter().filter(|folder| folder.is_dir()) {
                durable::sync_dir(folder).map_err(StorageError::io("syncing", folder))?;
            }
        }
        match repository.namespace {
            Namespace::Hosted => self.hosted(repository, &good_tags, &good_links, report),
            Namespace::Upstream(_) => {
                for link in &good_links {
                    report.absent += u64::from(!self.has(&link.digest)?);
                }
                Ok(())
            }
        }
    }

    /// Reports a damaged record and, if this is a repair, writes it anew or removes it.
    pub(super) fn mend(
        &self,
        path: PathBuf,
        bad: &Bad,
        renewed: Option<&impl Serialize>,
        report: &mut CheckReport,
    ) -> Result<(), StorageError> {
        let (why, newer) = match bad {
            Bad::Damage(damage) => (damage.to_string(), matches!(damage, Damage::Newer(_))),
            Bad::Foreign => ("it is the record of another name".to_owned(), false),
            Bad::Unreadable(error) => (format!("it cannot be read: {error}"), false),
        };
        let mended = match renewed {
            _ if newer || !self.options.repair => Mended::Left,
            Some(record) => {
                let text = record::encode(record).map_err(io::Error::other);
                text.and_then(|text| self.disk.temporaries.replace(&path, &text))
                    .map_err(StorageError::io("writing", &path))?;
                Mended::Renewed
            }
            None => {
                durable::remove(&path).map_err(StorageError::io("removing", &path))?;
                Mended::Removed
            }
        };
        report.damaged.push(Damaged { path, why, mended });
        Ok(())
    }

    /// A new record for a damaged link to content that is here; its time and its right are guesses.
    /// Without it a repair would turn a pushed blob into garbage.
    fn renewed(&self, repository: &Repository, digest: &Digest) -> Result<Option<LinkRecord>, StorageError> {
        let size = self.blobs.size(digest)?;
        let Some(size) = size.filter(|_| !self.corrupt.contains(digest)) else { return Ok(None) };
        let (media_type, subject) = match self.manifest(digest, None)? {
            Some((media_type, manifest)) => (media_type, manifest.subject.map(|subject| subject.digest)),
            None => (String::new(), None),
        };
        let right = match repository.namespace {
            Namespace::Hosted => LinkRight::Pushed,
            // Another repository may have brought it, and this one only named it: upstream is to be
            // asked again (S23).
            Namespace::Upstream(_) if self.is_elsewhere(repository, digest) => return Ok(None),
            Namespace::Upstream(_) => LinkRight::Fetched,
        };
        let created = clock::now();
        Ok(Some(LinkRecord { digest: *digest, media_type, size, subject, right, created }))
    }

    /// Whether another repository has a link of the digest, good or damaged.
    fn is_elsewhere(&self, repository: &Repository, digest: &Digest) -> bool {
        let mut others = self.repositories.iter().filter(|other| *other != repository);
        others.any(|other| fs::symlink_metadata(self.disk.layout.link(other, digest)).is_ok())
    }

    /// The blob as a manifest, with its type; `None`: it is no manifest, or not here. Without a
    /// type it must have the shape.
    fn manifest(&self, digest: &Digest, media_type: Option<&str>) -> Result<Option<(String, Manifest)>, StorageError> {
        if self.blobs.size(digest)?.is_none_or(|size| size > MAX_MANIFEST_BYTES as u64) {
            return Ok(None);
        }
        let Some(bytes) = self.blobs.read_unnoticed(digest, MAX_MANIFEST_BYTES)? else { return Ok(None) };
        let media_type = media_type.map_or_else(|| Manifest::sniff(&bytes), str::to_owned);
        let manifest = Manifest::parse(&media_type, &bytes).ok();
        Ok(manifest
            .filter(|manifest| manifest.manifests.is_some() || manifest.layers.is_some())
            .map(|manifest| (media_type, manifest)))
    }

    /// Looks for what a hosted repository needs: what its tags and manifests name, and what was
    /// pushed.
    fn hosted(
        &self,
        repository: &Repository,
        tags: &[TagRecord],
        links: &[LinkRecord],
        report: &mut CheckReport,
    ) -> Result<(), StorageError> {
        let mut held = HashSet::new();
        for link in links {
            if self.has(&link.digest)? {
                held.insert(link.digest);
            }
        }
        let mut need = |digest: Digest, needed: Needed| {
            if !held.contains(&digest) {
                report.missing.push(Missing { repository: repository.clone(), digest, needed });
            }
        };
        for link in links.iter().filter(|link| !matches!(link.right, LinkRight::Named(_))) {
            need(link.digest, Needed::ForItself);
        }
        for tag in tags {
            need(tag.digest, Needed::ByTag(tag.tag.clone()));
        }
        if self.options.sparse {
            return Ok(());
        }
        for link in links.iter().filter(|link| !link.media_type.is_empty()) {
            let manifest = self.manifest(&link.digest, Some(&link.media_type))?;
            for part in manifest.iter().flat_map(|(_, manifest)| manifest.parts()).filter(|part| part.urls.is_empty()) {
                need(part.digest, Needed::ByManifest(link.digest));
            }
        }
        Ok(())
    }

    /// Whether the blob is here and good.
    fn has(&self, digest: &Digest) -> Result<bool, StorageError> {
        Ok(!self.corrupt.contains(digest) && self.blobs.size(digest)?.is_some())
    }
}

/// Every record of a folder. A file whose name is no record's is a stray.
pub(super) fn examine<K, R: DeserializeOwned>(
    folder: &Path,
    parse: impl Fn(&str) -> Option<K>,
    is_of: impl Fn(&R, &K) -> bool,
    report: &mut CheckReport,
) -> Result<Vec<Examined<K, R>>, StorageError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(StorageError::io("listing", folder))?,
    };
    let mut examined = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StorageError::io("listing", folder))?;
        let path = entry.path();
        let Some(key) = entry.file_name().to_str().and_then(&parse) else {
            report.strays.push(path);
            continue;
        };
        let record = match record::load::<R>(&path) {
            Ok(None) => continue,
            Ok(Some(Ok(record))) if is_of(&record, &key) => Ok(record),
            Ok(Some(Ok(_))) => Err(Bad::Foreign),
            Ok(Some(Err(damage))) => Err(Bad::Damage(damage)),
            Err(StorageError::Io { source, .. }) if Errno::from_io_error(&source) == Some(Errno::IO) => {
                Err(Bad::Unreadable(source))
            }
            Err(error) => return Err(error),
        };
        report.records += 1;
        examined.push(Examined { key, path, record });
    }
    Ok(examined)
}
