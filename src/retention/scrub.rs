//! The scrub reads and hashes all stored content again, once in every period.
//!
//! So rot is found before a client meets it. [`app`](crate::app) owns the task, and
//! [`admin`](crate::admin) shows its progress. States: waits for the next pass → reads → writes
//! down the end.
//!
//! Promises:
//! - A pass reads every blob and manifest, cached and hosted, that was stored when it began. It
//!   reads from the disk and not from the page cache. Newer content was proven when it came.
//! - It reads at the rate that the period needs, at least [`LEAST`] and at most [`MOST`]. Only a
//!   pass that would miss its period goes faster, up to [`BEHIND`]: clients come first.
//! - It goes on where it was after a restart. A crash costs half a minute of reading and the
//!   current blob.
//! - An error that says that the disk has lost the content is rot. After any other error the blob
//!   is skipped until the next pass.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::{RetentionError, ScrubStatus};
use crate::{
    oci::Digest,
    runtime::BlockingPool,
    storage::{Scrubbed, Scrubbing, Step, Storage, StorageError},
};

/// The slowest rate, in bytes per second.
const LEAST: u64 = 1 << 20;

/// The fastest rate, in bytes per second, of a pass that keeps its period.
const MOST: u64 = 32 << 20;

/// The fastest rate of a pass that is late, in bytes per second.
const BEHIND: u64 = 256 << 20;

/// A blob should take at most this many seconds: after a restart it is read from its beginning
/// again.
const ONE_BLOB: u64 = 600;

/// Opening a blob counts like reading this many bytes: the disk seeks.
const SEEK: u64 = 16 << 10;

/// The position of the scrub is written down this often.
const NOTED_EVERY: Duration = Duration::from_secs(30);

/// The first pass begins this long after the start, so that the start has the disk to itself. A
/// short period begins sooner.
const AFTER_START: Duration = Duration::from_secs(600);

/// The scrub. One per process.
pub struct Scrub {
    storage: Storage,
    every: Duration,
    state: Mutex<Scrubbing>,
    /// Bytes read since the start.
    read: AtomicU64,
}

/// The stop has begun.
struct Stopped;

impl Scrub {
    /// Reads everything again within `every`; zero means never. Runs on `pool`; one thread is
    /// enough.
    pub fn new(storage: &Storage, pool: BlockingPool, every: Duration) -> Arc<Scrub> {
        Arc::new(Scrub { storage: storage.on(pool), every, state: Mutex::default(), read: AtomicU64::new(0) })
    }

    /// Runs one pass after the other until `stop`, then writes down the position.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        if self.every.is_zero() {
            return;
        }
        match self.storage.scrubbing().await {
            Ok(known) => *self.lock() = known.unwrap_or_default(),
            Err(error) => tracing::warn!(%error, "the position of the scrub cannot be read: it begins anew"),
        }
        if self.runs(&stop).await.is_err() {
            self.note().await;
        }
    }

    /// Its progress. From memory.
    pub fn status(&self) -> ScrubStatus {
        let state = self.lock().clone();
        ScrubStatus {
            every: self.every.as_secs(),
            under_way: state.pass.began > 0 && state.pass.ended.is_none(),
            total: self.storage.usage().bytes,
            pass: state.pass,
            finished: state.finished,
        }
    }

    /// Bytes read since the start.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    async fn runs(&self, stop: &CancellationToken) -> Result<(), Stopped> {
        pause(AFTER_START.min(self.every / 10), stop).await?;
        loop {
            let pass = self.lock().pass;
            let age = now().saturating_sub(pass.began);
            if pass.ended.is_some() {
                // No pass waits longer than a period, also if the clock was set back.
                let wait = self.every.saturating_sub(Duration::from_secs(age)).min(self.every);
                pause(wait, stop).await?;
            }
            if pass.ended.is_some() || pass.began == 0 {
                let pass = Scrubbed { began: now(), ..Scrubbed::default() };
                let mut state = self.lock();
                (state.pass, state.last) = (pass, None);
            }
            self.pass(stop).await?;
            self.note().await;
        }
    }

    /// Reads from the last position to the end.
    async fn pass(&self, stop: &CancellationToken) -> Result<(), Stopped> {
        let last = self.lock().last;
        let mut pace = ReadPace::new();
        let mut noted = Instant::now();
        let mut walk = self.storage.walk(last);
        loop {
            let next = walk.next(1).await.map_err(|_| Stopped)?.pop();
            match next {
                None => break,
                Some(Ok(digest)) => self.blob(digest, &mut pace, stop).await?,
                Some(Err(error)) => tracing::warn!(%error, "blobs that cannot be listed are not scrubbed"),
            }
            if noted.elapsed() >= NOTED_EVERY {
                self.note().await;
                noted = Instant::now();
            }
        }
        let mut state = self.lock();
        state.pass.ended = Some(now());
        state.finished = Some(state.pass);
        let Scrubbed { began, blobs, bytes, rotten, .. } = state.pass;
        let duration_s = now().saturating_sub(began);
        tracing::info!(blobs, bytes, rotten, duration_s, "everything on disk was read again");
        Ok(())
    }

    /// Reads one blob.
    async fn blob(&self, digest: Digest, pace: &mut ReadPace, stop: &CancellationToken) -> Result<(), Stopped> {
        let mut bytes = 0;
        let ended = match self.storage.begin_proof(&digest).await {
            // It was removed meanwhile, or could not be opened and was rotten.
            Ok(None) => Ok(None),
            Ok(Some((mut proof, size))) => loop {
                let stepped = self.storage.step_proof(proof).await;
                let (after, step) = match stepped {
                    Ok(stepped) => stepped,
                    Err(error) => break Err(error),
                };
                proof = after;
                match step {
                    Step::More(read) => {
                        bytes += read;
                        self.read.fetch_add(read, Ordering::Relaxed);
                        pace.spent(read, self.rate(bytes, size), stop).await?;
                    }
                    ended @ (Step::Sound | Step::Rotten) => break Ok(Some(ended)),
                }
            },
            Err(error) => Err(error),
        };
        match ended {
            Ok(ended) => {
                let mut state = self.lock();
                state.last = Some(digest);
                state.pass.blobs += u64::from(ended.is_some());
                state.pass.bytes += bytes;
                state.pass.rotten += u64::from(ended == Some(Step::Rotten));
            }
            Err(StorageError::Lost) => return Err(Stopped),
            Err(error) => tracing::warn!(%digest, %error, "a blob could not be scrubbed"),
        }
        pace.spent(SEEK, self.rate(0, 0), stop).await
    }

    /// The rate now, in bytes per second, with `read` bytes read of a blob of `size`.
    fn rate(&self, read: u64, size: u64) -> u64 {
        let pass = self.lock().pass;
        let left = self.storage.usage().bytes.saturating_sub(pass.bytes + read);
        let gone = now().saturating_sub(pass.began);
        rate(left, self.every.as_secs().saturating_sub(gone), size)
    }

    /// Writes down the position. If the disk takes no change, the next start reads some content
    /// twice.
    async fn note(&self) {
        let state = self.lock().clone();
        match self.storage.note_scrubbing(state).await.map_err(RetentionError::from) {
            Ok(()) => {}
            Err(error) if error.is_expected() => {
                tracing::debug!(%error, "the position of the scrub was not written down")
            }
            Err(error) => tracing::warn!(%error, "the position of the scrub was not written down"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Scrubbing> {
        self.state.lock()
    }
}

/// The rate that reads `left` bytes within `seconds`, during a blob of `size` bytes.
fn rate(left: u64, seconds: u64, size: u64) -> u64 {
    let needed = left.checked_div(seconds).unwrap_or(BEHIND);
    let ordinary = needed.max(size / ONE_BLOB).clamp(LEAST, MOST);
    ordinary.max(needed.min(BEHIND))
}

/// The time at which the next piece may be read.
struct ReadPace(Instant);

impl ReadPace {
    fn new() -> ReadPace {
        ReadPace(Instant::now())
    }

    /// Waits as long as `bytes` take at `rate`. If the disk took longer, the next piece does not
    /// catch up.
    async fn spent(&mut self, bytes: u64, rate: u64, stop: &CancellationToken) -> Result<(), Stopped> {
        let now = Instant::now();
        self.0 = self.0.max(now) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        // Timers are coarse: short waits are added up.
        let owed = self.0.saturating_duration_since(now);
        if owed < Duration::from_millis(20) && !stop.is_cancelled() {
            return Ok(());
        }
        pause(owed, stop).await
    }
}

async fn pause(wait: Duration, stop: &CancellationToken) -> Result<(), Stopped> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Stopped),
        () = tokio::time::sleep(wait) => Ok(()),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_keeps_the_period_and_never_floods_the_disk() {
        const DAY: u64 = 24 * 3600;
        for (left, seconds, size, expected) in [
            (0, 30 * DAY, 0, LEAST),
            (100 << 30, 30 * DAY, 0, LEAST),
            // 10 TiB in 30 days.
            (10 << 40, 30 * DAY, 0, (10 << 40) / (30 * DAY)),
            // More than the ordinary rate, and more than any rate.
            (200 << 40, 30 * DAY, 0, (200 << 40) / (30 * DAY)),
            (u64::MAX, DAY, 0, BEHIND),
            // Late: a machine that was off for a month.
            (1 << 20, 0, 0, BEHIND),
            // One large blob must be finished between two restarts. That alone does not exceed
            // `MOST`.
            (100 << 30, 30 * DAY, 12 << 30, (12 << 30) / ONE_BLOB),
            (1 << 40, 30 * DAY, 1 << 40, MOST),
        ] {
            assert_eq!(rate(left, seconds, size), expected, "{left} bytes in {seconds} s, {size}");
        }
    }
}
