//! The bytes of an answer on their way from the connection to their reader.
//!
//! - B1: the channel ends without an error only if the body is complete. If a stop or a panic ends
//!   the writer, it leaves an error behind, for which a place is kept from the start.
//! - B2: nothing is read that has no place to go, so a reader that pauses makes the connection
//!   pause.
//! - B3: a reader that goes away closes the connection.
//!
//! `exchange.rs` calls [`pump`] on a fetcher thread.

use std::time::{Duration, Instant};

use actix_http::error::PayloadError;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use tokio::{sync::mpsc, time::timeout};

use super::{client::Head, error::FetchError, request::ResponseBody, settings::Timeouts};

/// The most pieces on the way.
const PLACES: usize = 8;
/// Pieces are joined up to this size, in bytes. awc's own have 8 KiB at most, which costs much work
/// per byte further on.
const PIECE: usize = 128 * 1024;

/// The connection's end of a [`ResponseBody`].
pub(super) struct BodyWriter {
    chunks: mpsc::Sender<Result<Bytes, FetchError>>,
    last: Option<mpsc::OwnedPermit<Result<Bytes, FetchError>>>,
}

/// A body and its writer.
pub(super) fn channel() -> (BodyWriter, ResponseBody) {
    let (chunks, receiver) = mpsc::channel(PLACES + 1);
    // The channel is new and has room, so this cannot fail.
    let last = chunks.clone().try_reserve_owned().ok();
    (BodyWriter { chunks, last }, ResponseBody { chunks: receiver })
}

impl BodyWriter {
    fn finish(mut self, result: Result<(), FetchError>) {
        if let Some(last) = self.last.take()
            && let Err(error) = result
        {
            last.send(Err(error));
        }
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        if let Some(last) = self.last.take() {
            let error = if std::thread::panicking() {
                FetchError::Broken { host: "lanyard".into(), reason: "an internal error; see the log".into() }
            } else {
                FetchError::Stopped
            };
            last.send(Err(error));
        }
    }
}

/// Moves a body to its reader. Returns when the body is complete or broken, or its reader has gone.
pub(super) async fn pump(mut answer: Head, writer: BodyWriter, limits: &Timeouts) {
    let result = run(&mut answer, &writer, limits).await;
    // Free the connection first: a reader that has seen the end may rely on it.
    drop(answer);
    writer.finish(result);
}

async fn run(answer: &mut Head, writer: &BodyWriter, limits: &Timeouts) -> Result<(), FetchError> {
    let mut delivered = 0u64;
    let mut pace = LeastRate::new(limits);
    loop {
        let Ok(place) = writer.chunks.reserve().await else {
            return Ok(());
        };
        let asked = Instant::now();
        let next = tokio::select! {
            biased;
            () = writer.chunks.closed() => return Ok(()),
            next = timeout(limits.idle, answer.piece()) => next,
        };
        let Ok(next) = next else {
            return Err(FetchError::Timeout { host: answer.host.clone(), what: "the next bytes" });
        };
        let (piece, after) = match next {
            Some(Ok(piece)) => join(answer, piece),
            end => (Bytes::new(), Some(end)),
        };
        delivered = delivered.saturating_add(piece.len() as u64);
        let fast_enough = pace.count(asked.elapsed(), piece.len());
        if !piece.is_empty() {
            place.send(Ok(piece));
        }
        match after {
            None if fast_enough => {}
            None => return Err(FetchError::Timeout { host: answer.host.clone(), what: "bytes at a useful pace" }),
            Some(Some(Err(error))) => return Err(explain(answer, error)),
            Some(_) if answer.is_complete(delivered) => return Ok(()),
            Some(_) => {
                let reason = "the connection ended before the body did".to_owned();
                return Err(FetchError::Broken { host: answer.host.clone(), reason });
            }
        }
    }
}

/// The end of a body: `None`, or an error.
type End = Option<Result<Bytes, PayloadError>>;

/// Joins a piece with the bytes that have already come.
fn join(answer: &mut Head, first: Bytes) -> (Bytes, Option<End>) {
    let mut joined: Option<BytesMut> = None;
    let mut length = first.len();
    while length < PIECE {
        match answer.piece().now_or_never() {
            None => break,
            Some(Some(Ok(more))) => {
                length += more.len();
                let start = || {
                    let mut start = BytesMut::with_capacity(PIECE + more.len());
                    start.extend_from_slice(&first);
                    start
                };
                joined.get_or_insert_with(start).extend_from_slice(&more);
            }
            Some(end) => return (joined.map_or(first, BytesMut::freeze), Some(end)),
        }
    }
    (joined.map_or(first, BytesMut::freeze), None)
}

fn explain(answer: &Head, error: PayloadError) -> FetchError {
    let host = answer.host.clone();
    match error {
        PayloadError::Incomplete(Some(error)) | PayloadError::Io(error) => match error.kind() {
            std::io::ErrorKind::InvalidInput => {
                FetchError::Protocol { host, reason: "its chunks are malformed".into() }
            }
            _ => FetchError::Broken { host, reason: error.to_string() },
        },
        PayloadError::Incomplete(None) => {
            FetchError::Broken { host, reason: "the connection ended before the body did".into() }
        }
        _ => FetchError::Protocol { host, reason: "its body is malformed".into() },
    }
}

/// Refuses a trickle that never idles. Only the time spent waiting for the upstream counts, so a
/// slow reader does not make its upstream fail.
struct LeastRate {
    window: Duration,
    least: u64,
    waited: Duration,
    bytes: u64,
}

impl LeastRate {
    fn new(limits: &Timeouts) -> Self {
        let least = limits.least_rate.saturating_mul(limits.idle.as_secs().max(1));
        LeastRate { window: limits.idle, least, waited: Duration::ZERO, bytes: 0 }
    }

    fn count(&mut self, waited: Duration, bytes: usize) -> bool {
        self.waited += waited;
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.waited < self.window {
            return true;
        }
        let enough = self.bytes >= self.least;
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_too_slow_and_a_pause_is_not() {
        let limits = Timeouts { idle: Duration::from_secs(30), least_rate: 1024, ..Timeouts::default() };
        let mut pace = LeastRate::new(&limits);
        assert!((0..29).all(|_| pace.count(Duration::from_secs(1), 1)));
        assert!(!pace.count(Duration::from_secs(1), 1));
        assert!((0..300).all(|_| pace.count(Duration::from_secs(1), 1100)));
        let mut paused = LeastRate::new(&limits);
        assert!(paused.count(Duration::ZERO, 100_000));
        assert!(paused.count(Duration::from_secs(29), 0));
        assert!(paused.count(Duration::from_secs(1), 1));
    }

    #[tokio::test]
    async fn b1_a_writer_that_vanishes_leaves_an_error_even_in_a_full_channel() {
        let (writer, mut body) = channel();
        for _ in 0..PLACES {
            writer.chunks.try_send(Ok(Bytes::from_static(b"x"))).unwrap();
        }
        assert!(writer.chunks.try_send(Ok(Bytes::new())).is_err());
        drop(writer);
        for _ in 0..PLACES {
            assert!(body.chunk().await.unwrap().is_ok());
        }
        assert!(matches!(body.chunk().await, Some(Err(FetchError::Stopped))));
        let (writer, mut body) = channel();
        writer.finish(Ok(()));
        assert!(body.chunk().await.is_none());
    }
}
