//! A client's connection, with the timeouts that actix-http lacks.
//!
//! actix-http bounds how long the first head may take and how long a finished connection may idle.
//! It has no bound for a peer that stops reading an answer, nor for one that dribbles its second
//! head. Both are bounded here, where every byte passes: the connection fails with `TimedOut`, and
//! actix-http drops it with all that belongs to it.
//!
//! - *Slow readers:* writes may wait for the peer for `stall` in all, while it takes less than
//!   `stall` × `rate` bytes. Only time in which there are bytes to write counts, so a slow upstream
//!   never costs a client its connection.
//! - *Slow heads:* `idle` without a request in progress.
//!
//! The connection sends the item in its slot when it is flushed (`plane/`), and lets one request at
//! a time through (`pipeline.rs`). It cuts a body that fails
//! ([`ActiveRequest::cut`](super::connection_state::ActiveRequest::cut)): the bytes before the
//! failure are delivered, and then the connection ends short of the promised length. It reads as
//! much of a long head as `request_memory.rs` grants. A client that waits for `100 Continue` gets
//! it when its body is asked for, and never if the request is refused before.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use crate::http::transport::{
    connection_state::{ConnectionState, ExpectContinue},
    pipeline::{Passage, Pipeline},
    places::Place,
    plane::{Plane, SendFile, SendStep},
    request_memory::{BudgetShare, HEAD},
};

/// Tells a client to send the body that it holds back.
const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionTimeouts {
    /// How long writes may wait in all until the peer has taken its due.
    pub(crate) stall: Duration,
    /// That due, in bytes per second of `stall`.
    pub(crate) rate: u64,
    /// How long the connection may be without a request.
    pub(crate) idle: Duration,
    /// How long the rest of a request may take if its answer ends the connection.
    pub(crate) linger: Duration,
}

impl ConnectionTimeouts {
    /// `stall` in milliseconds, as the kernel takes it (TCP_USER_TIMEOUT).
    #[cfg(target_os = "linux")]
    pub(crate) fn milliseconds(&self) -> u32 {
        u32::try_from(self.stall.as_millis()).unwrap_or(u32::MAX)
    }
}

/// In the data of a connection that TLS secures.
pub(crate) struct Secured;

/// A client's stream under watch.
pub(crate) struct Connection<S> {
    io: S,
    timeouts: ConnectionTimeouts,
    state: Rc<ConnectionState>,
    pipeline: Pipeline,
    plane: Plane,
    /// The rest of [`GO_ON`] that is to be sent.
    go_on: &'static [u8],
    /// Until when the connection may be without a request; set when it was first seen without one.
    idle_until: Option<Instant>,
    /// Wakes the task then, or earlier. It is reset when it has rung too early, not with each
    /// request.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Set while the connection reads on after its client's last answer.
    ending: Option<Pin<Box<Sleep>>>,
    /// Set while a write waits: since when, and until when it may.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Since the peer last took its due: how long writes waited, and how many bytes it took.
    waited: Duration,
    taken: u64,
    /// Bytes written since the peer last sent some. They may not have arrived.
    unsettled: u64,
    /// Bytes of a body that were let through since a read last waited.
    round: usize,
    /// Bytes of the current head that have come, and the head's share of memory if they are many.
    head: usize,
    share: Option<BudgetShare>,
    /// actix-http has probably refused a request that no handler has seen.
    refused: bool,
}

/// After so many bytes of a body actix-http must look whether a handler takes them, before it gets
/// more. By itself it would gather four times as much for each connection (S28).
const ROUND: usize = 32 << 10;

/// More unsettled bytes than these may still be on their way, and a reset that overtakes them would
/// lose them.
const SETTLED: u64 = 16 << 10;

impl<S> Connection<S> {
    pub(crate) fn new(io: S, timeouts: ConnectionTimeouts, place: Option<Place>) -> Self {
        Connection {
            io,
            timeouts,
            state: Rc::new(ConnectionState { place, ..ConnectionState::default() }),
            pipeline: Pipeline::default(),
            plane: Plane::default(),
            go_on: &[],
            idle_until: None,
            alarm: None,
            ending: None,
            waiting: None,
            waited: Duration::ZERO,
            taken: 0,
            unsettled: 0,
            round: 0,
            head: 0,
            share: None,
            refused: false,
        }
    }

    /// The shared state, for the connection's data.
    pub(crate) fn state(&self) -> Rc<ConnectionState> {
        Rc::clone(&self.state)
    }

    /// An error if the connection had to make room for others. Then nothing goes in or out.
    fn sent_away(&self) -> io::Result<()> {
        match &self.state.place {
            Some(place) if place.is_gone() => Err(io::ErrorKind::ConnectionAborted.into()),
            Some(_) | None => Ok(()),
        }
    }

    /// Counts bytes of a head.
    ///
    /// # Errors
    /// The head is long, and there is no memory for it.
    fn head_comes(&mut self, bytes: usize) -> io::Result<()> {
        self.head += bytes;
        if self.head > HEAD
            && self.share.is_none()
            && let Some(place) = &self.state.place
        {
            self.share = place.room_for_head();
            if self.share.is_none() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(())
    }

    /// Whether the bytes being written may be actix-http's own refusal of a head: a head went
    /// through, at least in part, and no request came of it. actix-http would drop the connection
    /// right after that write, and unread bytes would turn into a reset, which may overtake
    /// answers. If the write waits once, actix-http shuts the connection down in order. True once
    /// for each request.
    fn holds_up(&mut self) -> bool {
        let nobody = self.state.requests.get() == 0 && self.state.framing.get().is_none();
        let first = nobody && self.head > 0 && !self.refused;
        self.refused |= first;
        first
    }

    fn wrote(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.state.client_goes_on();
            self.waited += since.elapsed();
        }
        self.taken += bytes as u64;
        self.unsettled += bytes as u64;
        let due = self.timeouts.rate.saturating_mul(self.timeouts.stall.as_secs().max(1));
        if self.taken >= due {
            (self.taken, self.waited) = (0, Duration::ZERO);
        }
    }

    /// A write waits. Ready when it has waited too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.timeouts.stall.saturating_sub(self.waited);
        let (_, deadline) = self.waiting.get_or_insert_with(|| {
            self.state.client_waited_for();
            let now = Instant::now();
            (now, Box::pin(tokio::time::sleep_until(now + left)))
        });
        deadline.as_mut().poll(cx)
    }

    /// A read waits. Ready when the connection was without a request for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let busy = self.state.requests.get() > 0;
        // Most requests come and go between two looks.
        if self.state.seen.take() || busy {
            self.idle_until = None;
        }
        if busy {
            return Poll::Pending;
        }
        let timeouts = if self.state.leaving.get() { self.timeouts.linger } else { self.timeouts.idle };
        let until = *self.idle_until.get_or_insert_with(|| Instant::now() + timeouts);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if alarm.deadline() > until {
            alarm.as_mut().reset(until);
        }
        while alarm.deadline() < until {
            ready!(alarm.as_mut().poll(cx));
            alarm.as_mut().reset(until);
        }
        alarm.as_mut().poll(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(place) = &self.state.place
            && place.poll_gone(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if let Some(framing) = self.state.framing.take() {
            self.pipeline.understood(framing);
            (self.head, self.share, self.refused) = (0, None, false);
        }
        if self.state.leaving.get() {
            self.pipeline.shut();
        }
        let in_progress = self.state.requests.get() > 0;
        let passage = self.pipeline.passage(in_progress);
        if in_progress && passage == Passage::Through {
            // A body is read. If its request ends before the body does, its rest must go and the
            // timeout must be looked at. Nothing else wakes the task then if actix-http's buffers
            // are full.
            self.state.waiting.set(Some(cx.waker().clone()));
        }
        let read = match passage {
            Passage::Through if in_progress && self.round >= ROUND => {
                self.round = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Passage::Through => {
                let (before, head) = (buf.filled().len(), self.pipeline.is_at_head());
                let read = self.poll_through(cx, buf);
                let came = buf.filled().len().saturating_sub(before);
                if head {
                    self.head_comes(came)?;
                }
                self.round = if read.is_pending() { 0 } else { self.round + came };
                read
            }
            Passage::Nothing => {
                let read = self.poll_hold(cx);
                if !self.pipeline.is_empty() {
                    self.state.waiting.set(Some(cx.waker().clone()));
                }
                read
            }
            Passage::NothingYet => {
                let read = self.poll_hold(cx);
                if !self.pipeline.is_empty() {
                    cx.waker().wake_by_ref();
                }
                if read.is_pending() {
                    // The head that was let through is not answered yet, so the connection is not
                    // idle.
                    return Poll::Pending;
                }
                read
            }
        };
        match read {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.poll_idle(cx).map(|()| Err(timed_out("no request"))),
        }
    }
}

impl<S: AsyncRead + Unpin> Connection<S> {
    /// Lets through the held bytes, or else new ones, as far as the pipeline allows.
    fn poll_through(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            self.pipeline.resume(buf);
            let resumed = buf.filled().len();
            if self.pipeline.is_empty() {
                let read = Pin::new(&mut self.io).poll_read(cx, buf);
                if !matches!(read, Poll::Ready(Ok(()))) {
                    self.pipeline.take_back(buf, before);
                    return read;
                }
                self.unsettled = 0;
                if buf.filled().len() == resumed {
                    // The end of the stream. The held beginning of a line goes before it.
                    return Poll::Ready(Ok(()));
                }
            } else {
                self.pipeline.release(buf);
            }
            self.pipeline.pass(buf, before);
            if self.pipeline.is_broken() {
                self.refused = true;
                self.state.body_breaks();
                return self.poll_hold(cx);
            }
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads for a moment what a client still sends after its last answer. Closed with unread
    /// bytes, the socket would send a reset, which may overtake that answer.
    fn poll_hear_out(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut more = self.refused || !self.pipeline.is_empty() || self.ending.is_some() || self.unsettled > SETTLED;
        loop {
            let mut space = [MaybeUninit::uninit(); 4096];
            let mut piece = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.io).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => more = true,
                Poll::Ready(Ok(()) | Err(_)) => return Poll::Ready(()),
                Poll::Pending if more => break,
                Poll::Pending => return Poll::Ready(()),
            }
        }
        let linger = self.timeouts.linger;
        self.ending.get_or_insert_with(|| Box::pin(tokio::time::sleep(linger))).as_mut().poll(cx)
    }

    /// Holds incoming bytes back. Lets only the end of the stream through, which tells that the
    /// client has left.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pipeline.is_full() {
            let mut space = [MaybeUninit::uninit(); 2048];
            let mut piece = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.io).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if piece.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => self.pipeline.hold(piece.filled()),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }
}

impl<S: SendFile> Connection<S> {
    /// Sends the item in the slot. Ready when the slot is empty.
    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.plane.step(&mut self.io, &self.state.slot, cx) {
                Ok(SendStep::Nothing) => return Poll::Ready(Ok(())),
                Ok(SendStep::Sent(bytes)) => self.wrote(bytes),
                Ok(SendStep::Waits) => return Poll::Pending,
                Ok(SendStep::Full) => return self.poll_stalled(cx).map(|()| Err(timed_out("the answer is not read"))),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Writes to the stream. Counts the bytes it takes and the time it waits.
    fn poll_out(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.io).poll_write(cx, buf) {
            Poll::Ready(Ok(bytes)) => {
                self.wrote(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_stalled(cx).map(|()| Err(timed_out("the answer is not read"))),
        }
    }

    /// Sends the rest of [`GO_ON`].
    fn poll_go_on(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.go_on.is_empty() {
            let written = ready!(self.poll_out(cx, self.go_on))?;
            self.go_on = &self.go_on[written..];
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: SendFile> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.sent_away()?;
        if self.holds_up() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_go_on(cx))?;
        let this = &mut *self;
        this.plane.before_write(&this.io, &this.state.slot);
        self.poll_out(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sent_away()?;
        // All bytes before it are written.
        if self.state.waits.get() == ExpectContinue::Asked {
            self.state.waits.set(ExpectContinue::No);
            self.go_on = GO_ON;
        }
        ready!(self.poll_go_on(cx))?;
        ready!(self.poll_slot(cx))?;
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(Ok(())) if self.state.cut.get() => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            Poll::Ready(Ok(())) => {
                self.wrote(0);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_stalled(cx).map(|()| Err(timed_out("the answer is not read"))),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ending.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        }
        self.poll_hear_out(cx).map(Ok)
    }
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what.to_owned())
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
