//! The registries of the internet, and how lanyard asks them.
//!
//! [`Upstreams`] is the closed list. A [`Registry`] gives manifests, blobs, tags and referrers, or
//! an [`UpstreamError`] that tells an answer from an outage. This room promises:
//!
//! - Credentials go only to the registry itself and to a token endpoint that belongs to it (S1). No
//!   message holds them (S18).
//! - A manifest has the digest that was asked for, or that came with it (S11). A blob's bytes are
//!   only counted: the fill proves them.
//! - A request ends within its deadlines, and retries are few (`retry.rs`). While an upstream is
//!   down, its requests fail at once (`circuit.rs`), and so do those of a failing repository
//!   (`trouble.rs`). The rest of a rate limit is spent with care (`governor.rs`).
//! - Every future is `Send` and may be dropped at any time.
//!
//! From the caller inwards: [`registry`](Registry), `manifests`, `blobs`, `lists` → `admission`,
//! which decides about a `call` → `attempt` → `auth` and `answering`, with `challenge`, `scheme`,
//! `realm`, `identity` and `token` → `transport` (counted, timed, circuit) → `network` →
//! [`fetcher`], the only room that knows awc.

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
