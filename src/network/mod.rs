//! How lanyard goes to other machines: the certificates that it trusts, and the proxies on the way.
//!
//! - [`Trust`] has a TLS configuration for each set of trust anchors (S19); [`explain`] puts a
//!   failed handshake into words.
//! - [`Environment`] has the proxies that the environment names; [`Proxy`] is one of them, or one
//!   that the operator has set.
//!
//! This room opens no connection itself, and knows nothing of registries. Callers: whatever dials:
//! the fetcher, and the storage for an object store.

mod certificate;
mod environment;
mod proxy;
mod trust;
mod verifier;

use std::net::IpAddr;

pub use self::{environment::Environment, trust::TrustError};
pub(crate) use self::{
    environment::is_loopback,
    proxy::Proxy,
    trust::{Trust, explain},
};

/// A literal address, in a URL's spelling.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}
