//! Pages of the index: a scan begins where the page does, and ends with it.
//!
//! Promises: as for every read of [`Index`], `None` means that the files have to be read. Callers:
//! the catalogue, and the scan over the uses of all blobs.

use std::ops::Bound;

use super::{Index, RepositoryKey, entry};
use crate::{
    oci::{Digest, Namespace, RepositoryName, Tag},
    storage::BlobUse,
};

/// Repositories of which the index is sure, and those that are just changing, for which the files
/// have to be read.
pub(in crate::storage) type SureAndChanging = (Vec<RepositoryKey>, Vec<RepositoryKey>);

impl Index {
    /// The repository's first `limit` tags that sort after `last`, by their bytes, if the index is
    /// sure of them.
    pub(in crate::storage) fn tags_after(
        &self,
        repository: &RepositoryKey,
        last: Option<&str>,
        limit: usize,
    ) -> Option<Vec<Tag>> {
        let prefix = repository.prefix();
        self.read(repository, |trees| {
            let keys = keys_after(&trees.tags, &prefix, last.map(str::as_bytes));
            keys.take(limit).filter_map(|rest| parsed(rest).transpose()).collect()
        })
    }

    /// The first `limit` digests after `last` whose records in this repository say that they belong
    /// to `subject`, sorted, if the index is sure of them.
    pub(in crate::storage) fn referrers_after(
        &self,
        repository: &RepositoryKey,
        subject: &Digest,
        last: Option<&str>,
        limit: usize,
    ) -> Option<Vec<Digest>> {
        let prefix = entry::referrers_prefix(repository, subject);
        self.read(repository, |trees| {
            let keys = keys_after(&trees.referrers, &prefix, last.map(str::as_bytes));
            keys.take(limit).filter_map(|rest| parsed(rest).transpose()).collect()
        })
    }

    /// The first `limit` repositories of the namespace after `last` that have a tag or a link,
    /// sorted by their names. A repository that is changing is never among the sure ones.
    pub(in crate::storage) fn repositories_after(
        &self,
        namespace: &Namespace,
        last: Option<&RepositoryName>,
        limit: usize,
    ) -> Option<SureAndChanging> {
        let trees = self.shared.ready()?;
        // In this order: a write that is applied by now is found by the scan, and one that is not
        // is among these.
        let changing = self.shared.pending();
        if self.shared.is_off() {
            return None;
        }
        let prefix = RepositoryKey::namespace_prefix(namespace);
        let sure = self.guarded(|| {
            let from = last.map_or(prefix.clone(), |last| past(&[&prefix, last.as_str().as_bytes()].concat()));
            let mut tagged = Steps::new(&trees.tags, &prefix, &from)?;
            let mut linked = Steps::new(&trees.links, &prefix, &from)?;
            let mut sure = Vec::new();
            while sure.len() < limit
                && let Some(first) = [&tagged.at, &linked.at].into_iter().flatten().min().cloned()
            {
                tagged.pass(&first)?;
                linked.pass(&first)?;
                sure.extend(RepositoryKey::parse(&first).filter(|key| !changing.contains(key)));
            }
            Ok(sure)
        })?;
        Some((sure, changing))
    }

    /// The first `limit` blobs after `last`, in the order of digests. A blob that comes or goes
    /// meanwhile may be among them or not.
    pub(in crate::storage) fn blobs_after(
        &self,
        last: Option<&Digest>,
        limit: usize,
    ) -> Option<Vec<(Digest, BlobUse)>> {
        let trees = self.shared.ready()?;
        let from = last.map_or(Bound::Unbounded, |last| Bound::Excluded(entry::blob_key(last)));
        let blob = |(key, value): (sled::IVec, sled::IVec)| {
            let digest = std::str::from_utf8(&key).ok()?.parse().ok()?;
            Some((digest, entry::parse_blob(&value)?))
        };
        self.guarded(|| {
            let blobs = trees.blobs.range::<Vec<u8>, _>((from, Bound::Unbounded));
            blobs.take(limit).filter_map(|entry| entry.map(blob).transpose()).collect()
        })
    }
}

/// The keys that begin with the prefix, without it: sorted, those after `last`.
fn keys_after<'a>(
    tree: &sled::Tree,
    prefix: &'a [u8],
    last: Option<&[u8]>,
) -> impl Iterator<Item = sled::Result<sled::IVec>> + use<'a> {
    let from = match last {
        Some(last) => Bound::Excluded([prefix, last].concat()),
        None => Bound::Included(prefix.to_vec()),
    };
    tree.range::<Vec<u8>, _>((from, Bound::Unbounded))
        .keys()
        .take_while(move |key| key.as_ref().map_or(true, |key| key.starts_with(prefix)))
        .map(move |key| key.map(|key| key.subslice(prefix.len(), key.len() - prefix.len())))
}

/// Parses the rest of a key; `None` if it does not parse.
fn parsed<T: std::str::FromStr>(rest: sled::Result<sled::IVec>) -> sled::Result<Option<T>> {
    Ok(std::str::from_utf8(&rest?).ok().and_then(|text| text.parse().ok()))
}

/// A walk over the repositories in the keys of a tree, one seek for each.
struct Steps<'a> {
    tree: &'a sled::Tree,
    prefix: &'a [u8],
    /// The position: a repository as keys begin with it, namespace included.
    at: Option<Vec<u8>>,
}

impl<'a> Steps<'a> {
    /// A walk that stands at the first repository in keys from `from` on.
    fn new(tree: &'a sled::Tree, prefix: &'a [u8], from: &[u8]) -> sled::Result<Self> {
        let mut steps = Steps { tree, prefix, at: None };
        steps.seek(from)?;
        Ok(steps)
    }

    /// Goes on, if it stands at this repository.
    fn pass(&mut self, repository: &[u8]) -> sled::Result<()> {
        if self.at.as_deref() == Some(repository) { self.seek(&past(repository)) } else { Ok(()) }
    }

    fn seek(&mut self, from: &[u8]) -> sled::Result<()> {
        let key = self.tree.range(from..).keys().next().transpose()?;
        let key = key.filter(|key| key.starts_with(self.prefix));
        self.at = key.and_then(|key| Some(key[..key.iter().position(|byte| *byte == 0)?].to_vec()));
        Ok(())
    }
}

/// A key that sorts after every key of this repository, and before those of the next one: names
/// have no byte below this.
fn past(repository: &[u8]) -> Vec<u8> {
    [repository, &[1]].concat()
}
