//! The connections of one upstream, shared among its repositories.
//!
//! - At most three quarters of the connections carry blob downloads, which can take hours. The rest
//!   is for short requests.
//! - The short requests of one repository get at most three quarters of what the others leave.
//! - One repository leaves an eighth of the connections to others, so requests that hang keep no
//!   other repository waiting (S30). Below 8 connections an eighth is less than one, and they may.
//! - If downloads hold their three quarters, a repository without a download gets one more place.
//! - A free place goes to the repository that holds the fewest. Among equals it goes to the one
//!   that has waited longest.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The permits of one upstream.
pub(super) struct ConnectionPermits(Arc<Mutex<PermitTable>>);

/// The permit for one connection. Dropping it gives it back.
pub(super) struct ConnectionPermit {
    table: Option<Arc<Mutex<PermitTable>>>,
    whose: Whose,
}

/// A repository, and whether this is about its blob downloads.
type Whose = (Arc<str>, bool);

struct PermitTable {
    all: usize,
    held: HashMap<Whose, usize>,
    short: usize,
    long: usize,
    waiting: HashMap<Whose, VecDeque<(u64, oneshot::Sender<ConnectionPermit>)>>,
    tickets: u64,
}

impl ConnectionPermits {
    /// Allows `connections` at a time, at least two.
    pub(super) fn new(connections: usize) -> Self {
        let all = connections.max(2);
        let (held, waiting) = (HashMap::new(), HashMap::new());
        ConnectionPermits(Arc::new(Mutex::new(PermitTable { all, held, short: 0, long: 0, waiting, tickets: 0 })))
    }

    /// Waits for a permit. May be dropped at any time.
    pub(super) async fn take(&self, repository: &str, long: bool) -> Option<ConnectionPermit> {
        let whose: Whose = (repository.into(), long);
        let waiting = {
            let mut table = self.0.lock();
            if table.may_have(&whose) {
                return Some(table.give(&self.0, whose));
            }
            let (sender, waiting) = oneshot::channel();
            table.tickets += 1;
            let ticket = table.tickets;
            table.waiting.entry(whose).or_default().push_back((ticket, sender));
            waiting
        };
        // The table lives as long as this upstream does, and keeps the other end.
        waiting.await.ok()
    }
}

impl PermitTable {
    fn held(&self, whose: &Whose) -> usize {
        self.held.get(whose).copied().unwrap_or_default()
    }

    fn may_have(&self, whose: &Whose) -> bool {
        let (taken, held) = (self.short + self.long, self.held(whose));
        let both = held + self.held(&(Arc::clone(&whose.0), !whose.1));
        if taken >= self.all || both >= self.all - self.all / 8 {
            return false;
        }
        if whose.1 {
            let usual = self.all - (self.all / 4).max(1);
            let beyond = self.all - (self.all / 8).max(1);
            return self.long < usual || (held == 0 && self.long < beyond);
        }
        // With so few connections there is nothing to share.
        self.all < 4 || held < (3 * (self.all - (taken - held)) / 4).max(1)
    }

    fn give(&mut self, table: &Arc<Mutex<PermitTable>>, whose: Whose) -> ConnectionPermit {
        *if whose.1 { &mut self.long } else { &mut self.short } += 1;
        *self.held.entry(whose.clone()).or_default() += 1;
        ConnectionPermit { table: Some(Arc::clone(table)), whose }
    }

    fn take_back(&mut self, whose: &Whose) {
        *if whose.1 { &mut self.long } else { &mut self.short } -= 1;
        if let Some(held) = self.held.get_mut(whose) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(whose);
            }
        }
    }

    /// The waiter that gets the next free place, if one may have it.
    fn next(&mut self) -> Option<(Whose, oneshot::Sender<ConnectionPermit>)> {
        self.waiting.retain(|_, queue| {
            while queue.front().is_some_and(|(_, waiter)| waiter.is_closed()) {
                queue.pop_front();
            }
            !queue.is_empty()
        });
        let first = |queue: &VecDeque<(u64, _)>| queue.front().map_or(u64::MAX, |(ticket, _)| *ticket);
        let whose = self
            .waiting
            .iter()
            .filter(|(whose, _)| self.may_have(whose))
            .min_by_key(|(whose, queue)| (self.held(whose), first(queue)))
            .map(|(whose, _)| whose.clone())?;
        let (_, waiter) = self.waiting.get_mut(&whose)?.pop_front()?;
        Some((whose, waiter))
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let Some(table) = self.table.take() else { return };
        table.lock().take_back(&self.whose);
        loop {
            let (permit, waiter) = {
                let mut locked = table.lock();
                let Some((whose, waiter)) = locked.next() else { return };
                (locked.give(&table, whose), waiter)
            };
            if let Err(mut unwanted) = waiter.send(permit) {
                // The waiter left just now. Without the table, dropping the permit does not give it
                // back twice.
                unwanted.table = None;
                table.lock().take_back(&unwanted.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn now(permits: &ConnectionPermits, repository: &str, long: bool) -> Option<ConnectionPermit> {
        permits.take(repository, long).now_or_never().flatten()
    }

    fn all_that_one_gets(permits: &ConnectionPermits, repository: &str, long: bool) -> Vec<ConnectionPermit> {
        std::iter::from_fn(|| now(permits, repository, long)).collect()
    }

    #[test]
    fn one_repository_never_gets_all() {
        for connections in [4, 5, 8, 16, 100] {
            let permits = ConnectionPermits::new(connections);
            let long = all_that_one_gets(&permits, "hangs", true);
            assert_eq!(long.len(), connections - connections / 4, "blobs of {connections}");
            let short = all_that_one_gets(&permits, "hangs", false);
            assert!(!short.is_empty() && short.len() + long.len() <= connections);
            drop(short);
            let mut others = Vec::new();
            if connections >= 8 {
                others.extend(now(&permits, "other", true));
                assert_eq!(others.len(), 1, "another repository's blob with {connections}");
                assert!(now(&permits, "hangs", true).is_none());
            }
            others.extend(now(&permits, "other", false));
            assert!(!others.is_empty());
            drop((long, others));
            let short = all_that_one_gets(&permits, "hangs", false);
            assert_eq!(short.len(), 3 * connections / 4, "short ones of {connections}");
            assert!(now(&permits, "other", false).is_some() && now(&permits, "third", true).is_some());
            let long = all_that_one_gets(&permits, "hangs", true);
            assert!(short.len() + long.len() <= connections - connections / 8, "both of {connections}");
            assert!(
                connections < 8 || now(&permits, "other", true).is_some() && now(&permits, "other", false).is_some()
            );
        }
    }

    #[tokio::test]
    async fn a_free_place_goes_to_who_holds_the_fewest_and_then_to_who_waited_longest() {
        let permits = ConnectionPermits::new(16);
        let mut held = all_that_one_gets(&permits, "many", true);
        held.extend(["a", "b"].map(|other| now(&permits, other, true).unwrap()));
        let mut waiting: Vec<_> = ["many", "c", "gone", "d"].map(|name| Box::pin(permits.take(name, true))).into();
        assert!(waiting.iter_mut().all(|one| one.as_mut().now_or_never().is_none()));
        drop(waiting.remove(2));
        // A place in the three quarters of blobs is free only after the places beyond them are
        // given back.
        for (expected, freed) in [("c", 1), ("d", 1), ("many", 3)] {
            held.drain(..freed);
            let at = (0..waiting.len()).find_map(|at| Some((at, waiting[at].as_mut().now_or_never()??)));
            let Some((at, permit)) = at else { panic!("{expected} waits") };
            assert_eq!(&*permit.whose.0, expected);
            held.push(permit);
            drop(waiting.remove(at));
        }
        drop((held, waiting));
        let table = permits.0.lock();
        assert_eq!((table.short, table.long, table.held.len()), (0, 0, 0));
    }
}
