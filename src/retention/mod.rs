//! Collector: what nobody needs any more goes away in the background, while everything is served.
//!
//! Promises:
//! - What a client was told is here – by the 201 of an upload or mount, by the 200 of a HEAD –
//!   stays for the grace ([`Leases`](crate::storage::Leases), an hour unless `hosted.gc_grace` says
//!   otherwise), whatever names it or not. A push that goes on within it never meets "blob
//!   unknown". A pass [without patience](Patience::None) is for an operator who knows that nobody
//!   pushes; it respects what is held, what is told while it runs, and repositories that an upload
//!   is under way to.
//! - What a manifest of a repository needs stays in that repository. Untagged manifests are manifests.
//! - Content that an upstream's repository holds is never collected here.
//! - No lock is held while anything is read: a pass goes in bites, on one thread, and each removal is one step of the store
//!   that a push either precedes or follows.
//! - [`Collector::plan`] changes nothing.
//!
//! ```text
//! each hosted repository:  links of blobs that none of its manifests needs, lease over  ─► the link goes   (collect.rs)
//! the blobs on disk:       no repository holds it, lease over                           ─► the blob goes   (sweep.rs)
//! uploads idle for a day, parts of downloads older than a week                          ─► go
//! ```
//!
//! Beside that goes the scrub (`scrub.rs`), which reads everything again.
//!
//! Called by [`app`](crate::app), which owns the background task, and by the admin API of [`http`](crate::http).

mod error;
mod report;
mod scrub;
mod sweep;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

pub use error::RetentionError;
use parking_lot::Mutex;
pub use report::{Collection, HostedRepository, Kept, Passed, ScrubStatus, Scrubbed};
pub use scrub::Scrub;
use sweep::{How, Pass, Settled};
use tokio_util::sync::CancellationToken;

use crate::{
    oci::{Namespace, Repository, RepositoryName},
    runtime::BlockingPool,
    storage::Storage,
};

/// How often the background pass runs.
pub const EVERY: Duration = Duration::from_secs(600);

/// Whether a pass waits for graces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// It does.
    Grace,
    /// It does not: nobody pushes.
    None,
}

/// The collector. One per process.
pub struct Collector {
    storage: Storage,
    /// Held over a whole pass: two at a time would only count each other's work.
    turn: tokio::sync::Mutex<Settled>,
    last: Mutex<Option<Passed>>,
}

impl Collector {
    /// Looks after `storage` on the threads of `pool`; one is enough.
    pub fn new(storage: &Storage, pool: BlockingPool) -> Arc<Collector> {
        Arc::new(Collector { storage: storage.on(pool), turn: tokio::sync::Mutex::default(), last: Mutex::default() })
    }

    /// A pass every so often, until `stop`. A pass under way then ends after the bite it is at.
    pub async fn run(self: Arc<Self>, every: Duration, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let passed = tokio::select! {
                () = stop.cancelled() => return,
                passed = self.collect(Patience::Grace) => passed,
            };
            match passed {
                Ok(_) => {}
                Err(error) if error.is_expected() => tracing::debug!(%error, "nothing is collected"),
                Err(error) => tracing::warn!(%error, "the collection of unneeded content ended early"),
            }
        }
    }

    /// One pass; waits for one that is under way. Dropped, it ends after the bite it is at.
    ///
    /// # Errors
    /// What ended the pass early: a disk that takes no change, or a stop. What cannot be read does not; it is skipped.
    pub async fn collect(&self, patience: Patience) -> Result<Collection, RetentionError> {
        let mut settled = self.turn.lock().await;
        let began = Instant::now();
        let (removed, now_settled) = self.pass(How::Removing, patience, std::mem::take(&mut *settled)).await?;
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

    /// What [`collect`](Self::collect) would do now.
    ///
    /// # Errors
    /// As there.
    pub async fn plan(&self, patience: Patience) -> Result<Collection, RetentionError> {
        let (planned, _) = self.pass(How::Looking, patience, Settled::default()).await?;
        Ok(planned)
    }

    /// What is kept now.
    pub fn kept(&self) -> Kept {
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
            uploads: self.storage.upload_count() as u64,
            rotten: rotten.iter().map(|found| found.cached).sum::<u64>() + hosted_rotten,
            hosted_rotten,
            last_pass: *self.last.lock(),
        }
    }

    /// The hosted repositories with what they hold, sorted by name.
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
        how: How,
        patience: Patience,
        settled: Settled,
    ) -> Result<(Collection, Settled), RetentionError> {
        let storage = &self.storage;
        let pass = Pass::new(how, settled);
        let pass = match patience {
            Patience::Grace => pass,
            Patience::None => pass.without_patience(storage).await?,
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
