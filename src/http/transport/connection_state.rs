//! The state that a connection shares with its requests. [`ConnectionState`] lies in the
//! connection's data, where `request_body.rs` and `answer/delivery.rs` find it. An
//! [`ActiveRequest`] is one request in progress.
//!
//! Requests set it: a body is awaited, ended or too slow; the connection closes after this answer;
//! the connection is cut. The connection reads it whenever it is polled.

use std::{cell::Cell, rc::Rc, task::Waker};

use bytes::Bytes;

use crate::http::transport::{answer_memory::AnswerHold, framing::RequestFraming, places::Place, plane::SendSlot};

/// The state that a connection and its requests share, on one thread.
#[derive(Default)]
pub(crate) struct ConnectionState {
    /// The number of requests in progress.
    pub(crate) requests: Cell<usize>,
    /// There was a request since this was last read.
    pub(crate) seen: Cell<bool>,
    /// The connection ends with this request, and waits only a moment for the rest of it.
    pub(crate) leaving: Cell<bool>,
    /// The body is malformed.
    pub(crate) broken: Cell<bool>,
    /// Wakes the handler that waits for more of the body.
    pub(crate) reader: Cell<Option<Waker>>,
    /// The body is not read to its end yet.
    pub(crate) unread: Cell<bool>,
    /// The framing of the newest request, until the pipeline takes it.
    pub(crate) framing: Cell<Option<RequestFraming>>,
    /// Whether the client holds its body back.
    pub(crate) waits: Cell<ExpectContinue>,
    /// Wakes the connection when no request is in progress.
    pub(crate) waiting: Cell<Option<Waker>>,
    /// A body has failed: no more may be sent.
    pub(crate) cut: Cell<bool>,
    /// The item that a body wants sent.
    pub(crate) slot: SendSlot,
    /// The connection's place among all others.
    pub(crate) place: Option<Place>,
}

/// Whether a client holds its body back until it is asked for (RFC 9110, section 10.1.1).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ExpectContinue {
    /// It does not.
    #[default]
    No,
    /// It does, and no handler has asked for it.
    Unasked,
    /// It does, and a handler has asked: the client must be told.
    Asked,
}

impl ConnectionState {
    /// A handler waits for the body.
    pub(crate) fn ask_for_body(&self) {
        self.client_waited_for();
        if self.waits.get() == ExpectContinue::Unasked {
            self.waits.set(ExpectContinue::Asked);
        }
    }

    /// Some of the body is here, so the client does not hold it back.
    pub(crate) fn body_comes(&self) {
        self.waits.set(ExpectContinue::No);
        self.client_goes_on();
    }

    pub(crate) fn client_waited_for(&self) {
        if let Some(place) = &self.place {
            place.waits();
        }
    }

    pub(crate) fn client_goes_on(&self) {
        if let Some(place) = &self.place {
            place.goes_on();
        }
    }

    /// The body is malformed: its reader is woken, and the connection ends with the answer.
    pub(crate) fn body_breaks(&self) {
        self.broken.set(true);
        self.leaving.set(true);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// The body is read to its end.
    pub(crate) fn body_ends(&self) {
        self.unread.set(false);
        self.body_comes();
    }

    /// The body comes too slowly: the connection ends with the answer.
    pub(crate) fn leave(&self) {
        self.leaving.set(true);
    }
}

/// One request in progress, while it lives.
pub(crate) struct ActiveRequest(Rc<ConnectionState>);

impl ActiveRequest {
    /// A request whose body is framed as `framing` says. `waits`: its client holds the body back.
    pub(crate) fn new(connection: &Rc<ConnectionState>, framing: RequestFraming, waits: bool) -> Self {
        connection.requests.set(connection.requests.get() + 1);
        connection.seen.set(true);
        connection.framing.set(Some(framing));
        connection.unread.set(framing.has_body());
        connection.waits.set(if waits { ExpectContinue::Unasked } else { ExpectContinue::No });
        if let Some(place) = &connection.place {
            place.busy();
        }
        ActiveRequest(Rc::clone(connection))
    }

    /// The answer is made. True if the connection ends with it. It does if the body is not read to
    /// its end: bytes of it may have come or not, and a client that still holds it back may send it
    /// or not, so the next bytes could be anything.
    pub(crate) fn answered(&self) -> bool {
        self.0.waits.set(ExpectContinue::No);
        if self.0.unread.get() {
            self.0.leaving.set(true);
        }
        self.0.leaving.get()
    }

    /// Ends the connection as soon as the bytes already written have left.
    pub(crate) fn cut(&self) {
        self.0.cut.set(true);
    }

    /// Counts bytes that the answer holds in memory, among those of all connections. `None`: they
    /// are too many.
    pub(crate) fn hold(&self, bytes: &Bytes) -> Option<AnswerHold> {
        self.0.place.as_ref()?.hold(bytes)
    }

    /// The slot for the next item of the answer.
    pub(crate) fn slot(&self) -> &SendSlot {
        &self.0.slot
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get().saturating_sub(1));
        if let Some(place) = &self.0.place {
            place.idle();
        }
        if let Some(waker) = self.0.waiting.take() {
            waker.wake();
        }
    }
}
