//! The bodies of requests and answers, with a look at whether they move.
//!
//! hyper takes a frame whole, and asks for the next one when most of it is gone. So a body is
//! handed over in pieces of [`PIECE`]: a part of 16 MiB on a slow line moves as long as pieces are
//! taken.

use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use object_store::client::{HttpError, HttpRequestBody};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use super::failure::{STILL, broken, still};

/// The largest piece of a request's body that is handed over, in bytes.
const PIECE: usize = 64 * 1024;

/// When something of a request moved last.
#[derive(Debug)]
pub(super) struct Movement(Mutex<Instant>);

impl Movement {
    pub(super) fn new() -> Movement {
        Movement(Mutex::new(Instant::now()))
    }

    fn moved(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Ends when nothing has moved for so long.
    pub(super) async fn ceased(&self, long: Duration) {
        loop {
            let until = *self.0.lock() + long;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// The body of a request.
#[derive(Debug)]
pub(super) struct Sent {
    rest: HttpRequestBody,
    piece: Bytes,
    movement: Arc<Movement>,
}

impl Sent {
    pub(super) fn new(rest: HttpRequestBody, movement: Arc<Movement>) -> Sent {
        Sent { rest, piece: Bytes::new(), movement }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        while self.piece.is_empty() {
            match ready!(Pin::new(&mut self.rest).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.piece = piece,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        self.movement.moved();
        let long = self.piece.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.piece.split_to(long)))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.size_hint().exact().unwrap_or_default();
        SizeHint::with_exact(self.piece.len() as u64 + rest)
    }
}

/// The body of an answer. It ends once, however often it is asked.
#[derive(Debug)]
pub(super) struct Received {
    body: Option<Incoming>,
    until: Pin<Box<Sleep>>,
}

impl Received {
    pub(super) fn new(body: Incoming) -> Received {
        Received { body: Some(body), until: Box::pin(sleep_until(Instant::now() + STILL)) }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.until.as_mut().reset(Instant::now() + STILL);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.body = None;
                Poll::Ready(Some(Err(broken(&error))))
            }
            Poll::Ready(None) => {
                this.body = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(this.until.as_mut().poll(cx));
                this.body = None;
                Poll::Ready(Some(Err(still())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
