//! Where a body leaves the next item for its connection to send. One for each connection, in its
//! [`ConnectionState`](super::super::connection_state::ConnectionState).
//!
//! | the body | the connection |
//! |---|---|
//! | [`SendSlot::put`], then waits | finds the item at its next flush, sends it, counts |
//! | is woken, then [`SendSlot::ended`] | has emptied the slot: all is sent, or the file failed |
//! | is dropped: [`SendSlot::withdraw`] | forgets the item; the bytes it has sent count |

use std::cell::{Cell, RefCell};

use bytes::{Buf as _, Bytes};

use crate::pull::FileRange;

/// Bytes to send.
#[derive(Clone)]
pub(crate) enum SendItem {
    /// A range of a file.
    File(FileRange),
    /// Bytes that other answers may share. They are not copied.
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
    /// The bytes of the item that have gone out.
    sent: Cell<u64>,
    /// The number of items so far. It tells the next item from the last.
    number: Cell<u64>,
    failure: Cell<Option<&'static str>>,
}

impl SendSlot {
    /// Sends this item next. The one before must have ended.
    pub(crate) fn put(&self, item: SendItem) {
        self.sent.set(0);
        self.number.set(self.number.get() + 1);
        *self.item.borrow_mut() = Some(item);
    }

    /// The number of bytes that went out, or the fault of the file. `None`: the item is still being
    /// sent.
    pub(crate) fn ended(&self) -> Option<Result<u64, &'static str>> {
        if self.item.borrow().is_some() {
            return None;
        }
        Some(match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(self.sent.take()),
        })
    }

    /// Takes the item out. Returns how many of its bytes have gone out.
    pub(crate) fn withdraw(&self) -> u64 {
        *self.item.borrow_mut() = None;
        self.sent.take()
    }

    /// Whether there is an item of which no byte has gone out.
    pub(crate) fn is_fresh(&self) -> bool {
        self.sent.get() == 0 && self.item.borrow().is_some()
    }

    /// The number of the item.
    pub(super) fn number(&self) -> u64 {
        self.number.get()
    }

    /// The item from its first byte that has not gone out.
    pub(super) fn rest(&self) -> Option<SendItem> {
        let mut item = self.item.borrow().clone()?;
        match &mut item {
            SendItem::File(range) => range.first += self.sent.get(),
            // `sent` never exceeds the length.
            SendItem::Bytes(bytes) => bytes.advance(usize::try_from(self.sent.get()).unwrap_or(bytes.len())),
        }
        Some(item)
    }

    /// `bytes` more have gone out. True: the item has ended.
    pub(super) fn sent(&self, bytes: usize) -> bool {
        self.sent.set(self.sent.get() + bytes as u64);
        let mut item = self.item.borrow_mut();
        let over = item.as_ref().is_none_or(|item| self.sent.get() >= item.length());
        if over {
            *item = None;
        }
        over
    }

    /// The file cannot be sent: the item ends.
    pub(super) fn failed(&self, why: &'static str) {
        *self.item.borrow_mut() = None;
        self.failure.set(Some(why));
    }
}
