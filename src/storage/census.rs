//! How many blobs there are and how large they are together.
//!
//! Known at once after an orderly stop; otherwise a background walk counts shard by shard. What is placed in a shard
//! before the walk has been there is left to the walk, so nothing is counted twice and nothing is missed. Placing and
//! taking away happen under one short lock, which is also what makes "is it there already" and the rename one step.

use std::{
    fs, io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Usage;
use crate::oci::{Algorithm, Digest};

/// Shards of both algorithms.
const SHARDS: usize = 512;

#[derive(Debug)]
pub(super) struct Census {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    blobs: u64,
    bytes: u64,
    counted: Vec<bool>,
}

impl Census {
    /// `known`: the usage at the last orderly stop.
    pub(super) fn new(known: Option<Usage>) -> Self {
        let usage = known.unwrap_or_default();
        Census {
            state: Mutex::new(State { blobs: usage.blobs, bytes: usage.bytes, counted: vec![known.is_some(); SHARDS] }),
        }
    }

    pub(super) fn usage(&self) -> Usage {
        let state = self.lock();
        Usage { blobs: state.blobs, bytes: state.bytes, complete: state.counted.iter().all(|counted| *counted) }
    }

    /// Renames `from`, of `size` bytes, to the blob's place; then calls `placed`. If a blob of that size is there
    /// already it stays, and the answer is `false`.
    pub(super) fn place(
        &self,
        digest: &Digest,
        from: &Path,
        to: &Path,
        size: u64,
        placed: impl FnOnce(),
    ) -> io::Result<bool> {
        let mut state = self.lock();
        let before = match fs::symlink_metadata(to) {
            Ok(metadata) => Some(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if before == Some(size) {
            return Ok(false);
        }
        fs::rename(from, to)?;
        placed();
        if state.counts(digest) {
            state.blobs += u64::from(before.is_none());
            state.bytes = state.bytes.saturating_sub(before.unwrap_or(0)).saturating_add(size);
        }
        Ok(true)
    }

    /// Renames the blob at `from` away; then calls `taken`. `false` if it is not there.
    pub(super) fn take(&self, digest: &Digest, from: &Path, to: &Path, taken: impl FnOnce()) -> io::Result<bool> {
        let mut state = self.lock();
        let size = match fs::symlink_metadata(from) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        fs::rename(from, to)?;
        taken();
        if state.counts(digest) {
            state.blobs = state.blobs.saturating_sub(1);
            state.bytes = state.bytes.saturating_sub(size);
        }
        Ok(true)
    }

    /// Counts one shard, whose blobs `list` names with their sizes, unless it is counted already.
    pub(super) fn count_shard(
        &self,
        algorithm: Algorithm,
        first: u8,
        list: impl FnOnce() -> io::Result<Vec<u64>>,
    ) -> io::Result<()> {
        let mut state = self.lock();
        let sizes = list()?;
        let shard = shard(algorithm, first);
        if !state.counted.get(shard).copied().unwrap_or(true) {
            state.blobs += sizes.len() as u64;
            state.bytes = state.bytes.saturating_add(sizes.iter().sum());
            state.counted[shard] = true;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a change in the digest's shard is to be counted here, because the walk will not see it any more.
    fn counts(&self, digest: &Digest) -> bool {
        let first = digest.as_bytes().first().copied().unwrap_or_default();
        self.counted.get(shard(digest.algorithm(), first)).copied().unwrap_or(true)
    }
}

fn shard(algorithm: Algorithm, first: u8) -> usize {
    usize::from(first)
        + match algorithm {
            Algorithm::Sha256 => 0,
            Algorithm::Sha512 => 256,
        }
}
