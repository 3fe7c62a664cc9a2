//! The data plane: sends the bytes of a file without passing them through this process where
//! possible.
//!
//! actix-http copies every piece of a body into its own buffer. But before it waits for a body it
//! flushes: it writes what it has (earlier answers, our head) and then asks the stream to flush,
//! which is our [`Connection`](super::connection::Connection). So a body leaves its range in the
//! connection's [`SendSlot`] and stays pending. The connection sends the range in its flush, after
//! everything that precedes it:
//!
//! | stream | by |
//! |---|---|
//! | TCP | `sendfile(2)` |
//! | TLS | 256 KiB at a time from the page cache; rustls encrypts them in the processor's cache |
//! | any other, or a file that neither takes | 1 MiB at a time, read on a disk thread |
//!
//! Many bytes in memory go the same way, a slice at a time and never copied: a large manifest is in
//! memory once, however many connections ask for it.
//!
//! Promises:
//! - D1 A worker never waits for the disk. Each window of 4 MiB is looked for in the page cache one
//!   window before it is sent, and a disk thread reads the missing pages.
//! - D2 A connection sends at most 4 MiB before the worker's other connections have their turn.
//! - D3 A file that is shorter than its range, or cannot be read, fails the body. No byte is made
//!   up.
//! - D4 The memory of a connection does not grow with the blob, nor with the manifest (S28).
//!
//! Called by the connection; a body knows the slot only. `unsafe` is in `kernel.rs` only.

#[allow(unsafe_code, reason = "the page cache can be asked in no other way")]
mod kernel;
mod send_file;
mod slot;
#[cfg(test)]
mod tests;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
pub(crate) use send_file::{READ, SendFile};
pub(crate) use slot::{SendItem, SendSlot};

use crate::pull::FileRange;

/// The bytes that are looked for in the page cache at once, and read ahead if they are missing.
const WINDOW: u64 = 4 << 20;

/// The bytes that one connection sends before others have their turn.
const TURN: usize = 4 << 20;

/// The bytes that are read at once if a file is copied.
const COPIED: u64 = 1 << 20;

/// The bytes in memory that go out at once: a stream that encrypts holds so many for a client that
/// reads nothing.
const SLICE: usize = 32 << 10;

/// The result of an attempt to send.
pub(crate) enum SendStep {
    /// The slot is empty.
    Nothing,
    /// So many bytes went out.
    Sent(usize),
    /// The peer takes no more for now.
    Full,
    /// The disk is waited for, or other connections have their turn.
    Waits,
}

/// Why no byte could be sent.
enum SendError {
    /// The connection is broken.
    Connection(io::Error),
    /// The file is not as it should be; the text says how.
    File(&'static str),
    /// The file must be copied.
    Copy,
}

type BoxedRead<T> = Pin<Box<dyn Future<Output = T>>>;

/// The sending half of a connection.
#[derive(Default)]
pub(crate) struct Plane {
    /// The number of the item that the following fields are about.
    number: u64,
    /// Up to this offset the page cache has the range, or had it a moment ago.
    warm: u64,
    /// The next window and its end, while the disk is waited for.
    ahead: Option<(BoxedRead<io::Result<()>>, u64)>,
    /// The offset at which the page cache lost bytes that it had a moment before.
    missed: Option<u64>,
    copy: Option<FileCopy>,
    /// Waits while other connections have their turn.
    turn: Option<BoxedRead<()>>,
    /// Bytes sent in this turn.
    in_turn: usize,
    corked: bool,
}

/// A file that is copied: bytes that were read and not sent yet, or are being read.
#[derive(Default)]
struct FileCopy {
    reading: Option<BoxedRead<io::Result<Bytes>>>,
    bytes: Bytes,
}

impl Plane {
    /// Called before a write: the head of an answer then leaves together with the first bytes of
    /// its file.
    pub(crate) fn before_write<S: SendFile>(&mut self, io: &S, slot: &SendSlot) {
        if !self.corked && slot.is_fresh() {
            io.cork(true);
            self.corked = true;
        }
    }

    /// Sends some of the slot's item. A fault of the file ends the item. If no byte went out, the
    /// task is woken when it can go on.
    ///
    /// # Errors
    /// The connection's.
    pub(crate) fn step<S: SendFile>(
        &mut self,
        io: &mut S,
        slot: &SendSlot,
        cx: &mut Context<'_>,
    ) -> io::Result<SendStep> {
        let Some(item) = slot.rest() else { return Ok(SendStep::Nothing) };
        let range = match item {
            SendItem::Bytes(bytes) => return self.step_bytes(io, slot, &bytes, cx),
            SendItem::File(range) => range,
        };
        if self.number != slot.number() {
            (self.number, self.warm) = (slot.number(), range.first);
            (self.ahead, self.missed, self.copy) = (None, None, None);
        }
        if self.is_others_turn(cx) {
            return Ok(SendStep::Waits);
        }
        let step = match &mut self.copy {
            Some(copy) => copy.step(io, &range, cx),
            None => self.send(io, &range, cx),
        };
        match step {
            Ok(SendStep::Sent(bytes)) => {
                self.in_turn += bytes;
                if slot.sent(bytes) {
                    self.end_item(io, cx);
                }
                Ok(SendStep::Sent(bytes))
            }
            Ok(step) => Ok(step),
            Err(SendError::Copy) => {
                self.copy = Some(FileCopy::default());
                self.step(io, slot, cx)
            }
            Err(SendError::File(why)) => {
                slot.failed(why);
                self.end_item(io, cx);
                Ok(SendStep::Nothing)
            }
            Err(SendError::Connection(error)) => Err(error),
        }
    }

    /// The same for an item in memory.
    fn step_bytes<S: SendFile>(
        &mut self,
        io: &mut S,
        slot: &SendSlot,
        bytes: &Bytes,
        cx: &mut Context<'_>,
    ) -> io::Result<SendStep> {
        if self.is_others_turn(cx) {
            return Ok(SendStep::Waits);
        }
        match io.poll_slice(cx, &bytes[..bytes.len().min(SLICE)]) {
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(sent)) => {
                self.in_turn += sent;
                if slot.sent(sent) {
                    self.end_item(io, cx);
                }
                Ok(SendStep::Sent(sent))
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(SendStep::Full),
        }
    }

    fn send<S: SendFile>(
        &mut self,
        io: &mut S,
        range: &FileRange,
        cx: &mut Context<'_>,
    ) -> Result<SendStep, SendError> {
        match self.look_ahead(range, cx) {
            Poll::Ready(Ok(())) => {}
            // The disk fails, or cannot be asked: only a disk thread may meet that.
            Poll::Ready(Err(_)) => return Err(SendError::Copy),
            Poll::Pending => return Ok(SendStep::Waits),
        }
        let most = usize::try_from(self.warm - range.first).unwrap_or(usize::MAX);
        match io.poll_send(cx, range.file(), range.first, most) {
            Poll::Ready(Ok(0)) => Err(SendError::File("the file is shorter than it was")),
            Poll::Ready(Ok(bytes)) => Ok(SendStep::Sent(bytes)),
            // The bytes have left the page cache meanwhile. The second time at the same offset they
            // are copied.
            Poll::Ready(Err(error))
                if error.kind() == io::ErrorKind::WouldBlock && self.missed != Some(range.first) =>
            {
                let end = range.end.min(range.first + WINDOW);
                (self.warm, self.missed) = (range.first, Some(range.first));
                self.ahead = Some((Box::pin(range.warm(range.first, end)), end));
                self.send(io, range, cx)
            }
            // The fault may be the file's. Copying shows which of the two it is.
            Poll::Ready(Err(error)) if !is_the_connections(&error) => Err(SendError::Copy),
            Poll::Ready(Err(error)) => Err(SendError::Connection(error)),
            Poll::Pending => Ok(SendStep::Full),
        }
    }

    /// Ready when the first byte of the range can be sent (D1).
    fn look_ahead(&mut self, range: &FileRange, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some((reading, end)) = &mut self.ahead {
                let end = *end;
                match reading.as_mut().poll(cx) {
                    Poll::Pending if range.first < self.warm => return Poll::Ready(Ok(())),
                    Poll::Pending => return Poll::Pending,
                    // Not looked for again: the pages could be lost again, and again.
                    Poll::Ready(Ok(())) => self.warm = end,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                }
                self.ahead = None;
            }
            if self.warm >= range.end || self.warm > range.first + WINDOW {
                return Poll::Ready(Ok(()));
            }
            let (first, end) = (self.warm, range.end.min(self.warm + WINDOW));
            match kernel::is_resident(range.file(), first, end) {
                true => self.warm = end,
                false => self.ahead = Some((Box::pin(range.warm(first, end)), end)),
            }
        }
    }

    /// Whether other connections have their turn now (D2). Waking this task at once is not enough:
    /// the runtime would poll it again and again before it looks at other sockets.
    fn is_others_turn(&mut self, cx: &mut Context<'_>) -> bool {
        if self.in_turn >= TURN {
            self.in_turn = 0;
            self.turn = Some(Box::pin(tokio::task::yield_now()));
        }
        let Some(turn) = &mut self.turn else { return false };
        let theirs = turn.as_mut().poll(cx).is_pending();
        if !theirs {
            self.turn = None;
        }
        theirs
    }

    /// The item has ended, and the body goes on: its task is woken, as no other event would do so.
    fn end_item<S: SendFile>(&mut self, io: &S, cx: &mut Context<'_>) {
        if std::mem::take(&mut self.corked) {
            io.cork(false);
        }
        (self.ahead, self.copy) = (None, None);
        cx.waker().wake_by_ref();
    }
}

/// Whether an error says that the connection is broken.
fn is_the_connections(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkUnreachable, NotConnected, TimedOut,
    };
    matches!(
        error.kind(),
        BrokenPipe
            | ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | NetworkUnreachable
            | NotConnected
            | TimedOut
    )
}

impl FileCopy {
    fn step<S: SendFile>(
        &mut self,
        io: &mut S,
        range: &FileRange,
        cx: &mut Context<'_>,
    ) -> Result<SendStep, SendError> {
        if self.bytes.is_empty() {
            let most = range.length().min(COPIED) as usize;
            let reading = self.reading.get_or_insert_with(|| Box::pin(range.read(range.first, most)));
            let Poll::Ready(read) = reading.as_mut().poll(cx) else { return Ok(SendStep::Waits) };
            self.reading = None;
            self.bytes = read.map_err(|_| SendError::File("the file cannot be read"))?;
        }
        if self.bytes.is_empty() {
            return Err(SendError::File("the file is shorter than it was"));
        }
        match Pin::new(io).poll_write(cx, &self.bytes) {
            Poll::Ready(Ok(0)) => Err(SendError::Connection(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(bytes)) => {
                self.bytes.advance(bytes);
                Ok(SendStep::Sent(bytes))
            }
            Poll::Ready(Err(error)) => Err(SendError::Connection(error)),
            Poll::Pending => Ok(SendStep::Full),
        }
    }
}
