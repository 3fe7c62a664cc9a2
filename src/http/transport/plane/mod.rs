//! The data plane: how the bytes of a file leave, without passing through this process where that can be helped.
//!
//! actix-http copies every piece of a body into its own buffer. But before it waits for a body it flushes: it writes what it has –
//! earlier answers, our head – and then asks the stream to flush, which is our [`Connection`](super::connection::Connection). So
//! a body leaves the range in the connection's [`Slot`] and stays pending, and the connection sends it in its flush, behind
//! everything that precedes it:
//!
//! | stream | by |
//! |---|---|
//! | TCP | `sendfile(2)` |
//! | TLS | 256 KiB at a time out of the page cache, which rustls encrypts while they are in the processor's |
//! | any other, or a file that neither takes | 1 MiB at a time, read on a disk thread |
//!
//! Bytes in memory that are more than a few go the same way, a slice at a time and never copied:
//! however many connections ask for a large manifest, it is there once.
//!
//! Promises:
//! - D1 A worker never waits for the disk: each window of 4 MiB is looked for in the page cache before it is sent, one window
//!   ahead, and what is not there is read by a disk thread.
//! - D2 A connection sends at most 4 MiB before the worker's others have their turn.
//! - D3 A file that is shorter than its range, or cannot be read, fails the body: nothing is made up.
//! - D4 What a connection holds in memory does not grow with the blob, nor with the manifest (S28).
//!
//! Called by the connection; bodies know the slot alone. `unsafe` is in `kernel.rs` alone.

#[allow(unsafe_code, reason = "the page cache can be asked in no other way")]
mod kernel;
mod slot;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
pub(crate) use slot::{Item, Slot};
pub(crate) use wire::{READ, Wire};

use crate::pull::FileRange;

/// How much is looked for in the page cache at once, in bytes, and read ahead where it is not there.
const WINDOW: u64 = 4 << 20;

/// What one connection sends before others have their turn, in bytes.
const TURN: usize = 4 << 20;

/// How much is read at once where a file is copied, in bytes.
const COPIED: u64 = 1 << 20;

/// How much of what lies in memory goes out at once, in bytes: for a stream that encrypts, what it
/// holds for a client that reads nothing.
const SLICE: usize = 32 << 10;

/// What became of an attempt to send.
pub(crate) enum Step {
    /// There is nothing to send.
    Nothing,
    /// So many bytes went out.
    Sent(usize),
    /// The peer takes no more for now.
    Full,
    /// The disk is waited for, or it is others' turn.
    Waits,
}

/// Why nothing could be sent.
enum Trouble {
    /// The connection is no more.
    Connection(io::Error),
    /// The file is not what it should be.
    File(&'static str),
    /// It has to be copied.
    Copy,
}

type Reading<T> = Pin<Box<dyn Future<Output = T>>>;

/// The sending half of a connection.
#[derive(Default)]
pub(crate) struct Plane {
    /// The number of the range that the following is about.
    number: u64,
    /// Up to this offset the page cache has the range, or had it a moment ago.
    warm: u64,
    /// The next window, and where it ends, while the disk is waited for.
    ahead: Option<(Reading<io::Result<()>>, u64)>,
    /// Where the page cache did not have what it had a moment before.
    missed: Option<u64>,
    copy: Option<Copy>,
    /// Others' turn.
    turn: Option<Reading<()>>,
    /// Bytes sent in this turn.
    in_turn: usize,
    corked: bool,
}

/// Where a file is copied: what was read and is not sent yet, or is being read.
#[derive(Default)]
struct Copy {
    reading: Option<Reading<io::Result<Bytes>>>,
    bytes: Bytes,
}

impl Plane {
    /// Called before anything is written: the head of an answer leaves together with the first bytes of its file.
    pub(crate) fn before_write<S: Wire>(&mut self, io: &S, slot: &Slot) {
        if !self.corked && slot.is_fresh() {
            io.cork(true);
            self.corked = true;
        }
    }

    /// Sends some of what is in the slot. An error is the connection's; one of the file ends in the slot. Where nothing went
    /// out, whoever is waited for wakes the task.
    pub(crate) fn step<S: Wire>(&mut self, io: &mut S, slot: &Slot, cx: &mut Context<'_>) -> io::Result<Step> {
        let Some(item) = slot.rest() else { return Ok(Step::Nothing) };
        let range = match item {
            Item::Bytes(bytes) => return self.step_bytes(io, slot, &bytes, cx),
            Item::File(range) => range,
        };
        if self.number != slot.number() {
            (self.number, self.warm) = (slot.number(), range.first);
            (self.ahead, self.missed, self.copy) = (None, None, None);
        }
        if self.is_others_turn(cx) {
            return Ok(Step::Waits);
        }
        let step = match &mut self.copy {
            Some(copy) => copy.step(io, &range, cx),
            None => self.send(io, &range, cx),
        };
        match step {
            Ok(Step::Sent(bytes)) => {
                self.in_turn += bytes;
                if slot.sent(bytes) {
                    self.over(io, cx);
                }
                Ok(Step::Sent(bytes))
            }
            Ok(step) => Ok(step),
            Err(Trouble::Copy) => {
                self.copy = Some(Copy::default());
                self.step(io, slot, cx)
            }
            Err(Trouble::File(why)) => {
                slot.failed(why);
                self.over(io, cx);
                Ok(Step::Nothing)
            }
            Err(Trouble::Connection(error)) => Err(error),
        }
    }

    /// The same of bytes.
    fn step_bytes<S: Wire>(
        &mut self,
        io: &mut S,
        slot: &Slot,
        bytes: &Bytes,
        cx: &mut Context<'_>,
    ) -> io::Result<Step> {
        if self.is_others_turn(cx) {
            return Ok(Step::Waits);
        }
        match io.poll_slice(cx, &bytes[..bytes.len().min(SLICE)]) {
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(sent)) => {
                self.in_turn += sent;
                if slot.sent(sent) {
                    self.over(io, cx);
                }
                Ok(Step::Sent(sent))
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(Step::Full),
        }
    }

    fn send<S: Wire>(&mut self, io: &mut S, range: &FileRange, cx: &mut Context<'_>) -> Result<Step, Trouble> {
        match self.look_ahead(range, cx) {
            Poll::Ready(Ok(())) => {}
            // The disk does not give it, or there is no way to ask: nobody but a disk thread may meet that.
            Poll::Ready(Err(_)) => return Err(Trouble::Copy),
            Poll::Pending => return Ok(Step::Waits),
        }
        let most = usize::try_from(self.warm - range.first).unwrap_or(usize::MAX);
        match io.poll_send(cx, range.file(), range.first, most) {
            Poll::Ready(Ok(0)) => Err(Trouble::File("the file is shorter than it was")),
            Poll::Ready(Ok(bytes)) => Ok(Step::Sent(bytes)),
            // It has left the page cache since. A second time at the same place it is copied.
            Poll::Ready(Err(error))
                if error.kind() == io::ErrorKind::WouldBlock && self.missed != Some(range.first) =>
            {
                let end = range.end.min(range.first + WINDOW);
                (self.warm, self.missed) = (range.first, Some(range.first));
                self.ahead = Some((Box::pin(range.warm(range.first, end)), end));
                self.send(io, range, cx)
            }
            // Whatever is not surely the connection's is tried another way, which tells the one from the other.
            Poll::Ready(Err(error)) if !is_the_connections(&error) => Err(Trouble::Copy),
            Poll::Ready(Err(error)) => Err(Trouble::Connection(error)),
            Poll::Pending => Ok(Step::Full),
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
                    // Looked for once more it might be gone again, and again.
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

    /// Whether others have their turn now (D2). Not by waking this task at once: the runtime would poll it again and again before
    /// it looks for news of other sockets.
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

    /// The body goes on: it is asked once more, since nobody else would wake its task.
    fn over<S: Wire>(&mut self, io: &S, cx: &mut Context<'_>) {
        if std::mem::take(&mut self.corked) {
            io.cork(false);
        }
        (self.ahead, self.copy) = (None, None);
        cx.waker().wake_by_ref();
    }
}

/// Whether an error says that the peer is no more.
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

impl Copy {
    fn step<S: Wire>(&mut self, io: &mut S, range: &FileRange, cx: &mut Context<'_>) -> Result<Step, Trouble> {
        if self.bytes.is_empty() {
            let most = range.length().min(COPIED) as usize;
            let reading = self.reading.get_or_insert_with(|| Box::pin(range.read(range.first, most)));
            let Poll::Ready(read) = reading.as_mut().poll(cx) else { return Ok(Step::Waits) };
            self.reading = None;
            self.bytes = read.map_err(|_| Trouble::File("the file cannot be read"))?;
        }
        if self.bytes.is_empty() {
            return Err(Trouble::File("the file is shorter than it was"));
        }
        match Pin::new(io).poll_write(cx, &self.bytes) {
            Poll::Ready(Ok(0)) => Err(Trouble::Connection(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(bytes)) => {
                self.bytes.advance(bytes);
                Ok(Step::Sent(bytes))
            }
            Poll::Ready(Err(error)) => Err(Trouble::Connection(error)),
            Poll::Pending => Ok(Step::Full),
        }
    }
}
