//! For tests only: makes one chosen operation of a catalogue fail.
//!
//! `Catalog::Failing` wraps another catalogue (the records of tags and links) and runs each of its
//! operations by [`Faults::pass`]. A test of `storage/suite/` chooses with [`Faults::arm`] that the
//! `n`th operation from then on fails, [before or after](When) it takes effect.
//!
//! Promises: each operation counts once, in the order in which they begin. The chosen one fails
//! with [`StorageError::Io`], and all others are passed on.

use std::{io, path::Path, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use crate::storage::StorageError;

/// When the chosen operation fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// Nothing of it is done.
    Before,
    /// All of it is done, and then it reports an error.
    After,
}

/// The choice of the operation that fails. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Operations since it was armed.
    count: usize,
    chosen: Option<(usize, When)>,
    struck: bool,
}

impl Faults {
    /// The `n`th operation from now on fails, from 1 on.
    pub(in crate::storage) fn arm(&self, n: usize, when: When) {
        *self.lock() = State { count: 0, chosen: Some((n, when)), struck: false };
    }

    /// All operations pass again. Says whether the chosen one has failed.
    pub(in crate::storage) fn disarm(&self) -> bool {
        self.lock().chosen = None;
        self.lock().struck
    }

    /// Passes an operation on, or makes it fail.
    pub(super) fn pass<T>(&self, operation: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
        let fails = self.next();
        if fails == Some(When::Before) {
            return Err(injected());
        }
        let done = operation()?;
        if fails == Some(When::After) { Err(injected()) } else { Ok(done) }
    }

    fn next(&self) -> Option<When> {
        let mut state = self.lock();
        state.count += 1;
        let when = state.chosen.filter(|(n, _)| *n == state.count).map(|(_, when)| when);
        state.struck |= when.is_some();
        when
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

fn injected() -> StorageError {
    StorageError::io("injecting a fault in", Path::new("the catalogue"))(io::Error::other("a fault"))
}
