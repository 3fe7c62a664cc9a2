//! The scrub: everything on disk is read and hashed again, once in every period, so that rot is
//! found before a client meets it.
//!
//! Promises:
//! - A pass reads every blob and manifest that was here when it began, cached and hosted, from the
//!   disk and not from the page cache. What came since was proven when it came.
//! - It reads at the rate that the period asks for, at least [`LEAST`] and at most [`MOST`]; only a
//!   pass that cannot keep its period at that rate goes faster, up to [`BEHIND`]. Not faster than
//!   that either: what is served comes first.
//! - It goes on where it was after a restart. What a crash costs is half a minute of reading, and
//!   the blob it was at.
//! - What a disk does not give is rot if the disk has lost it. Any other error costs the blob its
//!   turn.
//!
//! Called by [`app`](crate::app), which owns the task, and by the admin API of
//! [`http`](crate::http).

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

/// The slowest it reads, in bytes per second.
const LEAST: u64 = 1 << 20;

/// The fastest, unless the period cannot be kept.
const MOST: u64 = 32 << 20;

/// The fastest at all.
const BEHIND: u64 = 256 << 20;

/// How long one blob may take where the rate allows it: a blob that was begun is begun again after
/// a restart.
const ONE_BLOB: u64 = 600;

/// What a blob costs besides its bytes: the disk looks for it.
const SEEK: u64 = 16 << 10;

/// How often it is written down where the scrub is.
const NOTED_EVERY: Duration = Duration::from_secs(30);

/// After how long it begins, so that a start has the disk to itself; sooner where the period is
/// short.
const AFTER_START: Duration = Duration::from_secs(600);

/// The scrub. One per process.
pub struct Scrub {
    storage: Storage,
    every: Duration,
    state: Mutex<Scrubbing>,
    /// Bytes read since the start.
    read: AtomicU64,
}

/// It is time to stop.
struct Stopped;

impl Scrub {
    /// Reads everything again within `every`, zero for never, on `pool`; one thread is enough.
    pub fn new(storage: &Storage, pool: BlockingPool, every: Duration) -> Arc<Scrub> {
        Arc::new(Scrub { storage: storage.on(pool), every, state: Mutex::default(), read: AtomicU64::new(0) })
    }

    /// One pass after the other, until `stop`; one under way is written down then.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        if self.every.is_zero() {
            return;
        }
        match self.storage.scrubbing().await {
            Ok(known) => *self.lock() = known.unwrap_or_default(),
            Err(error) => tracing::warn!(%error, "where the scrub was cannot be read: it begins anew"),
        }
        if self.runs(&stop).await.is_err() {
            self.note().await;
        }
    }

    /// How it gets on.
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
                // A clock that was set back makes no pass wait for longer than a period.
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

    /// Reads from where it was to the end.
    async fn pass(&self, stop: &CancellationToken) -> Result<(), Stopped> {
        let last = self.lock().last;
        let mut pace = Pace::new();
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
    async fn blob(&self, digest: Digest, pace: &mut Pace, stop: &CancellationToken) -> Result<(), Stopped> {
        let mut bytes = 0;
        let ended = match self.storage.begin_proof(&digest).await {
            // It went meanwhile, or could not even be opened and was rotten.
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

    /// How fast to read now, in bytes per second; `read` bytes of a blob of `size` are done.
    fn rate(&self, read: u64, size: u64) -> u64 {
        let pass = self.lock().pass;
        let left = self.storage.usage().bytes.saturating_sub(pass.bytes + read);
        let gone = now().saturating_sub(pass.began);
        rate(left, self.every.as_secs().saturating_sub(gone), size)
    }

    /// Writes down where it is. A disk that takes nothing costs the next start some reading.
    async fn note(&self) {
        let state = self.lock().clone();
        match self.storage.note_scrubbing(state).await.map_err(RetentionError::from) {
            Ok(()) => {}
            Err(error) if error.is_expected() => tracing::debug!(%error, "where the scrub is was not written down"),
            Err(error) => tracing::warn!(%error, "where the scrub is was not written down"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Scrubbing> {
        self.state.lock()
    }
}

/// The rate for `left` bytes within so many `seconds`, while a blob of `size` is read.
fn rate(left: u64, seconds: u64, size: u64) -> u64 {
    let needed = left.checked_div(seconds).unwrap_or(BEHIND);
    let ordinary = needed.max(size / ONE_BLOB).clamp(LEAST, MOST);
    ordinary.max(needed.min(BEHIND))
}

/// When the next piece may be read.
struct Pace(Instant);

impl Pace {
    fn new() -> Pace {
        Pace(Instant::now())
    }

    /// So many bytes were read: waits for as long as they take at the rate. What the disk took
    /// longer is not made up for.
    async fn spent(&mut self, bytes: u64, rate: u64, stop: &CancellationToken) -> Result<(), Stopped> {
        let now = Instant::now();
        self.0 = self.0.max(now) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        // Timers are coarse: small debts are paid together.
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
            // More than the ordinary rate can do, and more than any.
            (200 << 40, 30 * DAY, 0, (200 << 40) / (30 * DAY)),
            (u64::MAX, DAY, 0, BEHIND),
            // Late: a machine that was off for a month.
            (1 << 20, 0, 0, BEHIND),
            // One large blob has to come to its end between two restarts; that alone is no reason
            // for more than the most.
            (100 << 30, 30 * DAY, 12 << 30, (12 << 30) / ONE_BLOB),
            (1 << 40, 30 * DAY, 1 << 40, MOST),
        ] {
            assert_eq!(rate(left, seconds, size), expected, "{left} bytes in {seconds} s, {size}");
        }
    }
}
