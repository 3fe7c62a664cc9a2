//! The queue of downloads and pushes that wait for room.
//!
//! Promises:
//! - First come, first served: a large download is not starved by small ones.
//! - Nobody waits longer than [`WAIT`], nor where no eviction listens, nor longer than the eviction
//!   has something left to try for this one. Who could not fit beside what stays does not wait.
//! - While one waits nothing is locked but its place in the queue.
//! - The first in line looks again whenever room becomes free: by an eviction, a removal, or a
//!   reservation that is given back.
//!
//! States of a wait: in line → first, asking → first, its need posted → room, or none. Callers: the
//! verbs that need room wait ([`RoomQueue::first`]); the eviction listens ([`RoomQueue::listen`])
//! and tells what it did.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Mutex, MutexGuard, watch},
    time::{Instant, timeout_at},
};

/// How long a download waits for room. Then it is passed through.
const WAIT: Duration = Duration::from_secs(2);

/// What the first in line needs. Zero bytes: nobody waits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RoomNeed {
    /// In bytes.
    pub bytes: u64,
    /// It is a push: `max_size` is not for it, only `min_free`.
    pub push: bool,
    /// The bytes that it has reserved already.
    pub own: u64,
    /// Which wait it is.
    pub(in crate::storage) serial: u64,
}

impl RoomNeed {
    /// A download's need of `bytes`.
    pub(super) fn of(bytes: u64) -> RoomNeed {
        RoomNeed { bytes: bytes.max(1), ..RoomNeed::default() }
    }
}

/// How waits for room have ended since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RoomWaits {
    /// Cached content made room.
    pub granted: u64,
    /// There was none in time: the download was passed through, or the push refused.
    pub refused: u64,
    /// Of those, how many waited for all of the time.
    pub in_vain: u64,
    /// The last one was refused at once: it could not fit beside what stays.
    pub last_was_hopeless: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct RoomQueue {
    /// The number of the last wait. The first in line holds the lock.
    line: Mutex<u64>,
    need: watch::Sender<RoomNeed>,
    /// The number of the wait for which nothing is left to evict. Sent again whenever room became
    /// free.
    exhausted: watch::Sender<u64>,
    granted: AtomicU64,
    refused: AtomicU64,
    in_vain: AtomicU64,
    last_was_hopeless: AtomicBool,
}

impl RoomQueue {
    pub(super) fn new() -> Self {
        RoomQueue {
            line: Mutex::new(0),
            need: watch::Sender::default(),
            exhausted: watch::Sender::new(0),
            granted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            in_vain: AtomicU64::new(0),
            last_was_hopeless: AtomicBool::new(false),
        }
    }

    /// Somebody is refused without a wait: no eviction could help.
    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.last_was_hopeless.store(true, Ordering::Relaxed);
    }

    /// What the first in line needs, and each change of it.
    pub(super) fn listen(&self) -> watch::Receiver<RoomNeed> {
        self.need.subscribe()
    }

    /// Whether an eviction listens.
    pub(super) fn is_served(&self) -> bool {
        self.need.receiver_count() > 0
    }

    /// Some room has become free.
    pub(super) fn freed(&self) {
        self.exhausted.send_modify(|_| {});
    }

    /// Nothing is left that may go for this need.
    pub(super) fn exhausted(&self, need: RoomNeed) {
        self.exhausted.send_replace(need.serial);
    }

    /// How waits have ended.
    pub(super) fn waits(&self) -> RoomWaits {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        RoomWaits {
            granted: read(&self.granted),
            refused: read(&self.refused),
            in_vain: read(&self.in_vain),
            last_was_hopeless: self.last_was_hopeless.load(Ordering::Relaxed),
        }
    }

    /// Waits in line with a need; `None` if that takes too long.
    pub(super) async fn first(&self, need: RoomNeed) -> Option<FirstInLine<'_>> {
        let until = Instant::now() + WAIT;
        let mut place = timeout_at(until, self.line.lock()).await.ok()?;
        *place += 1;
        let need = RoomNeed { serial: *place, ..need };
        Some(FirstInLine {
            queue: self,
            need,
            until,
            ends: false,
            waited: false,
            late: false,
            changes: self.exhausted.subscribe(),
            _place: place,
        })
    }
}

/// The first place in line.
#[derive(Debug)]
pub(super) struct FirstInLine<'a> {
    queue: &'a RoomQueue,
    need: RoomNeed,
    until: Instant,
    /// The next look is the last one.
    ends: bool,
    /// It is counted when this ends.
    waited: bool,
    /// Its time is over.
    late: bool,
    changes: watch::Receiver<u64>,
    _place: MutexGuard<'a, u64>,
}

impl FirstInLine<'_> {
    /// To be called before each look for room: what changes from now on is not missed.
    pub(super) fn looks(&mut self) {
        self.changes.mark_unchanged();
    }

    /// There is room: ends the wait.
    pub(super) fn found(mut self) {
        if std::mem::take(&mut self.waited) {
            self.queue.granted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// There was no room: posts the need, and waits until it is worth to look again. False if it
    /// is not. After the last eviction, or the last moment, one more look is: what went last may
    /// have been enough.
    pub(super) async fn again(&mut self) -> bool {
        if self.ends || !self.queue.is_served() {
            return false;
        }
        self.waited = true;
        self.queue.last_was_hopeless.store(false, Ordering::Relaxed);
        if *self.queue.need.borrow() != self.need {
            self.queue.need.send_replace(self.need);
        }
        self.late = timeout_at(self.until, self.changes.changed()).await.is_err();
        self.ends = self.late || *self.changes.borrow() == self.need.serial;
        true
    }
}

impl Drop for FirstInLine<'_> {
    fn drop(&mut self) {
        if self.waited {
            self.queue.refused.fetch_add(1, Ordering::Relaxed);
            self.queue.in_vain.fetch_add(self.late.into(), Ordering::Relaxed);
        }
        self.queue.need.send_if_modified(|need| std::mem::take(need).bytes > 0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A wait that finds room at the look of this number, 0: never.
    async fn wait(queue: &RoomQueue, found_at: u32) -> (bool, u32) {
        let Some(mut first) = queue.first(RoomNeed::of(5)).await else { return (false, 0) };
        let mut looks = 0;
        loop {
            looks += 1;
            first.looks();
            if looks == found_at || !first.again().await {
                return (looks == found_at, looks);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_told_of_room_of_its_end_and_of_time() {
        let queue = Arc::new(RoomQueue::new());
        let began = Instant::now();
        assert_eq!(wait(&queue, 0).await, (false, 1), "nobody evicts");
        let mut needs = queue.listen();
        let spawn = |found_at| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { wait(&queue, found_at).await })
        };
        let waits = spawn(3);
        needs.wait_for(|need| need.bytes == 5).await.unwrap();
        for _ in 0..2 {
            queue.freed();
            tokio::task::yield_now().await;
        }
        assert_eq!(waits.await.unwrap(), (true, 3));
        assert_eq!(*needs.borrow_and_update(), RoomNeed::default());

        let waits = spawn(0);
        let need = *needs.wait_for(|need| need.bytes == 5).await.unwrap();
        queue.exhausted(need);
        assert_eq!(waits.await.unwrap(), (false, 2), "what went last may be enough, and that is all");
        assert!(began.elapsed() < Duration::from_secs(1));

        let waits = spawn(0);
        needs.wait_for(|now| now.bytes == 5 && *now != need).await.unwrap();
        queue.exhausted(need);
        assert_eq!(waits.await.unwrap(), (false, 3), "the end of an earlier wait is not its own");
        assert!(began.elapsed() >= WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_who_came_is_served_first_and_nobody_waits_for_ever() {
        let queue = Arc::new(RoomQueue::new());
        let _needs = queue.listen();
        let (sender, mut served) = tokio::sync::mpsc::unbounded_channel();
        let first = queue.line.lock().await;
        for n in 0..3 {
            let (queue, sender) = (Arc::clone(&queue), sender.clone());
            tokio::spawn(async move { sender.send((n, wait(&queue, 1).await.0)).unwrap() });
            tokio::task::yield_now().await;
        }
        drop(first);
        for n in 0..3 {
            assert_eq!(served.recv().await, Some((n, true)));
        }
        let _first = queue.line.lock().await;
        assert_eq!(wait(&queue, 1).await, (false, 0), "it is too long for the second");
    }
}
