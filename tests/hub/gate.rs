//! Barriers and rates, for scripted faults that wait.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How often a waiting connection checks whether its peer has left or the stand-in is being
/// stopped.
const GLANCE: Duration = Duration::from_millis(5);

/// A gate that a test opens. Clones are the same gate. It starts shut and, once open, stays open.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Default)]
struct GateState {
    open: bool,
    waiting: usize,
}

impl Gate {
    /// A gate that is shut.
    pub fn shut() -> Gate {
        Gate::default()
    }

    /// Lets all connections through, now and later.
    pub fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }

    /// Blocks the test until `count` connections wait at the gate; false if `patience` ends first.
    pub fn wait_for_arrivals(&self, count: usize, patience: Duration) -> bool {
        let (lock, changed) = &*self.0;
        let state = lock.lock().unwrap();
        let (state, _) = changed.wait_timeout_while(state, patience, |state| state.waiting < count).unwrap();
        state.waiting >= count
    }

    /// Waits at the gate until it opens (true) or `abandoned` says that the client has left
    /// (false).
    pub(super) fn pass(&self, abandoned: impl Fn() -> bool) -> bool {
        let (lock, changed) = &*self.0;
        let mut state = lock.lock().unwrap();
        state.waiting += 1;
        changed.notify_all();
        while !state.open {
            state = changed.wait_timeout(state, GLANCE).unwrap().0;
            if !state.open && abandoned() {
                break;
            }
        }
        state.waiting -= 1;
        changed.notify_all();
        state.open
    }
}

/// A number of bytes per second, shared by all holders of a clone. Zero means unlimited.
#[derive(Clone, Default)]
pub(super) struct Rate(Arc<Mutex<RateState>>);

#[derive(Default)]
struct RateState {
    bytes_per_second: u64,
    next: Option<Instant>,
}

impl Rate {
    /// A rate of its own, for one answer.
    pub(super) fn of(bytes_per_second: u64) -> Rate {
        let rate = Rate::default();
        rate.set(bytes_per_second);
        rate
    }

    /// Changes the rate for every holder; zero removes the limit.
    pub(super) fn set(&self, bytes_per_second: u64) {
        *self.0.lock().unwrap() = RateState { bytes_per_second, next: None };
    }

    /// The largest piece to write at once. It is small at a slow rate, so that bytes drip evenly
    /// instead of in bursts.
    pub(super) fn piece(&self) -> usize {
        match self.0.lock().unwrap().bytes_per_second {
            0 => usize::MAX,
            rate => usize::try_from(rate / 100).unwrap_or(usize::MAX).max(1),
        }
    }

    /// Waits until `bytes` more may be written; false if `abandoned` answers true first. The sleep
    /// is the schedule of the rate: each piece has its time, and the wait is cut into glances only
    /// to notice an abandoned connection.
    pub(super) fn pace(&self, bytes: usize, abandoned: impl Fn() -> bool) -> bool {
        let start = {
            let mut state = self.0.lock().unwrap();
            if state.bytes_per_second == 0 {
                return true;
            }
            let start = state.next.unwrap_or_else(Instant::now).max(Instant::now());
            state.next = Some(start + Duration::from_secs_f64(bytes as f64 / state.bytes_per_second as f64));
            start
        };
        loop {
            let left = start.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(GLANCE));
            if abandoned() {
                return false;
            }
        }
    }
}
