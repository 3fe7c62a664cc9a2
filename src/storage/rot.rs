//! Rot: content whose bytes are not what its name says any more.
//!
//! | found by | when |
//! |---|---|
//! | [`Finder::Read`] | a manifest is read; a blob cannot be opened, or its length is in doubt |
//! | [`Finder::SecondLook`] | a client asks again for a blob that it was just given whole |
//! | [`Finder::Scrub`] | the scrub reads everything again |
//!
//! Rotten content goes to the quarantine. Where that fails, as on a read-only disk, its digest is
//! kept here, and it is not given out either. The log has one sentence for each find, with the
//! digest and the repositories; the counts are read by the metrics. A sector that cannot be read is
//! rot too.

use std::{
    collections::HashSet,
    fs::File,
    io,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use rustix::io::Errno;

use super::{StorageError, catalog::Catalog, disk::Disk};
use crate::oci::{Digest, Namespace, Repository};

/// How many repositories a line of the log names.
const NAMED: usize = 8;

/// Who found content rotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finder {
    /// An ordinary read.
    Read,
    /// The proof before a blob is given again.
    SecondLook,
    /// The scrub.
    Scrub,
}

impl Finder {
    /// All of them.
    pub const ALL: [Finder; 3] = [Finder::Read, Finder::SecondLook, Finder::Scrub];

    /// The word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Finder::Read => "read",
            Finder::SecondLook => "second_look",
            Finder::Scrub => "scrub",
        }
    }
}

/// What was found rotten since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RotCount {
    /// Who found it.
    pub by: Finder,
    /// Blobs and manifests that only upstreams' repositories hold, or no repository at all.
    pub cached: u64,
    /// Blobs and manifests that a hosted repository holds.
    pub hosted: u64,
}

/// The counts, and what could not be moved away.
#[derive(Debug, Default)]
pub(super) struct Rots {
    cached: [AtomicU64; 3],
    hosted: [AtomicU64; 3],
    /// Rotten content that is still under its name.
    stuck: RwLock<HashSet<Digest>>,
    /// How many those are: a look costs no lock as long as there is none.
    stuck_count: AtomicUsize,
}

impl Rots {
    /// What was found since the start, by finder.
    pub(super) fn found(&self) -> [RotCount; 3] {
        Finder::ALL.map(|by| RotCount {
            by,
            cached: self.cached[by as usize].load(Ordering::Relaxed),
            hosted: self.hosted[by as usize].load(Ordering::Relaxed),
        })
    }

    /// Whether the content is known to be rotten and is still under its name.
    pub(super) fn is_stuck(&self, digest: &Digest) -> bool {
        self.stuck_count.load(Ordering::Acquire) > 0
            && self.stuck.read().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    /// Good content has taken the name.
    pub(super) fn healed(&self, digest: &Digest) {
        if self.is_stuck(digest) {
            let mut stuck = self.stuck.write().unwrap_or_else(PoisonError::into_inner);
            stuck.remove(digest);
            self.stuck_count.store(stuck.len(), Ordering::Release);
        }
    }

    /// Keeps it from being given out. False: that was so already.
    fn keep_back(&self, digest: &Digest) -> bool {
        let mut stuck = self.stuck.write().unwrap_or_else(PoisonError::into_inner);
        let new = stuck.insert(*digest);
        self.stuck_count.store(stuck.len(), Ordering::Release);
        new
    }

    fn count(&self, by: Finder, hosted: bool) {
        let counts = if hosted { &self.hosted } else { &self.cached };
        counts[by as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether an error says that the disk has lost what it was asked for. Any other error says nothing
/// about the content.
pub(super) fn is_loss(error: &io::Error) -> bool {
    // Damage of the file system's own structures has errors of its own.
    matches!(Errno::from_io_error(error), Some(Errno::IO | Errno::BADMSG | Errno::UCLEAN))
}

/// Moves rotten content out of the way, counts it, and tells the log. `read`: the file that was
/// found rotten; one that has taken its place meanwhile stays.
pub(super) fn found_rotten(disk: &Arc<Disk>, digest: &Digest, read: Option<&File>, by: Finder) {
    let failure = match super::blobs::quarantine(disk, digest, read) {
        Ok(true) => None,
        Ok(false) => return,
        Err(_) if !disk.rots.keep_back(digest) => return,
        Err(error) => Some(error),
    };
    let holders = Catalog::new(Arc::clone(disk)).holders(digest);
    tell(disk, digest, by, holders, failure.as_ref());
}

fn tell(
    disk: &Disk,
    digest: &Digest,
    by: Finder,
    holders: Result<Vec<Repository>, StorageError>,
    stays: Option<&StorageError>,
) {
    let is_hosted = |repository: &Repository| repository.namespace == Namespace::Hosted;
    // Where nobody can say whose it is, it may be somebody's own.
    let hosted = holders.as_ref().map_or(true, |holders| holders.iter().any(is_hosted));
    let upstream = holders.as_ref().is_ok_and(|holders| !holders.iter().all(is_hosted));
    let repos = match &holders {
        Ok(holders) => named(holders),
        Err(error) => format!("unknown: {error}"),
    };
    disk.rots.count(by, hosted);
    let (by, stays) = (by.as_str(), stays.map(tracing::field::display));
    match (hosted, upstream) {
        (true, false) => tracing::error!(
            %digest, repos, by, stays,
            "pushed content has rotted on disk and is not served any more: push it again"
        ),
        (true, true) => tracing::error!(
            %digest, repos, by, stays,
            "pushed content has rotted on disk and is fetched again where its upstream still has it: else push it again"
        ),
        (false, _) => tracing::warn!(
            %digest, repos, by, stays,
            "cached content has rotted on disk and is fetched again when it is asked for"
        ),
    }
}

fn named(holders: &[Repository]) -> String {
    let mut names: Vec<_> = holders.iter().take(NAMED).map(Repository::to_string).collect();
    if holders.len() > NAMED {
        names.push(format!("and {} more", holders.len() - NAMED));
    }
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
