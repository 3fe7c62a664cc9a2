//! Where a body leaves what its connection shall send. One for each connection, in its data.
//!
//! | the body | the connection |
//! |---|---|
//! | [`SendSlot::put`], and waits | finds it at its next flush, sends, and counts |
//! | is woken, and asks [`SendSlot::ended`] | has taken it out: all is sent, or the file was not what it should be |
//! | is dropped: [`SendSlot::withdraw`] | forgets it; what it has sent counts |

use std::cell::{Cell, RefCell};

use bytes::{Buf as _, Bytes};

use crate::pull::FileRange;

/// What a body wants sent.
#[derive(Clone)]
pub(crate) enum SendItem {
    /// A range of a file.
    File(FileRange),
    /// Bytes that others may have as well: they are not copied.
    Bytes(Bytes),
}

impl SendItem {
    /// In bytes.
    pub(crate) fn length(&self) -> u64 {
        match self {
            SendItem::File(range) => range.length(),
            SendItem::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct SendSlot {
    item: RefCell<Option<SendItem>>,
    /// How many bytes of it have gone out.
    sent: Cell<u64>,
    /// How many there have been, so that the next one is known from the last.
    number: Cell<u64>,
    failure: Cell<Option<&'static str>>,
}

impl SendSlot {
    /// Sends this next. The one before must have ended.
    pub(crate) fn put(&self, item: SendItem) {
        self.sent.set(0);
        self.number.set(self.number.get() + 1);
        *self.item.borrow_mut() = Some(item);
    }

    /// How the sending ended: how many bytes went out, or what is wrong with the file. `None`: it goes on.
    pub(crate) fn ended(&self) -> Option<Result<u64, &'static str>> {
        if self.item.borrow().is_some() {
            return None;
        }
        Some(match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(self.sent.take()),
        })
    }

    /// Nobody waits for it any more. How many bytes went out.
    pub(crate) fn withdraw(&self) -> u64 {
        *self.item.borrow_mut() = None;
        self.sent.take()
    }

    /// Whether something waits here of which nothing has gone out yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.sent.get() == 0 && self.item.borrow().is_some()
    }

    /// The number of the item.
    pub(super) fn number(&self) -> u64 {
        self.number.get()
    }

    /// What is to be sent now: the item, from its first byte that has not gone out.
    pub(super) fn rest(&self) -> Option<SendItem> {
        let mut item = self.item.borrow().clone()?;
        match &mut item {
            SendItem::File(range) => range.first += self.sent.get(),
            // Never more than there are.
            SendItem::Bytes(bytes) => bytes.advance(usize::try_from(self.sent.get()).unwrap_or(bytes.len())),
        }
        Some(item)
    }

    /// So many bytes have gone out. True: that was all.
    pub(super) fn sent(&self, bytes: usize) -> bool {
        self.sent.set(self.sent.get() + bytes as u64);
        let mut item = self.item.borrow_mut();
        let over = item.as_ref().is_none_or(|item| self.sent.get() >= item.length());
        if over {
            *item = None;
        }
        over
    }

    /// The file cannot be sent.
    pub(super) fn failed(&self, why: &'static str) {
        *self.item.borrow_mut() = None;
        self.failure.set(Some(why));
    }
}
