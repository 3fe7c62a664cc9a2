//! The one room that knows awc: requests in, answers out, over channels.
//!
//! awc's futures are not `Send`, so awc lives on fetcher threads of its own, which outlive the HTTP
//! server. All other code holds a [`Fetcher`], which is `Send + Sync + Clone`. [`Fetcher::send`]
//! returns when the answer's head has arrived. Its [`ResponseBody`] is a bounded channel: a reader
//! that pauses makes the connection pause, and a reader that drops it closes the connection.
//!
//! The files, from the caller inwards:
//!
//! - [`handle`](Fetchers): who may send. `peer`: the state of one upstream. `permits`: how many
//!   requests of one upstream run at a time. `rests`: when a host beside the registry is not
//!   dialled. `request`, `error` and `settings`: the values that callers use.
//! - `job` and `threads`: the jobs and the order of stopping. `exchange`: one request from its
//!   first hop to its last byte.
//! - `redirect`: where a redirect leads, and what is left behind (S3). `head`: which heads are
//!   accepted. `body`: the bytes end with `None` only when they are complete.
//! - `client`: awc itself. `connection`: the events that awc does not tell. `interim`: the heads
//!   that awc must not see.
//! - `dial`: a new connection: `resolver` and `addresses` (S4), and the proxies and the trust of
//!   [`crate::network`] (S19).

mod addresses;
mod body;
mod client;
mod connection;
mod dial;
mod error;
mod exchange;
mod handle;
mod head;
mod interim;
mod job;
mod peer;
mod permits;
mod redirect;
mod request;
mod resolver;
mod rests;
mod settings;
mod threads;

#[cfg(test)]
mod tests;

pub use error::{FetchError, FetcherError};
pub use handle::{Fetcher, Fetchers};
pub use request::{Request, Response, ResponseBody};
pub use resolver::Lookup;
pub(super) use rests::Rests;
pub use settings::{FetcherSettings, PeerSettings, Timeouts};
