//! The registries of the internet, and how they are asked.
//!
//! [`Upstreams`] is the closed list; a [`Registry`] gives manifests, blobs, tags and referrers, or an [`UpstreamError`] that
//! says what the policy above must know: was it an answer, or an outage? What this room promises:
//!
//! - Credentials go to the registry itself, and to a token endpoint that belongs to it (S1); never into a message (S18).
//! - A manifest has the digest it was asked by, or that came with it (S11). A blob's bytes are only counted: the fill
//!   proves them.
//! - A request ends within its deadlines; retries are few (`retry.rs`); while an upstream is down
//!   requests fail at once (`circuit.rs`), and so do those of a repository that fails
//!   (`trouble.rs`). What the rate limit leaves is spent with care (`governor.rs`).
//! - Every future is `Send` and may be dropped at any time.
//!
//! From the caller inwards: [`registry`](Registry), `manifests`, `blobs`, `lists` → `admission` and
//! `attempt` (what one request goes through) → `auth` and `answering`, with `challenge`, `known`, `realm`, `identity` and
//! `token` → `transport` (counted, timed, circuit) → [`fetcher`], the only one to know awc.

mod admission;
mod answering;
mod attempt;
mod auth;
mod blobs;
mod call;
mod challenge;
mod circuit;
mod counters;
mod error;
pub mod fetcher;
mod governor;
mod identity;
mod list;
mod lists;
mod manifests;
mod network;
mod realm;
mod registry;
mod retry;
mod scheme;
mod token;
mod transport;
mod trouble;
mod words;

#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;

pub use blobs::{BlobResponse, BlobStream};
pub use circuit::Health;
pub use counters::{RequestKind, UpstreamSnapshot};
pub use error::UpstreamError;
pub use governor::{Budget, Spend};
pub use list::Upstreams;
pub use manifests::{FetchedManifest, ManifestHead};
pub use registry::Registry;
