//! How the bytes of one answer leave: through the data plane of its connection, counted against the
//! memory of all answers, and reported to the proof of blobs.
//!
//! One for each request, from its head to the last byte of its answer. Without a connection of the
//! transport, as on the administration's socket and in tests, it counts nothing and hands over
//! nothing.

use std::{rc::Rc, task::Poll};

use actix_web::{HttpRequest, http::Version};
use bytes::Bytes;

use crate::{
    http::{
        answer::access_log::LogEntry,
        transport::{
            answer_memory::AnswerHold,
            connection_state::{ActiveRequest, ConnectionState},
            framing::RequestFraming,
            pipeline::EXPECT,
            plane::SendItem,
        },
    },
    pull::Giving,
};

/// See the module.
pub(crate) struct Delivery {
    /// The request in progress at its connection.
    request: Option<ActiveRequest>,
    /// The bytes that the answer holds in memory, if those are more than a few.
    hold: Option<AnswerHold>,
    /// Told how much of the blob went out, if the answer's body is one.
    giving: Option<Box<Giving>>,
    /// `giving` was told that all of it goes out.
    given: bool,
    /// The body's file could not be read to its end.
    unreadable: bool,
}

impl Delivery {
    /// Begins with a request whose head has arrived.
    pub(crate) fn new(request: &HttpRequest) -> Self {
        let active = request.conn_data::<Rc<ConnectionState>>().map(|connection| {
            let framing = RequestFraming::of(request);
            ActiveRequest::new(connection, framing, framing.has_body() && waits(request))
        });
        Delivery { request: active, hold: None, giving: None, given: false, unreadable: false }
    }

    /// The answer is made. True where the connection ends with it.
    pub(crate) fn answered(&self) -> bool {
        self.request.as_ref().is_some_and(ActiveRequest::answered)
    }

    /// Counts bytes that the answer will hold in memory. False: all answers together hold too many.
    pub(crate) fn carries(&mut self, bytes: &Bytes) -> bool {
        if let (None, Some(request)) = (&self.hold, &self.request) {
            self.hold = request.hold(bytes);
            return self.hold.is_some();
        }
        true
    }

    /// Whether there is a connection to hand over to.
    pub(crate) fn is_connected(&self) -> bool {
        self.request.is_some()
    }

    /// The answer's body is a blob, or some of one.
    pub(crate) fn gives(&mut self, giving: Giving) {
        self.giving = Some(Box::new(giving));
    }

    /// Whether the answer's body is a blob, or some of one, and `bytes` are the rest of it.
    pub(crate) fn is_rest_of_blob(&self, entry: &LogEntry, bytes: u64) -> bool {
        self.giving.is_some() && entry.ends_with(bytes)
    }

    /// `bytes` more are about to go out. A client that has the last of them may ask again before
    /// this answer ends, so the proof is told before.
    pub(crate) fn about_to_send(&mut self, entry: &LogEntry, bytes: u64) {
        if !self.given
            && entry.ends_with(bytes)
            && let Some(giving) = &self.giving
        {
            giving.ends(entry.expected());
            self.given = true;
        }
    }

    /// The connection sends this next. False where there is no connection.
    pub(crate) fn hand_over(&mut self, entry: &LogEntry, item: SendItem) -> bool {
        self.about_to_send(entry, item.length());
        self.request.as_ref().map(|request| request.slot().put(item)).is_some()
    }

    /// Ready when the item is sent, with the number of its bytes, or with the fault of its file.
    pub(crate) fn handed_over(&self) -> Poll<Result<u64, &'static str>> {
        let ended = self.request.as_ref().map_or(Some(Ok(0)), |request| request.slot().ended());
        ended.map_or(Poll::Pending, Poll::Ready)
    }

    /// Takes the item back. Returns how many bytes of it have left.
    pub(crate) fn take_back(&mut self) -> u64 {
        self.request.as_ref().map_or(0, |request| request.slot().withdraw())
    }

    /// The body's file could not be read.
    pub(crate) fn unreadable(&mut self) {
        self.unreadable = true;
    }

    /// The body failed; the connection goes with it. False where there is no connection to tell.
    pub(crate) fn cut(&self) -> bool {
        self.request.as_ref().map(ActiveRequest::cut).is_some()
    }

    /// The answer has ended after `sent` bytes, or its client has left.
    pub(crate) fn ended(&mut self, sent: u64) {
        if let Some(giving) = self.giving.take() {
            giving.ended(sent, self.given, self.unreadable);
        }
    }
}

impl Drop for Delivery {
    /// An answer that never became a body has sent nothing.
    fn drop(&mut self) {
        self.ended(0);
    }
}

/// Whether the client holds its body back until it is asked for. HTTP/1.0 knows no such thing.
fn waits(request: &HttpRequest) -> bool {
    request.version() == Version::HTTP_11
        && request.headers().get_all(EXPECT).any(|value| {
            let mut words = value.as_bytes().split(|byte| *byte == b',');
            words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"100-continue"))
        })
}
