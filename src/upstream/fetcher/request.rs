//! What goes in and what comes out: a request, the head of its answer, and the bytes behind it.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::mpsc;
use url::Url;

use super::error::{FetchError, authority};

/// A request to an upstream. Redirects are followed here, credentials never cross an origin (S3).
#[derive(Clone)]
pub struct Request {
    /// GET, HEAD or POST.
    pub method: Method,
    /// Absolute.
    pub url: Url,
    /// Sent as they are; `Authorization` only to the first origin.
    pub headers: HeaderMap,
    /// How long until the head must have arrived, redirects included.
    pub head_timeout: Duration,
}

impl fmt::Debug for Request {
    /// Neither headers nor query: they hold credentials and signatures (S18).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {}{})", self.method, authority(&self.url), self.url.path())
    }
}

/// An answer whose head has arrived.
pub struct Response {
    /// Final status, after redirects.
    pub status: StatusCode,
    /// Headers of the final answer.
    pub headers: HeaderMap,
    /// The URL that answered in the end.
    pub url: Url,
    /// The bytes.
    pub body: ResponseBody,
}

impl fmt::Debug for Response {
    /// As for [`Request`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} from {}{})", self.status, authority(&self.url), self.url.path())
    }
}

/// The bytes of an answer, in order. Ends with `None` only after all of `Content-Length` (or the last chunk) arrived.
#[derive(Debug)]
pub struct ResponseBody {
    /// The fetcher's end is bounded.
    pub(in crate::upstream) chunks: mpsc::Receiver<Result<Bytes, FetchError>>,
}

impl ResponseBody {
    /// The next piece.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, FetchError>> {
        self.chunks.recv().await
    }
}
