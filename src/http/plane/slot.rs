//! Where a body leaves what its connection shall send. One for each connection, in its data.
//!
//! | the body | the connection |
//! |---|---|
//! | [`Slot::put`], and waits | finds it at its next flush, sends, and counts |
//! | is woken, and asks [`Slot::ended`] | has taken it out: all is sent, or the file was not what it should be |
//! | is dropped: [`Slot::withdraw`] | forgets it; what it has sent counts |

use std::cell::{Cell, RefCell};

use crate::pull::FileRange;

/// See the module.
#[derive(Default)]
pub(in crate::http) struct Slot {
    range: RefCell<Option<FileRange>>,
    /// How many bytes of the range have gone out.
    sent: Cell<u64>,
    /// How many ranges there have been, so that the next one is known from the last.
    number: Cell<u64>,
    failure: Cell<Option<&'static str>>,
}

impl Slot {
    /// Sends this next. The one before must have ended.
    pub(in crate::http) fn put(&self, range: FileRange) {
        self.sent.set(0);
        self.number.set(self.number.get() + 1);
        *self.range.borrow_mut() = Some(range);
    }

    /// How the sending ended: how many bytes went out, or what is wrong with the file. `None`: it goes on.
    pub(in crate::http) fn ended(&self) -> Option<Result<u64, &'static str>> {
        if self.range.borrow().is_some() {
            return None;
        }
        Some(match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(self.sent.take()),
        })
    }

    /// Nobody waits for it any more. How many bytes went out.
    pub(in crate::http) fn withdraw(&self) -> u64 {
        *self.range.borrow_mut() = None;
        self.sent.take()
    }

    /// Whether something waits here of which nothing has gone out yet.
    pub(in crate::http) fn is_fresh(&self) -> bool {
        self.sent.get() == 0 && self.range.borrow().is_some()
    }

    /// The number of the range.
    pub(super) fn number(&self) -> u64 {
        self.number.get()
    }

    /// What is to be sent now: the range, from its first byte that has not gone out.
    pub(super) fn rest(&self) -> Option<FileRange> {
        let mut range = self.range.borrow().clone()?;
        range.first += self.sent.get();
        Some(range)
    }

    /// So many bytes have gone out. True: that was all.
    pub(super) fn sent(&self, bytes: usize) -> bool {
        self.sent.set(self.sent.get() + bytes as u64);
        let mut range = self.range.borrow_mut();
        let over = range.as_ref().is_none_or(|range| self.sent.get() >= range.length());
        if over {
            *range = None;
        }
        over
    }

    /// The file cannot be sent.
    pub(super) fn failed(&self, why: &'static str) {
        *self.range.borrow_mut() = None;
        self.failure.set(Some(why));
    }
}
