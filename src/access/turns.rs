//! A semaphore for password checks. Its permit is called a turn. A free turn goes to the waiter of
//! the lowest rank.
//!
//! The rank comes from `lanes.rs`, the only caller. It is the number of the guess among those of
//! its address in the last minute, as `throttle.rs` counts them: the first guess of each address
//! goes before any second one. [`QueueOrder`] says which of equal ranks is next.
//!
//! Promises: no turn is lost. A waiter that is dropped leaves the queue. If it was given a turn
//! meanwhile, the next waiter gets it.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

/// The order among waiters of one rank.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum QueueOrder {
    /// First in, first out.
    OldestFirst,
    /// Last in, first out, so that a crowd that came before delays no later waiter.
    NewestFirst,
}

/// The semaphore.
#[derive(Debug)]
pub(super) struct Turns {
    order: QueueOrder,
    queue: Mutex<TurnQueue>,
}

#[derive(Debug)]
struct TurnQueue {
    free: usize,
    waiters: BTreeMap<QueueKey, oneshot::Sender<()>>,
    /// How many have waited so far.
    arrivals: u64,
}

/// The rank, and the place among those of the same rank.
type QueueKey = (usize, u64);

/// A permit of the semaphore. Dropping it passes it on.
#[derive(Debug)]
pub(super) struct Turn(Arc<Turns>);

/// A place in the queue. Dropping it leaves the queue, and passes on a turn that was given
/// meanwhile.
struct Waiter {
    turns: Arc<Turns>,
    key: QueueKey,
    /// The waiter has taken its turn.
    done: bool,
}

impl Turns {
    /// A semaphore of `count` turns.
    pub(super) fn new(count: usize, order: QueueOrder) -> Arc<Turns> {
        let queue = Mutex::new(TurnQueue { free: count, waiters: BTreeMap::new(), arrivals: 0 });
        Arc::new(Turns { order, queue })
    }

    /// A turn, if one is free.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<Turn> {
        let mut queue = self.lock();
        queue.free = queue.free.checked_sub(1)?;
        Some(Turn(Arc::clone(self)))
    }

    /// Waits for a turn. May be dropped at any time.
    pub(super) async fn take(self: &Arc<Self>, rank: usize) -> Turn {
        let (mut waiter, given) = {
            let mut queue = self.lock();
            if queue.free > 0 {
                queue.free -= 1;
                return Turn(Arc::clone(self));
            }
            queue.arrivals += 1;
            let order = match self.order {
                QueueOrder::OldestFirst => queue.arrivals,
                QueueOrder::NewestFirst => u64::MAX - queue.arrivals,
            };
            let (give, given) = oneshot::channel();
            queue.waiters.insert((rank, order), give);
            (Waiter { turns: Arc::clone(self), key: (rank, order), done: false }, given)
        };
        // Cannot fail: a sender leaves the queue only to send, or with this waiter.
        let _ = given.await;
        waiter.done = true;
        Turn(Arc::clone(self))
    }

    fn lock(&self) -> MutexGuard<'_, TurnQueue> {
        self.queue.lock()
    }
}

impl TurnQueue {
    fn pass_on(&mut self) {
        match self.waiters.pop_first() {
            // A waiter that is being dropped passes the turn on again.
            Some((_, next)) => drop(next.send(())),
            None => self.free += 1,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().pass_on();
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut queue = self.turns.lock();
        if queue.waiters.remove(&self.key).is_none() {
            queue.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;

    type Taking = Pin<Box<dyn Future<Output = Turn>>>;

    /// Joins the queue.
    fn wait(turns: &Arc<Turns>, rank: usize) -> Taking {
        let turns = Arc::clone(turns);
        let mut taking: Taking = Box::pin(async move { turns.take(rank).await });
        assert!(poll(&mut taking).is_none());
        taking
    }

    fn poll(taking: &mut Taking) -> Option<Turn> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match taking.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(turn) => Some(turn),
            std::task::Poll::Pending => None,
        }
    }

    /// The order in which waiters of these ranks get a turn, by their index.
    fn order(order: QueueOrder, ranks: &[usize]) -> Vec<usize> {
        let turns = Turns::new(1, order);
        let mut turn = turns.try_take();
        let mut waiting: Vec<_> = ranks.iter().map(|rank| Some(wait(&turns, *rank))).collect();
        let mut all = Vec::new();
        while all.len() < ranks.len() {
            drop(turn.take());
            let next = waiting.iter_mut().enumerate().find_map(|(number, taking)| {
                let given = poll(taking.as_mut()?)?;
                *taking = None;
                Some((number, given))
            });
            let (number, given) = next.unwrap();
            turn = Some(given);
            all.push(number);
        }
        all
    }

    #[test]
    fn the_lowest_rank_is_next() {
        assert_eq!(order(QueueOrder::OldestFirst, &[10, 9, 1, 1, 2]), [2, 3, 4, 1, 0]);
        assert_eq!(order(QueueOrder::NewestFirst, &[10, 9, 1, 1, 2]), [3, 2, 4, 1, 0]);
    }

    #[test]
    fn a_waiter_that_leaves_passes_its_turn_on() {
        let turns = Turns::new(1, QueueOrder::OldestFirst);
        let turn = turns.try_take();
        let (first, second, mut third) = (wait(&turns, 1), wait(&turns, 1), wait(&turns, 1));
        drop(second);
        drop(turn);
        assert!(turns.try_take().is_none(), "the turn is the first waiter's");
        drop(first);
        let turn = poll(&mut third).unwrap();
        assert!(turns.try_take().is_none());
        drop((turn, third));
        assert!(turns.try_take().is_some() && turns.lock().waiters.is_empty());
    }
}
