//! The values that go through the fetcher: a request, the head of its answer, and the body's bytes.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::mpsc;
use url::Url;

use super::error::{FetchError, authority};

/// A request to an upstream. The fetcher follows redirects, and credentials never cross an origin
/// (S3).
#[derive(Clone)]
pub struct Request {
    /// GET, HEAD or POST.
    pub method: Method,
    /// An absolute URL.
    pub url: Url,
    /// Sent as they are. `Authorization` goes only to the first origin.
    pub headers: HeaderMap,
    /// How long until the final head must have arrived, redirects included.
    pub head_timeout: Duration,
}

impl fmt::Debug for Request {
    /// Shows neither headers nor query: they hold credentials and signatures (S18).
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
    /// The URL that answered at last.
    pub url: Url,
    /// The bytes.
    pub body: ResponseBody,
}

impl fmt::Debug for Response {
    /// Shows no headers and no query, as for [`Request`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} from {}{})", self.status, authority(&self.url), self.url.path())
    }
}

/// The bytes of an answer, in order. They end with `None` only after all of `Content-Length`, or
/// the last chunk, has arrived.
#[derive(Debug)]
pub struct ResponseBody {
    /// The channel is bounded.
    pub(in crate::upstream) chunks: mpsc::Receiver<Result<Bytes, FetchError>>,
}

impl ResponseBody {
    /// The next piece. Dropping the body closes the connection.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, FetchError>> {
        self.chunks.recv().await
    }
}
