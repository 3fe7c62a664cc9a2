//! The state that one connection shares with its requests. [`ConnectionState`] lies in the connection's
//! data; `intake` and `access_log` find it there. A [`ActiveRequest`] is one request in progress.
//!
//! Requests say: a body is awaited, ended or too slow; the connection closes after this answer; the
//! connection is cut. The connection reads these flags when it is polled.

use std::{cell::Cell, rc::Rc, task::Waker};

use bytes::Bytes;

use crate::http::transport::{answer_memory::AnswerHold, framing::RequestFraming, places::Place, plane::SendSlot};

/// What the requests of a connection tell it. Lies in the connection's data, where handlers find
/// it.
#[derive(Default)]
pub(crate) struct ConnectionState {
    /// How many requests are in progress.
    pub(crate) requests: Cell<usize>,
    /// There was one since this was last looked at.
    pub(crate) seen: Cell<bool>,
    /// The connection ends with this request: what is still to come of it is awaited for a moment
    /// only.
    pub(crate) leaving: Cell<bool>,
    /// What came of the body is no body.
    pub(crate) broken: Cell<bool>,
    /// Who waits for more of the body.
    pub(crate) reader: Cell<Option<Waker>>,
    /// A body that is not read to its end yet.
    pub(crate) unread: Cell<bool>,
    /// What the pipeline is told next.
    pub(crate) coming: Cell<Option<RequestFraming>>,
    /// The client's body, where it waits to be asked for.
    pub(crate) waits: Cell<ExpectContinue>,
    /// Who waits until none is in progress.
    pub(crate) waiting: Cell<Option<Waker>>,
    /// A body has failed: nothing more may be sent.
    pub(crate) cut: Cell<bool>,
    /// What a body wants sent.
    pub(crate) slot: SendSlot,
    /// What the connection holds among all others.
    pub(crate) place: Option<Place>,
}

/// A body that its client may hold back until it is asked for (RFC 9110, section 10.1.1).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ExpectContinue {
    /// It does not.
    #[default]
    No,
    /// Nobody has asked for it.
    Unasked,
    /// Somebody has, and the client is to be told.
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

    /// Some of the body is here: its client does not wait.
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

    /// What comes is no body: whoever waits for more of it is told, and the connection ends with the
    /// answer.
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
    /// A request whose body comes as `coming` says, and which waits to be asked for or not.
    pub(crate) fn new(connection: &Rc<ConnectionState>, coming: RequestFraming, waits: bool) -> Self {
        connection.requests.set(connection.requests.get() + 1);
        connection.seen.set(true);
        connection.coming.set(Some(coming));
        connection.unread.set(coming.has_body());
        connection.waits.set(if waits { ExpectContinue::Unasked } else { ExpectContinue::No });
        if let Some(place) = &connection.place {
            place.busy();
        }
        ActiveRequest(Rc::clone(connection))
    }

    /// The answer is made. True where the connection ends with it: a body that nobody has read to
    /// its end may have come or not, and a client that still waits to be asked for it may send it
    /// or not, so what comes next would be anything.
    pub(crate) fn answered(&self) -> bool {
        self.0.waits.set(ExpectContinue::No);
        if self.0.unread.get() {
            self.0.leaving.set(true);
        }
        self.0.leaving.get()
    }

    /// Ends the connection as soon as what is written already has left.
    pub(crate) fn cut(&self) {
        self.0.cut.set(true);
    }

    /// Counts bytes that the answer holds in memory, among those of all connections. `None`: there
    /// are too many of them.
    pub(crate) fn hold(&self, bytes: &Bytes) -> Option<AnswerHold> {
        self.0.place.as_ref()?.hold(bytes)
    }

    /// Where the connection finds what it shall send.
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
