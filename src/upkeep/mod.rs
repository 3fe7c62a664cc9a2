//! Upkeep: what nobody needs any more goes away in the background, while everything is served.
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
//! - [`Upkeep::plan`] changes nothing.
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

mod collect;
mod error;
mod report;
mod scrub;
mod sweep;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

pub use error::UpkeepError;
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

/// After how long without a byte an upload is abandoned (SECURITY.md S14).
const UPLOAD_IDLE: Duration = Duration::from_secs(24 * 3600);

/// After how long a part of a download is not taken up again.
const PART_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many blobs are looked at in one bite.
const BITE: usize = 512;

/// Whether a pass waits for graces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// It does.
    Grace,
    /// It does not: nobody pushes.
    None,
}

/// The collector. One per process.
pub struct Upkeep {
    storage: Arc<Storage>,
    disk: BlockingPool,
    /// Held over a whole pass: two at a time would only count each other's work.
    turn: tokio::sync::Mutex<Settled>,
    last: Mutex<Option<Passed>>,
}

impl Upkeep {
    /// Looks after `storage`, on `disk`; one thread is enough.
    pub fn new(storage: Arc<Storage>, disk: BlockingPool) -> Arc<Upkeep> {
        Arc::new(Upkeep { storage, disk, turn: tokio::sync::Mutex::default(), last: Mutex::default() })
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
    pub async fn collect(&self, patience: Patience) -> Result<Collection, UpkeepError> {
        let mut settled = self.turn.lock().await;
        let began = Instant::now();
        let (removed, now_settled) = self.pass(How::Removing, patience, std::mem::take(&mut *settled)).await?;
        *settled = now_settled;
        self.storage.leases.tidy();
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Passed { at, duration_ms, removed });
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
    pub async fn plan(&self, patience: Patience) -> Result<Collection, UpkeepError> {
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
            uploads: self.storage.uploads.count() as u64,
            rotten: rotten.iter().map(|found| found.cached).sum::<u64>() + hosted_rotten,
            hosted_rotten,
            last_pass: *self.last.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// The hosted repositories with what they hold, sorted by name.
    ///
    /// # Errors
    /// The disk's.
    pub async fn repositories(&self) -> Result<Vec<HostedRepository>, UpkeepError> {
        let names = self.on_disk(|storage| storage.catalog.repositories(&Namespace::Hosted)).await?;
        let mut repositories = Vec::with_capacity(names.len());
        for name in names {
            repositories.push(self.on_disk(move |storage| hosted(storage, name)).await?);
        }
        Ok(repositories)
    }

    async fn pass(&self, how: How, patience: Patience, settled: Settled) -> Result<(Collection, Settled), UpkeepError> {
        let pass = Pass::new(how, settled);
        let pass = match patience {
            Patience::Grace => pass,
            Patience::None => self.on_disk(move |storage| pass.without_patience(storage)).await?,
        };
        let (mut pass, repositories) = self.on_disk(move |storage| pass.repositories(storage)).await?;
        for repository in repositories {
            pass = self.on_disk(move |storage| pass.repository(storage, repository)).await?;
        }
        let mut blobs = self.storage.blobs.all().peekable();
        loop {
            let bite = self.on_disk(move |storage| {
                let pass = pass.blobs(storage, blobs.by_ref().take(BITE))?;
                let more = blobs.peek().is_some();
                Ok::<_, UpkeepError>((pass, blobs, more))
            });
            let more;
            (pass, blobs, more) = bite.await?;
            if !more {
                break;
            }
        }
        pass = self.on_disk(move |storage| pass.leftovers(storage)).await?;
        Ok(pass.end())
    }

    async fn on_disk<T: Send + 'static, E: Into<UpkeepError> + Send + 'static>(
        &self,
        work: impl FnOnce(&Storage) -> Result<T, E> + Send + 'static,
    ) -> Result<T, UpkeepError> {
        let storage = Arc::clone(&self.storage);
        self.disk.run(move || work(&storage)).await.map_err(|_| UpkeepError::Lost)?.map_err(Into::into)
    }
}

fn hosted(storage: &Storage, name: RepositoryName) -> Result<HostedRepository, UpkeepError> {
    let repository = Repository { namespace: Namespace::Hosted, name };
    let links = storage.catalog.links(&repository)?;
    let manifests = links.iter().filter(|link| link.is_manifest()).count();
    Ok(HostedRepository {
        tags: storage.catalog.tags(&repository)?.len() as u64,
        manifests: manifests as u64,
        blobs: (links.len() - manifests) as u64,
        bytes: links.iter().map(|link| link.size).sum(),
        name: repository.name.to_string(),
    })
}
