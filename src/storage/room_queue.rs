//! The queue of downloads that wait for room.
//!
//! Promises:
//! - First come, first served: a large download is not starved by small ones.
//! - Nobody waits longer than [`WAIT`], nor where no eviction listens, nor longer than the eviction
//!   has something left to try.
//! - While one waits nothing is locked but its place in the queue.
//!
//! States of a wait: in line → first, asking → first, its need posted → room, or none. Callers: the
//! verbs that reserve; the eviction listens ([`RoomQueue::listen`]) and tells what it did.

use std::time::Duration;

use tokio::{
    sync::{Mutex, MutexGuard, watch},
    time::{Instant, timeout_at},
};

/// How long a download waits for room. Then it is passed through.
const WAIT: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(super) struct RoomQueue {
    line: Mutex<()>,
    /// The bytes that the first in line needs; 0: nobody waits.
    need: watch::Sender<u64>,
    /// How often the eviction had nothing left to try. Sent again whenever room became free.
    exhausted: watch::Sender<u64>,
}

/// The first place in line.
#[derive(Debug)]
pub(super) struct FirstInLine<'a> {
    queue: &'a RoomQueue,
    until: Instant,
    /// How often the eviction was exhausted when this began.
    exhausted: u64,
    /// The eviction has nothing left: the next look is the last one.
    ends: bool,
    changes: watch::Receiver<u64>,
    _place: MutexGuard<'a, ()>,
}

impl RoomQueue {
    pub(super) fn new() -> Self {
        RoomQueue { line: Mutex::new(()), need: watch::Sender::new(0), exhausted: watch::Sender::new(0) }
    }

    /// The bytes that the first in line needs, and each change of them.
    pub(super) fn listen(&self) -> watch::Receiver<u64> {
        self.need.subscribe()
    }

    /// Waits in line; `None` if that takes too long.
    pub(super) async fn first(&self) -> Option<FirstInLine<'_>> {
        let until = Instant::now() + WAIT;
        let place = timeout_at(until, self.line.lock()).await.ok()?;
        let changes = self.exhausted.subscribe();
        let exhausted = *changes.borrow();
        Some(FirstInLine { queue: self, until, exhausted, ends: false, changes, _place: place })
    }

    /// Some room has become free.
    pub(super) fn freed(&self) {
        self.exhausted.send_modify(|_| {});
    }

    /// Nothing is left that may go.
    pub(super) fn exhausted(&self) {
        self.exhausted.send_modify(|times| *times += 1);
    }
}

impl FirstInLine<'_> {
    /// To be called before each look for room: what changes from now on is not missed.
    pub(super) fn looks(&mut self) {
        self.changes.mark_unchanged();
    }

    /// There was no room for `bytes`: posts that need, and waits until it is worth to look again.
    /// False if it is not. Once nothing is left that may go, one more look is: what went last may
    /// have been enough.
    pub(super) async fn again(&mut self, bytes: u64) -> bool {
        if self.ends || self.queue.need.receiver_count() == 0 {
            return false;
        }
        if *self.queue.need.borrow() == 0 {
            self.queue.need.send_replace(bytes.max(1));
        }
        let changed = timeout_at(self.until, self.changes.changed()).await;
        self.ends = *self.changes.borrow() != self.exhausted;
        matches!(changed, Ok(Ok(())))
    }
}

impl Drop for FirstInLine<'_> {
    fn drop(&mut self) {
        if *self.queue.need.borrow() > 0 {
            self.queue.need.send_replace(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_told_of_room_of_its_end_and_of_time() {
        let queue = RoomQueue::new();
        let began = Instant::now();
        let mut alone = queue.first().await.unwrap();
        alone.looks();
        assert!(!alone.again(5).await, "nobody evicts");
        drop(alone);
        let need = queue.listen();
        let mut first = queue.first().await.unwrap();
        first.looks();
        queue.freed();
        assert!(first.again(5).await, "between the look and the wait");
        assert_eq!(*need.borrow(), 5);
        first.looks();
        assert!(!first.again(5).await && began.elapsed() == WAIT);
        drop(first);
        assert_eq!(*need.borrow(), 0);
        let mut last = queue.first().await.unwrap();
        last.looks();
        queue.exhausted();
        assert!(last.again(0).await, "what went last may be enough");
        last.looks();
        assert!(!last.again(0).await && began.elapsed() == WAIT, "nothing is left to go");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_who_came_is_served_first_and_nobody_waits_for_ever() {
        let queue = Arc::new(RoomQueue::new());
        let _need = queue.listen();
        let first = queue.first().await.unwrap();
        let (sender, mut served) = tokio::sync::mpsc::unbounded_channel();
        for n in 0..3 {
            let (queue, sender) = (Arc::clone(&queue), sender.clone());
            tokio::spawn(async move {
                let place = queue.first().await;
                sender.send((n, place.is_some())).unwrap();
            });
            tokio::task::yield_now().await;
        }
        drop(first);
        for n in 0..3 {
            assert_eq!(served.recv().await, Some((n, true)));
        }
        let _first = queue.first().await.unwrap();
        assert!(queue.first().await.is_none(), "it is too long for the second");
    }
}
