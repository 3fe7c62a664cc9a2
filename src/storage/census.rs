//! The census: how many blobs there are, how large they are together, and how many of them are
//! hosted. A blob that holds much more disk than its content counts with all its disk (`blocks`).
//!
//! The counts are known at once after an orderly stop; otherwise a background walk counts shard by
//! shard. A blob that is placed in a shard before the walk has been there is left to the walk, so
//! no blob is counted twice and none is missed. Placing and removing happen under one short lock,
//! which also makes the look at the present file and the rename one step.
//!
//! A blob is hosted if a repository of the hosted namespace links it. These are counted the same
//! way: after every start a walk over the names in the hosted repositories' `links` folders counts
//! them, one repository at a time under its lock, and links that come or go in a repository before
//! the walk has been there are left to the walk. A repository that begins meanwhile counts as
//! walked. Until the walk has been everywhere the hosted bytes are those of the last orderly stop.
//!
//! Callers: the files of this room that place, remove, link and unlink; the rebuild, which walks.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use parking_lot::{Mutex, MutexGuard};

use super::{Usage, blocks, layout::Layout};
use crate::oci::{Algorithm, Digest, Namespace, Repository, RepositoryName};

/// Shards of both algorithms.
const SHARDS: usize = 512;

/// Links that are counted under one hold of the lock.
const CHUNK: usize = 256;

#[derive(Debug)]
pub(super) struct Census {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    all: Count,
    counted: Vec<bool>,
    hosted: Hosted,
}

/// The hosted part of the count.
#[derive(Debug)]
struct Hosted {
    /// In how many hosted repositories a digest is linked, by its beginning.
    links: HashMap<[u8; 16], u32>,
    /// The linked blobs that are here, as far as their shards are counted.
    here: Count,
    /// The repositories that were walked; `None`: all.
    walked: Option<HashSet<RepositoryName>>,
    /// The linked blobs at the last orderly stop, if there was one.
    before: Option<Count>,
}

/// The result of [`Census::take_cached`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// It is gone, and was of this size.
    Cached(u64),
    /// A hosted repository links it.
    Hosted,
    /// Whether one does is not known yet.
    Uncounted,
    /// It was not here.
    Absent,
}

/// Some blobs, and their bytes together.
#[derive(Clone, Copy, Default, Debug)]
struct Count {
    blobs: u64,
    bytes: u64,
}

impl Count {
    /// One blob is of the size `after` now and was of `before`; `None`: not there.
    fn change(&mut self, before: Option<u64>, after: Option<u64>) {
        let count = |total: u64, before: u64, after: u64| total.saturating_sub(before).saturating_add(after);
        self.blobs = count(self.blobs, before.is_some().into(), after.is_some().into());
        self.bytes = count(self.bytes, before.unwrap_or(0), after.unwrap_or(0));
    }
}

impl Census {
    /// `known`: the usage at the last orderly stop.
    pub(super) fn new(known: Option<Usage>) -> Self {
        let usage = known.unwrap_or_default();
        let hosted = Hosted {
            links: HashMap::new(),
            here: Count::default(),
            walked: Some(HashSet::new()),
            before: known.map(|usage| Count { blobs: usage.hosted_blobs, bytes: usage.hosted }),
        };
        Census {
            state: Mutex::new(State {
                all: Count { blobs: usage.blobs, bytes: usage.bytes },
                counted: vec![known.is_some(); SHARDS],
                hosted,
            }),
        }
    }

    pub(super) fn usage(&self) -> Usage {
        let state = self.lock();
        let Hosted { here, walked, before, .. } = &state.hosted;
        let hosted = if walked.is_none() { Some(*here) } else { *before };
        let Count { blobs, bytes } = hosted.unwrap_or_default();
        Usage {
            blobs: state.all.blobs,
            bytes: state.all.bytes,
            hosted: bytes.min(state.all.bytes),
            hosted_blobs: blobs.min(state.all.blobs),
            complete: state.counted.iter().all(|counted| *counted) && hosted.is_some(),
        }
    }

    /// Renames `from` to the blob's name; then calls `placed`. A file that is there already is
    /// replaced: it has the same name, but only `from` was just proven.
    pub(super) fn place(&self, digest: &Digest, from: &Path, to: &Path, placed: impl FnOnce()) -> io::Result<()> {
        let mut state = self.lock();
        let (before, after) = (length(to)?, length(from)?);
        fs::rename(from, to)?;
        placed();
        state.change(digest, before, after);
        Ok(())
    }

    /// Has `cut` give back the disk space that the blob at `path` holds beyond its content. Returns
    /// the bytes.
    pub(super) fn cut(&self, digest: &Digest, path: &Path, cut: impl FnOnce(u64) -> io::Result<()>) -> io::Result<u64> {
        let mut state = self.lock();
        let Some(there) = look(path)?.filter(|there| blocks::excess(there) > 0) else { return Ok(0) };
        cut(there.len())?;
        let after = length(path)?;
        state.change(digest, Some(blocks::taken(&there)), after);
        Ok(blocks::taken(&there).saturating_sub(after.unwrap_or_default()))
    }

    /// Has `away` remove or move the blob at `path`. Returns its size; `None` if it is not there
    /// or, with `only`, if another file than this one has the name by now.
    pub(super) fn take(
        &self,
        digest: &Digest,
        path: &Path,
        only: Option<&File>,
        away: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Option<u64>> {
        let mut state = self.lock();
        let Some(there) = look(path)? else { return Ok(None) };
        if let Some(only) = only {
            let only = only.metadata()?;
            if (only.dev(), only.ino()) != (there.dev(), there.ino()) {
                return Ok(None);
            }
        }
        let size = blocks::taken(&there);
        away()?;
        state.change(digest, Some(size), None);
        Ok(Some(size))
    }

    /// The same for content that is only cached, and that may go.
    pub(super) fn take_cached(
        &self,
        digest: &Digest,
        path: &Path,
        away: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Taken> {
        let mut state = self.lock();
        if state.hosted.walked.is_some() || !state.counts(digest) {
            return Ok(Taken::Uncounted);
        }
        if state.hosted.links.contains_key(&digest.beginning()) {
            return Ok(Taken::Hosted);
        }
        let Some(size) = length(path)? else { return Ok(Taken::Absent) };
        away()?;
        state.change(digest, Some(size), None);
        Ok(Taken::Cached(size))
    }

    /// Whether a hosted repository links it, as far as they are walked.
    pub(super) fn is_hosted(&self, digest: &Digest) -> bool {
        self.lock().hosted.links.contains_key(&digest.beginning())
    }

    /// Counts one shard, whose blobs `list` names with their sizes, unless it is counted already.
    pub(super) fn count_shard(
        &self,
        algorithm: Algorithm,
        first: u8,
        list: impl FnOnce() -> io::Result<Vec<(Digest, u64)>>,
    ) -> io::Result<()> {
        let mut state = self.lock();
        let blobs = list()?;
        let shard = shard(algorithm, first);
        if !state.counted.get(shard).copied().unwrap_or(true) {
            state.counted[shard] = true;
            for (digest, size) in blobs {
                state.change(&digest, None, Some(size));
            }
        }
        Ok(())
    }

    /// A hosted repository has no link yet, and is about to get its first one: the walk has nothing
    /// to count in it, and perhaps does not know of it. Call it under the repository's lock.
    pub(super) fn begins(&self, repository: &RepositoryName) {
        if let Some(walked) = &mut self.lock().hosted.walked {
            walked.insert(repository.clone());
        }
    }

    /// Counts the links of a hosted repository, unless that was done. Call it under the
    /// repository's lock, which keeps its links as they are; blobs may come and go between two
    /// chunks.
    pub(super) fn walk(&self, repository: &RepositoryName, links: &[Digest], layout: &Layout) {
        if self.lock().hosted.walked.as_ref().is_none_or(|walked| walked.contains(repository)) {
            return;
        }
        for chunk in links.chunks(CHUNK) {
            let mut state = self.lock();
            for digest in chunk {
                state.link(digest, layout);
            }
        }
        if let Some(walked) = &mut self.lock().hosted.walked {
            walked.insert(repository.clone());
        }
    }

    /// Every hosted repository that was there at the start is walked.
    pub(super) fn walked(&self) {
        self.lock().hosted.walked = None;
    }

    /// A repository links the digest from now on. Call it under the repository's lock.
    pub(super) fn linked(&self, repository: &Repository, digest: &Digest, layout: &Layout) {
        let mut state = self.lock();
        if state.follows(repository) {
            state.link(digest, layout);
        }
    }

    /// A repository links the digest no more. Call it under the repository's lock.
    pub(super) fn unlinked(&self, repository: &Repository, digest: &Digest, layout: &Layout) {
        let mut state = self.lock();
        if state.follows(repository)
            && let Some(count) = state.hosted.links.get_mut(&digest.beginning())
        {
            *count -= 1;
            if *count == 0 {
                state.hosted.links.remove(&digest.beginning());
                let size = state.size(digest, layout);
                state.hosted.here.change(size, None);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// Counts a blob that was of the size `before`, or not there, and is `after` now.
    fn change(&mut self, digest: &Digest, before: Option<u64>, after: Option<u64>) {
        if !self.counts(digest) {
            return;
        }
        self.all.change(before, after);
        if self.hosted.links.contains_key(&digest.beginning()) {
            self.hosted.here.change(before, after);
        }
    }

    /// Counts a link of a hosted repository.
    fn link(&mut self, digest: &Digest, layout: &Layout) {
        let links = self.hosted.links.entry(digest.beginning()).or_default();
        *links += 1;
        if *links == 1 {
            let size = self.size(digest, layout);
            self.hosted.here.change(None, size);
        }
    }

    /// The bytes that a blob adds to the count, as far as its shard is counted; `None`: it is not
    /// here.
    fn size(&self, digest: &Digest, layout: &Layout) -> Option<u64> {
        // A blob that cannot be looked at counts as cached: `max_size` then leaves less room, never
        // more.
        if self.counts(digest) { length(&layout.blob(digest)).ok().flatten() } else { None }
    }

    /// Whether a change in the digest's shard is to be counted here, because the walk will not see
    /// it any more.
    fn counts(&self, digest: &Digest) -> bool {
        let first = digest.as_bytes().first().copied().unwrap_or_default();
        self.counted.get(shard(digest.algorithm(), first)).copied().unwrap_or(true)
    }

    /// Whether a change of the repository's links is to be counted here, because the walk will not
    /// see it any more.
    fn follows(&self, repository: &Repository) -> bool {
        match &repository.namespace {
            Namespace::Hosted => self.hosted.walked.as_ref().is_none_or(|walked| walked.contains(&repository.name)),
            Namespace::Upstream(_) => false,
        }
    }
}

/// The disk space that a file takes; `None` if it is not there.
fn length(path: &Path) -> io::Result<Option<u64>> {
    Ok(look(path)?.map(|metadata| blocks::taken(&metadata)))
}

fn look(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn shard(algorithm: Algorithm, first: u8) -> usize {
    usize::from(first)
        + match algorithm {
            Algorithm::Sha256 => 0,
            Algorithm::Sha512 => 256,
        }
}
