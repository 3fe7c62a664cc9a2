//! What is set for all upstreams, and for one.

use std::{path::PathBuf, time::Duration};

use url::Url;

use super::{environment::Environment, resolver::Lookup};

/// Settings of one upstream's connections.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// The configured base URL. Its host decides how far redirects and realms may lead (S4).
    pub url: Url,
    /// Whether `url` is the built-in one: then only public addresses are ever dialled.
    pub built_in_url: bool,
    /// PEM file with additional trust anchors.
    pub ca_file: Option<PathBuf>,
    /// `http://[user:password@]host:port`, for every host. Absent: what the environment says.
    pub proxy: Option<Url>,
    /// The most connections at a time; with a setting of one, there is one more for everything that
    /// is no blob. How they are shared: `permits`.
    pub connections: usize,
}

/// How long each step may take.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Name lookup, TCP connection and a proxy's tunnel together.
    pub connect: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// Bytes a second that a body must bring on the average of `idle`.
    pub least_rate: u64,
    /// How long a connection may be used again. awc notices that an idle connection was closed only when it is about to
    /// use it, and a redirect's host may never be needed again: so all of them are let go at this interval.
    pub reuse: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let (connect, handshake) = (Duration::from_secs(5), Duration::from_secs(5));
        let (idle, reuse) = (Duration::from_secs(30), Duration::from_secs(75));
        Timeouts { connect, handshake, idle, least_rate: 1024, reuse }
    }
}

/// What all upstreams have in common.
#[derive(Clone, Debug)]
pub struct FetcherSettings {
    /// Limits of time.
    pub timeouts: Timeouts,
    /// Proxies for upstreams that name none.
    pub environment: Environment,
    /// Where names are looked up.
    pub lookup: Lookup,
}

impl Default for FetcherSettings {
    /// The usual timeouts, the process's environment, the system's names.
    fn default() -> Self {
        FetcherSettings { timeouts: Timeouts::default(), environment: Environment::read(), lookup: Lookup::system() }
    }
}
