//! The answers that one client got, and the content that must therefore be there after a death.
//!
//! Everything that can be read by a path (a blob, a manifest, a tag) has a line in the ledger: the
//! contents that are permitted there. A change that was acknowledged permits its outcome alone; a
//! change without an answer permits the content from before as well. The content that an audit
//! reads is the only one permitted afterwards.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    hub::digest_of,
    wire::{blob, get, manifest},
};

/// The content at a path; `None`: 404.
type Content = Option<Vec<u8>>;

/// A path below `/v2/`, and its content after the change.
pub(super) type Change = (String, Content);

/// The permitted contents of each path. See the module.
#[derive(Default)]
pub(super) struct Ledger {
    permitted: BTreeMap<String, Vec<Content>>,
}

impl Ledger {
    /// A request for these changes has been sent.
    pub(super) fn begins(&mut self, changes: &[Change]) {
        for (path, content) in changes {
            let permitted = self.permitted.entry(path.clone()).or_insert_with(|| vec![None]);
            if !permitted.contains(content) {
                permitted.push(content.clone());
            }
        }
    }

    /// The request was acknowledged.
    pub(super) fn ends(&mut self, changes: Vec<Change>) {
        for (path, content) in changes {
            self.permitted.insert(path, vec![content]);
        }
    }

    /// The paths of the tags that may point to this manifest.
    pub(super) fn tags_naming(&self, repo: &str, bytes: &[u8]) -> Vec<String> {
        let tags = self.permitted.iter().filter(|(path, _)| path.starts_with(&manifest(repo, "v")));
        tags.filter(|(_, permitted)| permitted.iter().flatten().any(|content| content == bytes))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// The changes of a collection without a grace: each blob goes that no manifest of its
    /// repository names. Where a manifest may name it, it may stay.
    pub(super) fn collection(&self) -> (Vec<Change>, Vec<Change>) {
        let (mut surely, mut perhaps) = (Vec::new(), Vec::new());
        for path in self.permitted.keys() {
            let Some((repo, digest)) = path.strip_prefix("/v2/").and_then(|path| path.split_once("/blobs/")) else {
                continue;
            };
            let below = manifest(repo, "");
            let manifests = self.permitted.iter().filter(|(path, _)| path.starts_with(&below));
            let naming: Vec<_> = manifests
                .filter(|(_, permitted)| permitted.iter().flatten().any(|bytes| names(bytes, digest)))
                .map(|(_, permitted)| permitted.contains(&None))
                .collect();
            match naming.as_slice() {
                [] => surely.push((path.clone(), None)),
                all if all.iter().all(|unsure| *unsure) => perhaps.push((path.clone(), None)),
                _ => {}
            }
        }
        (surely, perhaps)
    }

    /// Reads every path, and panics where the content is not a permitted one. Returns how many
    /// contents were there.
    pub(super) fn audit(&mut self, port: u16, when: &str) -> usize {
        let mut there = 0;
        for (path, permitted) in &mut self.permitted {
            let answer = get(port, path);
            let found = match answer.status {
                200 => Some(answer.body),
                404 => None,
                status => panic!("{when}: {path}: {status} {}", answer.text()),
            };
            if !permitted.contains(&found) {
                let said = |content: &Content| content.as_ref().map_or("nothing".to_owned(), |bytes| digest_of(bytes));
                let permitted: Vec<_> = permitted.iter().map(said).collect();
                panic!("{when}: {path} is {}, and not one of {permitted:?}", said(&found));
            }
            there += usize::from(found.is_some());
            *permitted = vec![found];
        }
        there
    }

    /// The digests of the blobs and manifests that are surely there, for a check of the disk.
    pub(super) fn digests(&self) -> BTreeSet<String> {
        self.permitted
            .values()
            .filter_map(|permitted| permitted.first()?.as_ref())
            .map(|bytes| digest_of(bytes))
            .collect()
    }
}

/// Whether a manifest names a blob. A digest is long enough to be searched for in the text.
fn names(manifest: &[u8], digest: &str) -> bool {
    String::from_utf8_lossy(manifest).contains(digest)
}

/// The change that puts a blob there.
pub(super) fn blob_is(repo: &str, bytes: &[u8]) -> Change {
    (blob(repo, &digest_of(bytes)), Some(bytes.to_vec()))
}

/// The change that puts a manifest there.
pub(super) fn manifest_is(repo: &str, reference: &str, bytes: &[u8]) -> Change {
    (manifest(repo, reference), Some(bytes.to_vec()))
}
