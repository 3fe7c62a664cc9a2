//! Turns that are given in an order: of those that wait, the lowest rank is next.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// Who is next among those of one rank.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// Who came first.
    Oldest,
    /// Who came last, so that a crowd that came before delays nobody.
    Newest,
}

/// So many turns at a time.
#[derive(Debug)]
pub(super) struct Turns {
    order: Order,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    free: usize,
    waiting: BTreeMap<Key, oneshot::Sender<()>>,
    came: u64,
}

/// The rank, and the order in it.
type Key = (usize, u64);

/// A turn, while it lives.
#[derive(Debug)]
pub(super) struct Turn(Arc<Turns>);

/// One that waits. Dropped, it waits no more, and passes on what it was given meanwhile.
struct Waiting {
    turns: Arc<Turns>,
    key: Key,
    /// It has its turn.
    done: bool,
}

impl Turns {
    pub(super) fn new(count: usize, order: Order) -> Arc<Turns> {
        let queue = Mutex::new(Queue { free: count, waiting: BTreeMap::new(), came: 0 });
        Arc::new(Turns { order, queue })
    }

    /// A turn, where nobody has to wait.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<Turn> {
        let mut queue = self.lock();
        queue.free = queue.free.checked_sub(1)?;
        Some(Turn(Arc::clone(self)))
    }

    /// A turn, when it is this rank's.
    pub(super) async fn take(self: &Arc<Self>, rank: usize) -> Turn {
        let (mut waiting, given) = {
            let mut queue = self.lock();
            if queue.free > 0 {
                queue.free -= 1;
                return Turn(Arc::clone(self));
            }
            queue.came += 1;
            let order = match self.order {
                Order::Oldest => queue.came,
                Order::Newest => u64::MAX - queue.came,
            };
            let (give, given) = oneshot::channel();
            queue.waiting.insert((rank, order), give);
            (Waiting { turns: Arc::clone(self), key: (rank, order), done: false }, given)
        };
        // The sender is dropped without a word by nobody.
        let _ = given.await;
        waiting.done = true;
        Turn(Arc::clone(self))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn pass_on(&mut self) {
        match self.waiting.pop_first() {
            // Who has left meanwhile passes it on again.
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

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut queue = self.turns.lock();
        if queue.waiting.remove(&self.key).is_none() {
            queue.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;

    type Taking = Pin<Box<dyn Future<Output = Turn>>>;

    /// Waits from now on.
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

    /// In which order those of these ranks have their turn.
    fn order(order: Order, ranks: &[usize]) -> Vec<usize> {
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
        assert_eq!(order(Order::Oldest, &[10, 9, 1, 1, 2]), [2, 3, 4, 1, 0]);
        assert_eq!(order(Order::Newest, &[10, 9, 1, 1, 2]), [3, 2, 4, 1, 0]);
    }

    #[test]
    fn who_leaves_passes_its_turn_on() {
        let turns = Turns::new(1, Order::Oldest);
        let turn = turns.try_take();
        let (first, second, mut third) = (wait(&turns, 1), wait(&turns, 1), wait(&turns, 1));
        drop(second);
        drop(turn);
        assert!(turns.try_take().is_none(), "it is the first one's");
        drop(first);
        let turn = poll(&mut third).unwrap();
        assert!(turns.try_take().is_none());
        drop((turn, third));
        assert!(turns.try_take().is_some() && turns.lock().waiting.is_empty());
    }
}
