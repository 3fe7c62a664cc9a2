//! A response's body, as actix-web polls it.
//!
//! Every body has a known length. What comes of files, and bytes beyond [`SHARED`], it leaves to
//! the connection (`plane/`), and waits. One that fails, or ends early, takes the connection with
//! it, short of `Content-Length`: no client takes it for the whole. Dropping a body is how a
//! client's leaving looks.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use futures_core::{Stream, ready};

use crate::{
    http::{
        answer::{access_log::LogEntry, delivery::Delivery},
        transport::plane::SendItem,
    },
    oci::Repository,
    pull::{FileRange, Piece},
};

/// How many bytes of a blob go by themselves at its end.
const TAIL: u64 = 1 << 20;

/// Bytes beyond this are left to the connection, as files are, and so are not copied for each
/// client.
pub(crate) const SHARED: u64 = 64 << 10;

/// Pieces as they come; an error is told to the log in these words, and to the client by cutting the connection.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = Result<Piece, String>>>>;

/// Where the bytes come from.
pub(crate) enum BodySource {
    /// No byte, whatever the length says: HEAD.
    Nothing,
    /// All at once.
    Bytes(Option<Bytes>),
    /// Piece by piece.
    Stream {
        /// Awaited before the head was sent.
        first: Option<Piece>,
        /// The others.
        rest: Pieces,
    },
}

impl BodySource {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, String>>> {
        match self {
            BodySource::Nothing => Poll::Ready(None),
            BodySource::Bytes(bytes) => Poll::Ready(bytes.take().map(Piece::Bytes).map(Ok)),
            BodySource::Stream { first: first @ Some(_), .. } => Poll::Ready(first.take().map(Ok)),
            BodySource::Stream { first: None, rest } => rest.as_mut().poll_next(cx),
        }
    }
}

/// The body, with the request's log entry, which is written when this is dropped.
pub(crate) struct ReplyBody {
    payload: BodySource,
    length: u64,
    entry: LogEntry,
    delivery: Delivery,
    /// The connection has a range of ours.
    sending: bool,
    /// What comes next, where a range was divided.
    rest: Option<FileRange>,
}

/// The body was cut. What happened is logged already.
#[derive(Debug, thiserror::Error)]
#[error("the body was cut short")]
pub(crate) struct BodyCut;

impl ReplyBody {
    pub(crate) fn new(payload: BodySource, length: u64, entry: LogEntry, delivery: Delivery) -> Self {
        ReplyBody { payload, length, entry, delivery, sending: false, rest: None }
    }
}

impl MessageBody for ReplyBody {
    type Error = BodyCut;

    fn size(&self) -> BodySize {
        match self.payload {
            // actix-http would want to see the bytes of a body whose size it knows; the head says it all the same.
            BodySource::Nothing | BodySource::Stream { .. } => BodySize::Stream,
            BodySource::Bytes(_) if self.length > SHARED => BodySize::Stream,
            BodySource::Bytes(_) => BodySize::Sized(self.length),
        }
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyCut>>> {
        loop {
            if self.entry.is_cut() {
                return Poll::Pending;
            }
            if self.sending {
                match ready!(self.delivery.handed_over()) {
                    Ok(bytes) => self.sent(bytes),
                    Err(error) => {
                        self.delivery.unreadable();
                        return self.cut(error);
                    }
                }
                self.sending = false;
            }
            let next = match self.rest.take() {
                Some(rest) => Some(Ok(Piece::File(rest))),
                None => ready!(self.payload.poll(cx)),
            };
            return match next {
                // An empty piece would end the transfer.
                Some(Ok(piece)) if piece.length() == 0 => continue,
                Some(Ok(Piece::Bytes(bytes))) if bytes.len() as u64 > SHARED && self.delivery.is_connected() => {
                    self.sending = self.hand_over(SendItem::Bytes(bytes));
                    Poll::Pending
                }
                Some(Ok(Piece::Bytes(bytes))) => {
                    self.sent(bytes.len() as u64);
                    Poll::Ready(Some(Ok(bytes)))
                }
                // The flush that follows sends it, and wakes us.
                Some(Ok(Piece::File(range))) => {
                    let range = self.before_tail(range);
                    self.sending = self.hand_over(SendItem::File(range));
                    if self.sending { Poll::Pending } else { self.cut("there is no connection to send it") }
                }
                Some(Err(error)) => self.cut(&error),
                None if self.entry.is_whole() => Poll::Ready(None),
                None => self.cut("it ended early"),
            };
        }
    }
}

impl Drop for ReplyBody {
    /// What has left of a range counts, also where the client has left before the rest.
    fn drop(&mut self) {
        if self.sending {
            let bytes = self.delivery.take_back();
            self.entry.sent(bytes);
        }
        self.delivery.ended(self.entry.bytes_sent());
    }
}

impl ReplyBody {
    fn sent(&mut self, bytes: u64) {
        self.delivery.about_to_send(&self.entry, bytes);
        self.entry.sent(bytes);
    }

    fn hand_over(&mut self, item: SendItem) -> bool {
        self.delivery.hand_over(&self.entry, item)
    }

    /// The range that goes next. A blob's last bytes go by themselves, so that it is known when
    /// they are about to.
    fn before_tail(&mut self, range: FileRange) -> FileRange {
        if range.length() <= TAIL || !self.delivery.is_rest_of_blob(&self.entry, range.length()) {
            return range;
        }
        let (mut head, mut tail) = (range.clone(), range);
        head.end -= TAIL;
        tail.first = head.end;
        self.rest = Some(tail);
        head
    }

    /// Pending for ever is right: the connection ends at the flush that follows, with what was sent before delivered.
    fn cut(&mut self, why: &str) -> Poll<Option<Result<Bytes, BodyCut>>> {
        body_failed(why, self.entry.repo(), self.entry.bytes_sent());
        self.entry.cut();
        if self.delivery.cut() { Poll::Pending } else { Poll::Ready(Some(Err(BodyCut))) }
    }
}

/// A body failed with its head long gone: the connection is cut, and this line is all there is to say.
fn body_failed(error: &str, repo: Option<&Repository>, sent: u64) {
    tracing::warn!(repo = repo.map(tracing::field::display), bytes = sent, "a body was cut short: {error}");
}
