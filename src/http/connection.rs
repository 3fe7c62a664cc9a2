//! A client's connection, with the patience that actix-http does not have.
//!
//! actix-http bounds how long the first head may take and how long a finished connection may idle. It has no bound for a
//! peer that stops reading an answer, nor for one that dribbles its second head. Both are bounded here, where every byte
//! passes: the connection fails with `TimedOut`, and actix-http drops it with everything that hangs on it.
//!
//! - *Slow readers:* writes that wait for the peer for `stall` in all, while it took less than `stall` × `rate` bytes. Time
//!   in which there was nothing to write does not count, so a slow upstream never costs a client its connection.
//! - *Slow heads:* no request in progress for `idle`.
//!
//! What a body leaves in the slot is sent in the flush (`plane/`). Requests are let through one at a time (`gate.rs`). A body that fails is cut here as well ([`Busy::cut`]): what was written before the failure is still delivered, and then the
//! connection ends short of the promised length.

use std::{
    cell::Cell,
    io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::{
    gate::Gate,
    plane::{Plane, Slot, Step, Wire},
};

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long writes may wait in all before the peer must have taken its due.
    pub(super) stall: Duration,
    /// That due, in bytes per second of `stall`.
    pub(super) rate: u64,
    /// How long there may be no request.
    pub(super) idle: Duration,
}

impl Patience {
    /// The stall as the kernel wants it (TCP_USER_TIMEOUT).
    #[cfg(target_os = "linux")]
    pub(super) fn milliseconds(&self) -> u32 {
        u32::try_from(self.stall.as_millis()).unwrap_or(u32::MAX)
    }
}

/// What the requests of a connection tell it. Lies in the connection's data, where handlers find it.
#[derive(Default)]
pub(super) struct Traffic {
    /// How many requests are in progress.
    requests: Cell<usize>,
    /// There was one since this was last looked at.
    seen: Cell<bool>,
    /// The latest of them has a body, which is to come in.
    body: Cell<bool>,
    /// Who waits until none is in progress.
    waiting: Cell<Option<Waker>>,
    /// A body has failed: nothing more may be sent.
    cut: Cell<bool>,
    /// What a body wants sent.
    slot: Slot,
}

/// Lies in the data of connections that are secured by TLS.
pub(super) struct Secured;

/// One request in progress, while it lives.
pub(super) struct Busy(Rc<Traffic>);

impl Busy {
    pub(super) fn new(traffic: &Rc<Traffic>, body: bool) -> Self {
        traffic.requests.set(traffic.requests.get() + 1);
        traffic.seen.set(true);
        traffic.body.set(body);
        Busy(Rc::clone(traffic))
    }

    /// Ends the connection as soon as what is written already has left.
    pub(super) fn cut(&self) {
        self.0.cut.set(true);
    }

    /// Where the connection finds what it shall send.
    pub(super) fn slot(&self) -> &Slot {
        &self.0.slot
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get().saturating_sub(1));
        if let Some(waker) = self.0.waiting.take() {
            waker.wake();
        }
    }
}

/// The stream, watched.
pub(super) struct Connection<S> {
    io: S,
    patience: Patience,
    traffic: Rc<Traffic>,
    gate: Gate,
    plane: Plane,
    /// Since there was no request when it was last looked at: until when there may be none.
    idle_until: Option<Instant>,
    /// What wakes us then, or earlier: it is set anew when it has rung too early, and not with each request.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Set while a write waits: since when, and until when it may.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Since the peer last had its due: how long writes waited, and how many bytes it took.
    waited: Duration,
    taken: u64,
}

impl<S> Connection<S> {
    pub(super) fn new(io: S, patience: Patience) -> Self {
        Connection {
            io,
            patience,
            traffic: Rc::default(),
            gate: Gate::default(),
            plane: Plane::default(),
            idle_until: None,
            alarm: None,
            waiting: None,
            waited: Duration::ZERO,
            taken: 0,
        }
    }

    /// For the connection's data.
    pub(super) fn traffic(&self) -> Rc<Traffic> {
        Rc::clone(&self.traffic)
    }

    fn wrote(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        self.taken += bytes as u64;
        let due = self.patience.rate.saturating_mul(self.patience.stall.as_secs().max(1));
        if self.taken >= due {
            (self.taken, self.waited) = (0, Duration::ZERO);
        }
    }

    /// A write waits. Ready when it has waited too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.patience.stall.saturating_sub(self.waited);
        let (_, deadline) = self.waiting.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(tokio::time::sleep_until(now + left)))
        });
        deadline.as_mut().poll(cx)
    }

    /// A read waits. Ready when there was no request for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let busy = self.traffic.requests.get() > 0;
        // Most requests come and go between two looks.
        if self.traffic.seen.take() || busy {
            self.idle_until = None;
        }
        if busy {
            return Poll::Pending;
        }
        let until = *self.idle_until.get_or_insert_with(|| Instant::now() + self.patience.idle);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        while alarm.deadline() < until {
            ready!(alarm.as_mut().poll(cx));
            alarm.as_mut().reset(until);
        }
        alarm.as_mut().poll(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let in_progress = self.traffic.requests.get() > 0;
        let read = if in_progress && self.traffic.body.get() {
            self.gate.closed = false;
            self.poll_through(cx, buf)
        } else if in_progress {
            self.gate.closed = false;
            let read = self.poll_hold(cx);
            if !self.gate.is_empty() {
                self.traffic.waiting.set(Some(cx.waker().clone()));
            }
            read
        } else if std::mem::take(&mut self.gate.closed) {
            let read = self.poll_hold(cx);
            if !self.gate.is_empty() {
                cx.waker().wake_by_ref();
            }
            if read.is_pending() {
                // The head that was let through is not answered yet: this is no idle connection.
                return Poll::Pending;
            }
            read
        } else {
            let before = buf.filled().len();
            let read = self.poll_through(cx, buf);
            self.gate.check(buf, before);
            read
        };
        match read {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.poll_idle(cx).map(|()| Err(timed_out("no request"))),
        }
    }
}

impl<S: AsyncRead + Unpin> Connection<S> {
    /// What was held back, or else what comes in.
    fn poll_through(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.gate.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        self.gate.release(buf);
        Poll::Ready(Ok(()))
    }

    /// Takes in what comes and lets nothing through but the end of the stream, which tells that the client has left.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gate.is_full() {
            let mut space = [MaybeUninit::uninit(); 2048];
            let mut piece = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.io).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if piece.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => self.gate.hold(piece.filled()),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }
}

impl<S: Wire> Connection<S> {
    /// Sends what is in the slot. Ready when there is nothing more.
    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.plane.step(&mut self.io, &self.traffic.slot, cx) {
                Ok(Step::Nothing) => return Poll::Ready(Ok(())),
                Ok(Step::Sent(bytes)) => self.wrote(bytes),
                Ok(Step::Waits) => return Poll::Pending,
                Ok(Step::Full) => return self.poll_stalled(cx).map(|()| Err(timed_out("the answer is not read"))),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl<S: Wire> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.plane.before_write(&this.io, &this.traffic.slot);
        match Pin::new(&mut self.io).poll_write(cx, buf) {
            Poll::Ready(Ok(bytes)) => {
                self.wrote(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_stalled(cx).map(|()| Err(timed_out("the answer is not read"))),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_slot(cx))?;
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(Ok(())) if self.traffic.cut.get() => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            Poll::Ready(Ok(())) => {
                self.wrote(0);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_stalled(cx).map(|()| Err(timed_out("the answer is not read"))),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what.to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Patience =
        Patience { stall: Duration::from_secs(60), rate: 10 << 10, idle: Duration::from_secs(105) };

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_let_go_after_the_stall() {
        let (ours, _theirs) = duplex(1 << 10);
        let mut connection = Connection::new(ours, PATIENCE);
        let began = Instant::now();
        let error = connection.write_all(&[0; 64 << 10]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_too_slowly_is_let_go_and_one_that_keeps_the_rate_is_not() {
        for (piece, survives) in [(1 << 10, false), (32 << 10, true)] {
            let (ours, mut theirs) = duplex(1 << 10);
            let reader = tokio::spawn(async move {
                let mut buffer = vec![0; piece];
                while theirs.read_exact(&mut buffer).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
            let mut connection = Connection::new(ours, PATIENCE);
            let result = connection.write_all(&vec![0; 4 << 20]).await;
            assert_eq!(result.is_ok(), survives, "{piece} bytes a second");
            drop(connection);
            reader.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_source_costs_the_reader_nothing() {
        let (ours, mut theirs) = duplex(1 << 10);
        let reader = tokio::spawn(async move { theirs.read_to_end(&mut Vec::new()).await.unwrap() });
        let mut connection = Connection::new(ours, PATIENCE);
        for _ in 0..300 {
            connection.write_all(&[0; 4 << 10]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        drop(connection);
        assert_eq!(reader.await.unwrap(), 300 * (4 << 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_requests_is_let_go_and_a_busy_one_is_not() {
        let (ours, mut theirs) = duplex(1 << 10);
        let mut connection = Connection::new(ours, PATIENCE);
        let busy = Busy::new(&connection.traffic(), false);
        let waits = tokio::time::timeout(Duration::from_secs(1000), connection.read_u8()).await;
        assert!(waits.is_err(), "a request in progress may take its time");
        drop(busy);
        // A head that comes a byte at a time is no request.
        let dribble = tokio::spawn(async move {
            while theirs.write_u8(b'G').await.is_ok() {
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        });
        let began = Instant::now();
        let error = loop {
            if let Err(error) = connection.read_u8().await {
                break error;
            }
        };
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 105));
        drop(connection);
        dribble.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_are_answered_at_once_keep_a_connection() {
        let (ours, mut theirs) = duplex(1 << 10);
        let mut connection = Connection::new(ours, PATIENCE);
        let client = tokio::spawn(async move {
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                theirs.write_u8(b'x').await.unwrap();
            }
            theirs
        });
        for _ in 0..100 {
            connection.read_u8().await.unwrap();
            drop(Busy::new(&connection.traffic(), false));
        }
        let began = Instant::now();
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 105));
        drop(client.await.unwrap());
    }
}
