//! The one room that knows awc: requests in, answers out, over channels.
//!
//! awc's futures are not `Send`, so it lives on fetcher threads of its own, which outlive the HTTP server. Everybody else
//! holds a [`Fetcher`], which is `Send + Sync + Clone`: [`Fetcher::send`] returns when the answer's head has arrived, and its
//! [`Body`] is a bounded channel: a reader that pauses makes the connection pause, a reader that drops it closes the
//! connection.
//!
//! What the files promise, from the caller inwards:
//!
//! - [`handle`](Fetchers): who may send. `shares`: how many requests of one upstream run at a time.
//!   `rests`: when a host beside the registry is not dialled.
//! - `threads`: the jobs and the order of stopping. `exchange`: one request from its first hop to its last byte.
//! - `redirect`: where a redirect leads, and what is left behind (S3). `head`: which heads are accepted. `body`: that the
//!   bytes end with `None` only when they are complete.
//! - `client`: awc itself. `wire`: what awc does not tell about its connections. `interim`: what it
//!   must not see.
//! - `dial`: a connection from nothing: `resolver` and `addresses` (S4), `proxy` and `environment`,
//!   `tls`, `verifier` and `certificate` (S19).

mod addresses;
mod body;
mod certificate;
mod client;
mod dial;
mod environment;
mod exchange;
mod handle;
mod head;
mod interim;
mod proxy;
mod redirect;
mod resolver;
mod rests;
mod shares;
mod threads;
mod tls;
mod verifier;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::mpsc;
use url::Url;

pub use environment::Environment;
pub use handle::{Fetcher, FetcherError, Fetchers, Origin, Settings, Timeouts};
pub use resolver::Lookup;
pub(super) use rests::Rests;

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
    pub body: Body,
}

impl fmt::Debug for Response {
    /// As for [`Request`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} from {}{})", self.status, authority(&self.url), self.url.path())
    }
}

/// The bytes of an answer, in order. Ends with `None` only after all of `Content-Length` (or the last chunk) arrived.
#[derive(Debug)]
pub struct Body {
    /// The fetcher's end is bounded.
    pub(super) chunks: mpsc::Receiver<Result<Bytes, FetchError>>,
}

impl Body {
    /// The next piece.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, FetchError>> {
        self.chunks.recv().await
    }
}

/// Why there is no answer, or no more of it. Messages name hosts, never credentials or signed query strings.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// Name, route, connection or TLS: nobody to talk to.
    #[error("cannot reach {host}: {reason}")]
    Connect {
        /// Host and port.
        host: String,
        /// In words.
        reason: String,
    },
    /// Head or next bytes did not come in time.
    #[error("{host} did not answer in time ({what})")]
    Timeout {
        /// Host and port.
        host: String,
        /// What was waited for.
        what: &'static str,
    },
    /// The connection ended before the body did.
    #[error("{host} broke off: {reason}")]
    Broken {
        /// Host and port.
        host: String,
        /// In words.
        reason: String,
    },
    /// Against HTTP, or against what lanyard accepts: a 1xx as final, both CL and TE, no length at all, an encoding.
    #[error("{host} answered nonsense: {reason}")]
    Protocol {
        /// Host and port.
        host: String,
        /// In words.
        reason: String,
    },
    /// A redirect too many, a loop, a downgrade.
    #[error("{host} redirected where lanyard does not follow: {reason}")]
    Redirect {
        /// Host and port.
        host: String,
        /// In words.
        reason: String,
    },
    /// The address is private and the upstream is not (S4).
    #[error("{host} resolves to an address that is not dialled for this upstream")]
    Forbidden {
        /// Host and port.
        host: String,
    },
    /// The fetchers are stopped.
    #[error("lanyard is stopping")]
    Stopped,
}

impl FetchError {
    /// Whether there was no connection at all, in contrast to one that brought nothing good.
    pub(super) fn found_nobody(&self) -> bool {
        match self {
            FetchError::Connect { .. } => true,
            FetchError::Timeout { what, .. } => matches!(*what, "the connection" | "the TLS handshake"),
            FetchError::Broken { .. }
            | FetchError::Protocol { .. }
            | FetchError::Redirect { .. }
            | FetchError::Forbidden { .. }
            | FetchError::Stopped => false,
        }
    }
}

/// Host and port of a URL, the way errors name it.
fn authority(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or("?"), url.port_or_known_default().unwrap_or(0))
}
