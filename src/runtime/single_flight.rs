//! Single flight: one piece of work per key at a time, however many callers wait for it.
//!
//! The work runs on a task of [`Tasks`] and is not cancelled when its callers leave. The key is
//! free again before a caller gets the result, so a caller that asks afterwards begins new work.

use std::{collections::HashMap, future::Future, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Tasks;

/// The work under way, by key. `V` is its result, cloned for each caller that waits.
pub(crate) struct SingleFlight<K, V> {
    table: Arc<Flights<K, V>>,
}

type Flights<K, V> = Mutex<HashMap<K, watch::Receiver<Option<V>>>>;

/// The work ended without a result: it panicked, or the runtime is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost;

/// A piece of work that is under way, as one of its callers sees it.
pub(crate) struct Flight<V> {
    result: watch::Receiver<Option<V>>,
    /// Whether another caller began it.
    pub(crate) joined: bool,
}

impl<K, V> SingleFlight<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Nothing is under way.
    pub(crate) fn new() -> Self {
        SingleFlight { table: Arc::default() }
    }

    /// Joins the work for `key`, or begins it with `work` on a task of its own.
    pub(crate) fn join<F>(&self, tasks: &Tasks, key: K, work: impl FnOnce() -> F) -> Flight<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut table = self.table.lock();
        if let Some(result) = table.get(&key) {
            return Flight { result: result.clone(), joined: true };
        }
        let (sender, result) = watch::channel(None);
        table.insert(key.clone(), result.clone());
        drop(table);
        let landing = Landing { table: Arc::clone(&self.table), key };
        let work = work();
        tasks.spawn(async move {
            let value = work.await;
            // The key is free before the result is told: a caller that asks again begins new work.
            drop(landing);
            sender.send_replace(Some(value));
        });
        Flight { result, joined: false }
    }
}

impl<V: Clone> Flight<V> {
    /// Waits for the result. May be given up at any time; the work goes on.
    pub(crate) async fn result(&mut self) -> Result<V, Lost> {
        match self.result.wait_for(Option::is_some).await {
            Ok(value) => value.clone().ok_or(Lost),
            Err(_) => Err(Lost),
        }
    }
}

/// Removes the key when the work ends, also by a panic.
struct Landing<K: Eq + Hash, V> {
    table: Arc<Flights<K, V>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.table.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn flies_once_for_all_who_wait_and_again_afterwards() {
        let (flights, tasks) = (SingleFlight::<u8, usize>::new(), Tasks::new(tokio::runtime::Handle::current()));
        let runs = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(tokio::sync::Notify::new());
        let work = || {
            let (runs, gate) = (Arc::clone(&runs), Arc::clone(&gate));
            async move {
                gate.notified().await;
                runs.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        let mut all: Vec<_> = (0..20).map(|_| flights.join(&tasks, 1, work)).collect();
        assert_eq!(all.iter().filter(|f| !f.joined).count(), 1);
        gate.notify_one();
        for flight in &mut all {
            assert_eq!(flight.result().await.unwrap(), 1);
        }
        gate.notify_one();
        assert_eq!(flights.join(&tasks, 1, work).result().await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_panic_is_told_and_leaves_no_entry() {
        let (flights, tasks) = (SingleFlight::<u8, ()>::new(), Tasks::new(tokio::runtime::Handle::current()));
        assert!(flights.join(&tasks, 1, || async { panic!("on purpose") }).result().await.is_err());
        assert!(!flights.join(&tasks, 1, || async {}).joined);
    }
}
