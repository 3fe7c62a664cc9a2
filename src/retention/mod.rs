//! Retention: what goes from the disk, what stays, and whether stored content is still good.
//!
//! [`Collector`] removes what no repository needs, in passes (`sweep.rs`). [`Evictor`] lets cached
//! content go where room is needed, in the order of `turns.rs`, but for what [`KeptSet`] keeps.
//! [`Forgetter`] forgets names that no client asks for, and [`remove()`] those that an operator
//! names. [`Scrub`] finds rot. [`app`](crate::app) owns their tasks; [`admin`](crate::admin) shows
//! them and gives an operator's orders. A pass of the collector goes through three states:
//!
//! ```text
//! each hosted repository: a blob's link that no manifest of it needs, lease over ─► unlinked
//! all content on disk:    no repository holds it, lease over                     ─► removed
//! leftovers:              uploads idle for a day, parts older than a week        ─► removed
//! ```
//!
//! Promises of the collector:
//! - Content stays for the grace (`hosted.gc_grace`, one hour by default) after a client was told
//!   that it is here: by the 201 of an upload or mount, by the 200 of a HEAD. It does not matter
//!   whether a manifest names it. A push that goes on within the grace never meets "blob unknown".
//! - A pass that [ignores the grace](GraceRule::Ignore) is for an operator who knows that no
//!   client pushes. It still respects held content, content that clients are told of while it
//!   runs, and repositories with an upload under way.
//! - Everything that a manifest of a repository needs stays in that repository. An untagged
//!   manifest is a manifest.
//! - Content that a mirrored repository holds is never collected here.
//! - No lock is held while anything is read. A pass goes in bites on one thread. Each removal is
//!   one verb of storage ([`reclaim`](Storage::reclaim),
//!   [`unlink_unneeded`](Storage::unlink_unneeded)), which comes wholly before or wholly after a
//!   push of the same digest.
//! - [`Collector::plan`] changes nothing.

mod episode;
mod error;
mod eviction_queue;
mod evictor;
mod forget;
mod keep_source;
mod kept;
mod remove;
mod report;
mod scrub;
mod sweep;
#[cfg(test)]
mod tests;
mod trim;
mod turns;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

pub use error::RetentionError;
pub use eviction_queue::Answers;
pub use evictor::Evictor;
pub use forget::Forgetter;
pub use keep_source::{Reason, Source, TagKeeper};
pub use kept::{KeptSet, KeptView};
use parking_lot::Mutex;
pub use remove::{Named, Removals, RemoveOptions, RemovedImage, remove};
pub use report::{
    Collection, EvictedBytes, EvictionStatus, HostedRepository, Kept, Passed, ScrubStatus, Scrubbed, Trimmed,
};
pub use scrub::Scrub;
use sweep::{Pass, PassMode, SettledRepositories};
use tokio_util::sync::CancellationToken;
pub use trim::TrimTarget;
pub use turns::{Gathering, Harvest, Resident, Turn};

use crate::{
    oci::{Namespace, Repository, RepositoryName},
    runtime::BlockingPool,
    storage::Storage,
};

/// The background pass runs this often.
pub const EVERY: Duration = Duration::from_secs(600);

/// Whether a pass respects the grace of leases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GraceRule {
    /// Content stays for the grace.
    Respect,
    /// The grace is ignored: no client pushes.
    Ignore,
}

/// The collector. One per process.
pub struct Collector {
    storage: Storage,
    /// Held over a whole pass: two passes at a time would count each other's removals.
    pass: tokio::sync::Mutex<SettledRepositories>,
    last: Mutex<Option<Passed>>,
}

impl Collector {
    /// Collects in `storage`, on the threads of `pool`; one is enough.
    pub fn new(storage: &Storage, pool: BlockingPool) -> Arc<Collector> {
        Arc::new(Collector { storage: storage.on(pool), pass: tokio::sync::Mutex::default(), last: Mutex::default() })
    }

    /// Runs a pass after each `every`, until `stop`. A pass under way then ends after its current
    /// bite.
    pub async fn run(self: Arc<Self>, every: Duration, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let passed = tokio::select! {
                () = stop.cancelled() => return,
                passed = self.collect(GraceRule::Respect) => passed,
            };
            match passed {
                Ok(_) => {}
                Err(error) if error.is_expected() => tracing::debug!(%error, "nothing is collected"),
                Err(error) => tracing::warn!(%error, "the collection of unneeded content ended early"),
            }
        }
    }

    /// Runs one pass; waits for a pass that is under way. Dropped, it ends after its current bite.
    ///
    /// # Errors
    /// A read-only disk or a stop ends the pass early. Content that cannot be read is skipped.
    pub async fn collect(&self, grace: GraceRule) -> Result<Collection, RetentionError> {
        let mut settled = self.pass.lock().await;
        let began = Instant::now();
        let (removed, now_settled) = self.pass(PassMode::Remove, grace, std::mem::take(&mut *settled)).await?;
        *settled = now_settled;
        self.storage.tidy_leases();
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        *self.last.lock() = Some(Passed { at, duration_ms, removed });
        let Collection { links, blobs, bytes, uploads, waiting, skipped, .. } = removed;
        if removed.is_empty() {
            tracing::debug!(waiting, skipped, duration_ms, "nothing to collect");
        } else {
            tracing::info!(links, blobs, bytes, uploads, waiting, skipped, duration_ms, "unneeded content was removed");
        }
        Ok(removed)
    }

    /// Says what [`collect`](Self::collect) would remove now.
    ///
    /// # Errors
    /// As for [`collect`](Self::collect).
    pub async fn plan(&self, grace: GraceRule) -> Result<Collection, RetentionError> {
        let (planned, _) = self.pass(PassMode::Plan, grace, SettledRepositories::default()).await?;
        Ok(planned)
    }

    /// The stored content in numbers, and the last pass. From memory, except for the uploads, whose
    /// folder is listed: 0 if it cannot be.
    pub async fn kept(&self) -> Kept {
        let usage = self.storage.usage();
        let rotten = self.storage.rotten();
        let hosted_rotten = rotten.iter().map(|found| found.hosted).sum();
        Kept {
            blobs: usage.blobs,
            bytes: usage.bytes,
            hosted_blobs: usage.hosted_blobs,
            hosted_bytes: usage.hosted,
            counted: usage.complete,
            writable: self.storage.writable(),
            index: self.storage.index_is_ready(),
            uploads: self.storage.upload_count().await.unwrap_or(0) as u64,
            rotten: rotten.iter().map(|found| found.cached).sum::<u64>() + hosted_rotten,
            hosted_rotten,
            last_pass: *self.last.lock(),
        }
    }

    /// The hosted repositories and the numbers of their content, sorted by name.
    ///
    /// # Errors
    /// The disk's.
    pub async fn repositories(&self) -> Result<Vec<HostedRepository>, RetentionError> {
        let names = self.storage.repositories(&Namespace::Hosted, None, usize::MAX).await?;
        let mut repositories = Vec::with_capacity(names.len());
        for name in names {
            repositories.push(hosted(&self.storage, name).await?);
        }
        Ok(repositories)
    }

    async fn pass(
        &self,
        mode: PassMode,
        grace: GraceRule,
        settled: SettledRepositories,
    ) -> Result<(Collection, SettledRepositories), RetentionError> {
        let storage = &self.storage;
        let pass = Pass::new(mode, settled);
        let pass = match grace {
            GraceRule::Respect => pass,
            GraceRule::Ignore => pass.ignoring_grace(storage).await?,
        };
        pass.over_all(storage).await?.leftovers(storage).await.map(Pass::end)
    }
}

async fn hosted(storage: &Storage, name: RepositoryName) -> Result<HostedRepository, RetentionError> {
    let repository = Repository { namespace: Namespace::Hosted, name };
    let links = storage.links(&repository).await?;
    let manifests = links.iter().filter(|link| link.is_manifest()).count();
    Ok(HostedRepository {
        tags: storage.tag_records(&repository).await?.len() as u64,
        manifests: manifests as u64,
        blobs: (links.len() - manifests) as u64,
        bytes: links.iter().map(|link| link.size).sum(),
        name: repository.name.to_string(),
    })
}
