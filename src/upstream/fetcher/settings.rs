//! The settings of the fetcher: for one upstream, and for all. `app` and `upstream` fill them in.

use std::{path::PathBuf, time::Duration};

use url::Url;

use super::resolver::Lookup;
use crate::network::Environment;

/// The settings of one upstream's connections.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// The configured base URL. Its host decides how far redirects and realms may lead (S4).
    pub url: Url,
    /// Whether `url` is the built-in one. Then only public addresses are dialled.
    pub built_in_url: bool,
    /// A PEM file with additional trust anchors.
    pub ca_file: Option<PathBuf>,
    /// `http://[user:password@]host:port`, for every host. Without it the environment decides.
    pub proxy: Option<Url>,
    /// The most connections at a time. With 1 there is one more for requests that are no blobs.
    /// `permits` shares them.
    pub connections: usize,
}

/// The time limits of a request's steps.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Name lookup, TCP connection and a proxy's tunnel together.
    pub connect: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
    /// The pause between two pieces of a body.
    pub idle: Duration,
    /// The least bytes a second of a body, on the average of `idle`.
    pub least_rate: u64,
    /// How long a connection may be used again. awc notices that an idle connection was closed only
    /// when it is about to use it, and a redirect's host may never be needed again. So all
    /// connections are let go at this interval.
    pub reuse: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let (connect, handshake) = (Duration::from_secs(5), Duration::from_secs(5));
        let (idle, reuse) = (Duration::from_secs(30), Duration::from_secs(75));
        Timeouts { connect, handshake, idle, least_rate: 1024, reuse }
    }
}

/// The settings that all upstreams share.
#[derive(Clone, Debug)]
pub struct FetcherSettings {
    /// The time limits.
    pub timeouts: Timeouts,
    /// The proxies for upstreams that name none.
    pub environment: Environment,
    /// The source of addresses.
    pub lookup: Lookup,
}

impl Default for FetcherSettings {
    /// The usual timeouts, the process's environment, the system's resolver.
    fn default() -> Self {
        FetcherSettings { timeouts: Timeouts::default(), environment: Environment::read(), lookup: Lookup::system() }
    }
}
