//! Pages of what the index holds: a scan begins where the page does, and ends with it.

use std::ops::Bound;

use super::{Index, RepositoryKey, Trees, entry};
use crate::oci::{Digest, Namespace, RepositoryName, Tag};

/// Repositories of which the index is sure, and those that are just changing, of which the files have to be asked.
pub(in crate::storage) type SureAndChanging = (Vec<RepositoryKey>, Vec<RepositoryKey>);

impl Index {
    /// The repository's first `limit` tags that sort after `last`, by their bytes, if the index is sure of them.
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

    /// The first `limit` digests after `last` whose records in this repository say that they belong to `subject`, sorted, if the
    /// index is sure of them.
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

    /// The first `limit` repositories of the namespace after `last` that have a tag or a link, sorted by their names. None of
    /// those that are changing is among the sure ones.
    pub(in crate::storage) fn repositories_after(
        &self,
        namespace: &Namespace,
        last: Option<&RepositoryName>,
        limit: usize,
    ) -> Option<SureAndChanging> {
        let trees = self.shared.ready()?;
        // In this order: what is applied by now is found by the scan, and what is not is among these.
        let changing = self.shared.pending();
        let prefix = RepositoryKey::namespace_prefix(namespace);
        let sure = self.guarded(|| {
            let mut sure = Vec::new();
            let mut from = last.map_or(prefix.clone(), |last| past(&[&prefix, last.as_str().as_bytes()].concat()));
            while sure.len() < limit
                && let Some(next) = repository_from(&trees, &prefix, &from)?
            {
                from = past(&next);
                sure.extend(RepositoryKey::parse(&next).filter(|key| !changing.contains(key)));
            }
            Ok(sure)
        })?;
        Some((sure, changing))
    }
}

/// What stands behind the prefix in the keys that have it, sorted, after `last`.
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

/// The rest of a key as what it stands for; nothing where it is none.
fn parsed<T: std::str::FromStr>(rest: sled::Result<sled::IVec>) -> sled::Result<Option<T>> {
    Ok(std::str::from_utf8(&rest?).ok().and_then(|text| text.parse().ok()))
}

/// The first repository, as keys begin with it, that has a tag or a link at or after `from`.
fn repository_from(trees: &Trees, prefix: &[u8], from: &[u8]) -> sled::Result<Option<Vec<u8>>> {
    let mut first: Option<Vec<u8>> = None;
    for tree in [&trees.tags, &trees.links] {
        let Some(key) = tree.range(from..).keys().next().transpose()? else { continue };
        let Some(end) = key.iter().position(|byte| *byte == 0).filter(|_| key.starts_with(prefix)) else { continue };
        if first.as_ref().is_none_or(|first| key[..end] < **first) {
            first = Some(key[..end].to_vec());
        }
    }
    Ok(first)
}

/// What sorts after every key of this repository, and before those of any other that does: names have no byte below this.
fn past(repository: &[u8]) -> Vec<u8> {
    [repository, &[1]].concat()
}
