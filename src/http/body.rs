//! A response's body, as actix-web polls it.
//!
//! Every body has a known length. One that fails, or ends early, takes the connection with it, short of `Content-Length`: no
//! client takes it for the whole. Dropping a body is how a client's leaving looks.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use futures_core::{Stream, ready};

use super::{access_log::Entry, errors};

/// Pieces as they come; an error is told to the log in these words, and to the client by cutting the connection.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, String>>>>;

/// Where the bytes come from.
pub(super) enum Payload {
    /// No byte, whatever the length says: HEAD.
    Nothing,
    /// All at once.
    Bytes(Option<Bytes>),
    /// Piece by piece.
    Stream {
        /// Awaited before the head was sent.
        first: Option<Bytes>,
        /// The others.
        rest: Pieces,
    },
}

impl Payload {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        match self {
            Payload::Nothing => Poll::Ready(None),
            Payload::Bytes(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Payload::Stream { first: first @ Some(_), .. } => Poll::Ready(first.take().map(Ok)),
            Payload::Stream { first: None, rest } => rest.as_mut().poll_next(cx),
        }
    }
}

/// The body, with the request's log entry, which is written when this is dropped.
pub(super) struct Body {
    payload: Payload,
    length: u64,
    entry: Entry,
}

/// The body was cut. What happened is logged already.
#[derive(Debug, thiserror::Error)]
#[error("the body was cut short")]
pub(super) struct Cut;

impl Body {
    pub(super) fn new(payload: Payload, length: u64, entry: Entry) -> Self {
        Body { payload, length, entry }
    }
}

impl MessageBody for Body {
    type Error = Cut;

    fn size(&self) -> BodySize {
        match self.payload {
            Payload::Nothing => BodySize::Stream,
            Payload::Bytes(_) | Payload::Stream { .. } => BodySize::Sized(self.length),
        }
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        loop {
            if self.entry.is_cut() {
                return Poll::Pending;
            }
            return match ready!(self.payload.poll(cx)) {
                // An empty piece would end the transfer.
                Some(Ok(piece)) if piece.is_empty() => continue,
                Some(Ok(piece)) => {
                    self.entry.sent(piece.len() as u64);
                    Poll::Ready(Some(Ok(piece)))
                }
                Some(Err(error)) => self.cut(&error),
                None if self.entry.is_whole() => Poll::Ready(None),
                None => self.cut("it ended early"),
            };
        }
    }
}

impl Body {
    /// Pending for ever is right: the connection ends at the flush that follows, with what was sent before delivered.
    fn cut(&mut self, why: &str) -> Poll<Option<Result<Bytes, Cut>>> {
        errors::body_failed(why, self.entry.repo(), self.entry.bytes_sent());
        if self.entry.cut() { Poll::Pending } else { Poll::Ready(Some(Err(Cut))) }
    }
}
