//! What the index's handle and its thread share: the state, and which writes are still queued.
//!
//! The states are those of the table in `mod.rs`; `Off` is final (I4). Callers: this folder.

use std::{collections::HashMap, sync::atomic::AtomicUsize};

use parking_lot::{Condvar, Mutex, RwLock};

use super::{entry::RepositoryKey, open::Trees};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) state: RwLock<State>,
    pub(super) settled: Condvar,
    pub(super) settling: Mutex<bool>,
    pub(super) pending: Mutex<HashMap<RepositoryKey, usize>>,
    pub(super) hints: AtomicUsize,
}

#[derive(Clone, Debug, Default)]
pub(super) enum State {
    #[default]
    Opening,
    Rebuilding,
    Ready(Trees),
    Off,
}

impl Shared {
    pub(super) fn ready(&self) -> Option<Trees> {
        match &*self.state.read() {
            State::Ready(trees) => Some(trees.clone()),
            State::Opening | State::Rebuilding | State::Off => None,
        }
    }

    pub(super) fn is_off(&self) -> bool {
        matches!(*self.state.read(), State::Off)
    }

    /// Enters the next state, unless the index is off: that is final.
    pub(super) fn enter(&self, next: State) {
        let mut state = self.state.write();
        if !matches!(*state, State::Off) {
            *state = next;
        }
    }

    pub(super) fn off(&self, why: &dyn std::fmt::Display) {
        if self.off_quietly() {
            tracing::warn!(%why, "the index is off until the next start; everything is served from files");
        }
    }

    /// As [`off`](Self::off), without a line in the log. Says whether it was on before.
    pub(super) fn off_quietly(&self) -> bool {
        let before = {
            let mut state = self.state.write();
            std::mem::replace(&mut *state, State::Off)
        };
        self.pending.lock().clear();
        !matches!(before, State::Off)
    }

    pub(super) fn settle(&self) {
        *self.settling.lock() = true;
        self.settled.notify_all();
    }

    /// Notes that a write to this repository is queued.
    pub(super) fn expect(&self, repository: &RepositoryKey) {
        let mut pending = self.pending.lock();
        *pending.entry(repository.clone()).or_default() += 1;
    }

    /// Notes that it is applied.
    pub(super) fn applied(&self, repository: &RepositoryKey) {
        let mut pending = self.pending.lock();
        if let Some(count) = pending.get_mut(repository) {
            *count -= 1;
            if *count == 0 {
                pending.remove(repository);
            }
        }
    }

    /// The repositories to which a write is queued.
    pub(super) fn pending(&self) -> Vec<RepositoryKey> {
        self.pending.lock().keys().cloned().collect()
    }

    pub(super) fn is_pending(&self, repository: &RepositoryKey) -> bool {
        self.pending.lock().contains_key(repository)
    }
}
