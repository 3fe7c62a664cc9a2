//! The body of an answer, as actix-web polls it. Made by `Reply::send` alone.
//!
//! Every body has a known length, except for lines that are told as things happen. It leaves
//! ranges of files, and bytes beyond [`SHARED`], to the connection (`transport/plane/`) and waits.
//! A body that fails or ends early takes the connection with it, short of `Content-Length`: no
//! client takes it for the whole. When the client leaves, the body is dropped.

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

/// The last bytes of a blob that go by themselves, so that their sending is noticed.
const TAIL: u64 = 1 << 20;

/// More bytes than these are left to the connection, as files are, and so are not copied for each
/// client.
pub(crate) const SHARED: u64 = 64 << 10;

/// The pieces of a body in order. The text of an error goes to the log; the client's connection is
/// cut.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = Result<Piece, String>>>>;

/// The source of the bytes.
pub(crate) enum BodySource {
    /// None; the head alone states the length: the answer to a HEAD.
    Nothing,
    /// All of them at once.
    Bytes(Option<Bytes>),
    /// Piece by piece.
    Stream {
        /// The first piece, awaited before the head was sent.
        first: Option<Piece>,
        /// The others.
        rest: Pieces,
    },
    /// Piece by piece, in chunks, since nobody knows how many there will be.
    Lines(Pieces),
}

impl BodySource {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, String>>> {
        match self {
            BodySource::Nothing => Poll::Ready(None),
            BodySource::Bytes(bytes) => Poll::Ready(bytes.take().map(Piece::Bytes).map(Ok)),
            BodySource::Stream { first: first @ Some(_), .. } => Poll::Ready(first.take().map(Ok)),
            BodySource::Stream { first: None, rest } | BodySource::Lines(rest) => rest.as_mut().poll_next(cx),
        }
    }
}

/// The body with the request's log entry, whose line is written when this is dropped.
pub(crate) struct ReplyBody {
    source: BodySource,
    length: u64,
    entry: LogEntry,
    delivery: Delivery,
    /// The connection is sending an item of this body.
    sending: bool,
    /// The rest of a range that was divided; it goes next.
    rest: Option<FileRange>,
}

/// The body was cut. The cause is logged already.
#[derive(Debug, thiserror::Error)]
#[error("the body was cut short")]
pub(crate) struct BodyCut;

impl ReplyBody {
    pub(crate) fn new(source: BodySource, length: u64, entry: LogEntry, delivery: Delivery) -> Self {
        ReplyBody { source, length, entry, delivery, sending: false, rest: None }
    }
}

impl MessageBody for ReplyBody {
    type Error = BodyCut;

    fn size(&self) -> BodySize {
        match self.source {
            // With a known size actix-http would wait for the bytes here. The head has the length
            // all the same.
            BodySource::Nothing | BodySource::Stream { .. } | BodySource::Lines(_) => BodySize::Stream,
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
                None => ready!(self.source.poll(cx)),
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
                // The flush that follows sends it, and wakes this task.
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
    /// The bytes of a range that have left count, also if the client leaves before the rest.
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

    /// The part of the range that goes next. A blob's last bytes go by themselves, so that their
    /// sending is noticed.
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

    /// Pending for ever is right: the connection delivers what was sent before, and ends at the
    /// flush that follows.
    fn cut(&mut self, why: &str) -> Poll<Option<Result<Bytes, BodyCut>>> {
        body_failed(why, self.entry.repo(), self.entry.bytes_sent());
        self.entry.cut();
        if self.delivery.cut() { Poll::Pending } else { Poll::Ready(Some(Err(BodyCut))) }
    }
}

/// A body failed after its head was sent. The connection is cut, and this line is the only report.
fn body_failed(error: &str, repo: Option<&Repository>, sent: u64) {
    tracing::warn!(repo = repo.map(tracing::field::display), bytes = sent, "a body was cut short: {error}");
}
