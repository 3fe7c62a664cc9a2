//! The body of a request: read in pieces, with a minimum rate and a maximum size. Handlers read it;
//! the connection learns from it whether the body is awaited.
//!
//! - A body of any size brings at least [`RATE`] bytes a second, averaged over a minute. Only time
//!   in which a piece is awaited counts, so a slow disk costs no client its upload, and a large
//!   body has no time limit in all.
//! - A body that is gathered, a form or a manifest, also has a limit in all: 30 s, and one second
//!   more for each 64 KiB beyond the first.
//! - A gathered body takes a share of the memory for all of them (`transport/request_memory.rs`).
//!   Time in which it waits for that does not count.
//!
//! A slower body is answered 408, and its connection ends. The bytes of an upload that have come
//! stay, and the upload can go on.

use std::{future::poll_fn, pin::Pin, rc::Rc, task::Poll, time::Duration};

use actix_web::{HttpRequest, dev::Payload, error::PayloadError, web};
use bytes::Bytes;
use futures_core::Stream as _;
use tokio::time::Instant;

use crate::{
    http::{
        answer::errors::{self, HttpError},
        transport::{connection_state::ConnectionState, request_memory::GatheredBody},
    },
    oci::{ErrorCode, RegistryError},
};

/// The least rate of a body, in bytes a second.
const RATE: u64 = 1 << 10;

/// The time that the rate is averaged over.
const WINDOW: Duration = Duration::from_secs(60);

/// The time that a gathered body of [`SHORT`] bytes may take.
const TOTAL: Duration = Duration::from_secs(30);
const SHORT: u64 = 64 << 10;

/// The body of a request. Dropped before its end, it ends its connection.
pub(crate) struct RequestBody {
    payload: Payload,
    connection: Option<Rc<ConnectionState>>,
    /// Since the body last kept its rate: the time that it was awaited, and the bytes that came.
    waited: Duration,
    came: u64,
}

impl RequestBody {
    /// The body of `request`.
    pub(crate) fn new(payload: web::Payload, request: &HttpRequest) -> Self {
        RequestBody::on(payload.into_inner(), request.conn_data::<Rc<ConnectionState>>().map(Rc::clone))
    }

    fn on(payload: Payload, connection: Option<Rc<ConnectionState>>) -> Self {
        RequestBody { payload, connection, waited: Duration::ZERO, came: 0 }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// 400 where the body breaks off, 408 where it comes too slowly.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, HttpError> {
        let (payload, connection) = (&mut self.payload, self.connection.as_deref());
        let next = poll_fn(|cx| {
            let next = Pin::new(&mut *payload).poll_next(cx);
            let Some(connection) = connection.filter(|_| next.is_pending()) else { return next };
            if connection.broken.get() {
                return Poll::Ready(Some(Err(PayloadError::EncodingCorrupted)));
            }
            connection.reader.set(Some(cx.waker().clone()));
            connection.ask_for_body();
            next
        });
        let since = Instant::now();
        match tokio::time::timeout(WINDOW.saturating_sub(self.waited), next).await {
            Ok(Some(Ok(piece))) => {
                self.has_come(piece.len(), since.elapsed());
                Ok(Some(piece))
            }
            Ok(None) => {
                if let Some(connection) = &self.connection {
                    connection.body_ends();
                }
                Ok(None)
            }
            Ok(Some(Err(error))) => Err(broken(&error).into()),
            Err(_) => Err(self.too_slow("less than 1 KiB a second came for a minute")),
        }
    }

    fn has_come(&mut self, bytes: usize, after: Duration) {
        if let Some(connection) = &self.connection {
            connection.body_comes();
        }
        self.came += bytes as u64;
        self.waited += after;
        if self.came >= RATE * WINDOW.as_secs() {
            (self.came, self.waited) = (0, Duration::ZERO);
        }
    }

    /// 408. The connection ends with this answer.
    fn too_slow(&self, why: &str) -> HttpError {
        if let Some(connection) = &self.connection {
            connection.leave();
        }
        let message = format!("{why}; what had come before is kept where the upload can go on");
        RegistryError::new(ErrorCode::BlobUploadInvalid, message).with_status(408).into()
    }

    /// The whole body; `None` if it is longer than `most` bytes. `told`: its length, if the head
    /// states it.
    ///
    /// # Errors
    /// As [`piece`](Self::piece); 429 where there is no memory for it.
    pub(crate) async fn whole(&mut self, told: Option<u64>, most: usize) -> Result<Option<Bytes>, HttpError> {
        if told.is_some_and(|told| told > most as u64) {
            return Ok(None);
        }
        let longest = told.unwrap_or(most as u64);
        let total = TOTAL + Duration::from_secs(longest.saturating_sub(SHORT) / SHORT);
        let mut until = Instant::now() + total;
        // The length in the head costs nothing before bytes come.
        let mut gathered = GatheredBody::default();
        loop {
            let piece = tokio::time::timeout_at(until, self.piece()).await;
            let Some(piece) = piece.map_err(|_| self.too_slow("the body took too long"))?? else { break };
            let length = gathered.length() + piece.len();
            if length > most {
                return Ok(None);
            }
            let since = Instant::now();
            self.make_room(&mut gathered, length, longest as usize).await?;
            until += since.elapsed();
            gathered.push(&piece, longest as usize);
        }
        Ok(Some(gathered.into_bytes()))
    }

    async fn make_room(&self, gathered: &mut GatheredBody, length: usize, longest: usize) -> Result<(), HttpError> {
        match self.connection.as_ref().and_then(|connection| connection.place.as_ref()) {
            Some(place) => place.room_for_body(gathered, length, longest).await.map_err(|_| errors::too_many_bodies()),
            None => Ok(()),
        }
    }
}

fn broken(error: &PayloadError) -> RegistryError {
    RegistryError::new(ErrorCode::BlobUploadInvalid, format!("the body broke off: {error}"))
}

#[cfg(test)]
mod tests {
    use actix_http::h1;

    use super::*;

    /// The outcome of a body of which `piece` bytes come every `every` seconds, for an hour at
    /// most: the status, if it is refused, and after how many seconds.
    async fn dribbled(
        piece: usize,
        every: u64,
        read: impl AsyncFn(&mut RequestBody) -> Option<u16>,
    ) -> (Option<u16>, u64) {
        let (mut sender, payload) = h1::Payload::create(false);
        let mut body = RequestBody::on(Payload::H1 { payload }, None);
        let began = Instant::now();
        let dribble = async {
            for _ in 0..3600 / every {
                tokio::time::sleep(Duration::from_secs(every)).await;
                sender.feed_data(Bytes::from(vec![b'x'; piece]));
            }
            sender.feed_eof();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            status = read(&mut body) => (status, began.elapsed().as_secs()),
            () = dribble => unreachable!(),
        }
    }

    async fn pieces(body: &mut RequestBody) -> Option<u16> {
        loop {
            match body.piece().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(error.status()),
            }
        }
    }

    async fn form(body: &mut RequestBody) -> Option<u16> {
        body.whole(None, 64 << 10).await.err().map(|error| error.status())
    }

    async fn manifest(body: &mut RequestBody) -> Option<u16> {
        body.whole(None, 4 << 20).await.err().map(|error| error.status())
    }

    async fn small_manifest(body: &mut RequestBody) -> Option<u16> {
        body.whole(Some(1000), 4 << 20).await.err().map(|error| error.status())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_brings_its_rate_or_is_refused() {
        for (piece, every) in [(1, 20), (1, 1), (1000, 1), (30 << 10, 31), (59 << 10, 59), (1 << 20, 61)] {
            let (status, after) = dribbled(piece, every, pieces).await;
            assert!(
                (status, after <= 61) == (Some(408), true),
                "{piece} bytes every {every} s: {status:?} after {after} s"
            );
        }
        for (piece, every) in [(1100, 1), (31 << 10, 29), (1 << 20, 59)] {
            assert_eq!(dribbled(piece, every, pieces).await.0, None, "{piece} bytes every {every} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_body_has_a_total() {
        for piece in [1, 1 << 10] {
            assert_eq!(dribbled(piece, 1, form).await, (Some(408), 30), "{piece} bytes a second");
            assert_eq!(dribbled(piece, 1, small_manifest).await, (Some(408), 30), "{piece} bytes a second");
        }
        assert_eq!(dribbled(1, 20, manifest).await, (Some(408), 60));
        assert_eq!(dribbled(2 << 10, 1, manifest).await, (Some(408), 93));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_disk_costs_no_client_its_upload() {
        let (mut sender, payload) = h1::Payload::create(false);
        let mut body = RequestBody::on(Payload::H1 { payload }, None);
        for _ in 0..100 {
            sender.feed_data(Bytes::from_static(b"x"));
            assert!(body.piece().await.is_ok());
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }
}
