//! The connections that awc uses. They note what awc does not tell.
//!
//! awc takes the plain end of a stream for the end of a chunked body. It also does not tell whether
//! a failed request met a fresh or a used connection. So the connections are ours, and each notes
//! its events for the exchange that is being polled at that moment. All of it lives on one thread,
//! and awc polls a connection only from within an exchange. `dial.rs` makes them, `client.rs` reads
//! the notes.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_rt::net::{ActixStream, Ready, TcpStream};
use actix_tls::connect::rustls_0_23::reexports::AsyncTlsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::interim::Interim;

/// The events that one exchange met on its connection.
#[derive(Default)]
pub(super) struct ConnectionNotes {
    fresh: Cell<bool>,
    ended: Cell<bool>,
}

impl ConnectionNotes {
    /// Whether the request went out on a connection that had been used before. Bytes on it may
    /// belong to an earlier request.
    pub(super) fn was_used(&self) -> bool {
        !self.fresh.get()
    }

    /// Whether the peer closed its side.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }
}

/// The exchange of a client that is being polled. Each of the client's connections has a clone.
#[derive(Clone, Default)]
pub(super) struct Watch(Rc<RefCell<Option<Rc<ConnectionNotes>>>>);

impl Watch {
    /// Runs a future of awc as part of an exchange.
    pub(super) async fn during<F: Future>(&self, notes: &Rc<ConnectionNotes>, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            let before = self.0.replace(Some(notes.clone()));
            let output = future.as_mut().poll(context);
            self.0.replace(before);
            output
        })
        .await
    }

    fn note(&self, note: impl FnOnce(&ConnectionNotes)) {
        if let Some(notes) = self.0.borrow().as_deref() {
            note(notes);
        }
    }
}

/// A connection to an upstream, with or without TLS.
pub(super) struct UpstreamConnection {
    stream: Stream,
    watch: Watch,
    interim: Interim,
}

/// The two kinds of streams.
pub(super) enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<AsyncTlsStream<TcpStream>>),
}

impl UpstreamConnection {
    /// A new connection, for the exchange that is being polled.
    pub(super) fn new(stream: Stream, watch: Watch) -> Self {
        watch.note(|notes| notes.fresh.set(true));
        UpstreamConnection { stream, watch, interim: Interim::default() }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl fmt::Debug for UpstreamConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamConnection({:?})", self.tcp().peer_addr())
    }
}

/// Calls the same method of either stream.
macro_rules! either {
    ($connection:expr, $stream:ident => $call:expr) => {
        match &mut $connection.get_mut().stream {
            Stream::Plain(tcp) => {
                let $stream = Pin::new(tcp);
                $call
            }
            Stream::Tls(tls) => {
                let $stream = Pin::new(tls.as_mut());
                $call
            }
        }
    };
}

/// The most bytes of an answer's head that are read at a time.
const PIECE: usize = 4096;

impl AsyncRead for UpstreamConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        loop {
            if room == 0 || self.interim.give(buf) {
                return Poll::Ready(Ok(()));
            }
            if self.interim.is_spoiled() {
                // awc takes this for a closed connection and does not use it again.
                self.watch.note(|notes| notes.ended.set(true));
                return Poll::Ready(Ok(()));
            }
            if !self.interim.is_waiting() {
                let before = buf.filled().len();
                let result = either!(self.as_mut(), stream => stream.poll_read(cx, buf));
                if let Poll::Ready(Ok(())) = &result {
                    let ended = buf.filled().len() == before;
                    self.watch.note(|notes| notes.ended.set(ended));
                }
                return result;
            }
            let mut space = [0; PIECE];
            let mut head = ReadBuf::new(&mut space);
            ready!(either!(self.as_mut(), stream => stream.poll_read(cx, &mut head)))?;
            match head.filled() {
                [] => self.interim.end(),
                bytes => self.interim.feed(bytes),
            }
        }
    }
}

impl AsyncWrite for UpstreamConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // awc probes idle connections by reading from them. The result is not this exchange's: its
        // own connection is the one that it writes its request to.
        self.watch.note(|notes| notes.ended.set(false));
        let written = ready!(either!(self.as_mut(), stream => stream.poll_write(cx, buf)))?;
        self.interim.sent(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}

impl ActixStream for UpstreamConnection {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(self.tcp(), cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(self.tcp(), cx)
    }
}
