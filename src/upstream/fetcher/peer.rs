//! The state of one upstream that all fetcher threads share: its settings, the permits for its
//! connections, and the hosts beside it that rest.
//!
//! `handle.rs` makes it. Jobs carry it to the threads.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::Method;
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::time::Instant;
use url::Url;

use super::{
    error::{FetchError, FetcherError, authority},
    permits::{ConnectionPermit, ConnectionPermits},
    request::Request,
    resolver::Resolver,
    rests::Rests,
    settings::{FetcherSettings, PeerSettings, Timeouts},
};
use crate::network::{Environment, Proxy, Trust};

/// The most hosts beside an upstream whose failures are remembered.
const HOSTS: usize = 64;

/// The most connections to one upstream, whatever the configuration says.
const MOST_CONNECTIONS: usize = 1 << 20;

/// One upstream, as the fetcher threads know it.
pub(super) struct Peer {
    pub(super) id: u64,
    /// The configured URL's host, without a trailing dot.
    pub(super) host: String,
    pub(super) built_in_url: bool,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) resolver: Resolver,
    pub(super) timeouts: Timeouts,
    proxy: Option<Proxy>,
    environment: Environment,
    permits: ConnectionPermits,
    /// Host and port of the configured URL.
    authority: String,
    /// Hosts that a redirect or a challenge led to and that could not be reached.
    unreachable: Mutex<Rests<String>>,
    generation: AtomicU64,
    closing: Mutex<HashSet<String>>,
}

impl Peer {
    /// Opens no connection, and reads `ca_file` now. The error tells which of `settings`
    /// cannot work.
    pub(super) fn new(
        id: u64,
        settings: &PeerSettings,
        trust: &Mutex<Trust>,
        resolver: Resolver,
        shared: &FetcherSettings,
    ) -> Result<Self, FetcherError> {
        let host = match (settings.url.scheme(), settings.url.host_str()) {
            ("http" | "https", Some(host)) => host.trim_end_matches('.').to_owned(),
            _ => return Err(FetcherError::Url(authority(&settings.url))),
        };
        let proxy = match &settings.proxy {
            Some(url) => Some(Proxy::of(url).ok_or(FetcherError::Proxy)?),
            None => None,
        };
        let tls = trust.lock().config(settings.ca_file.as_deref())?;
        Ok(Peer {
            id,
            host,
            built_in_url: settings.built_in_url,
            tls,
            resolver,
            timeouts: shared.timeouts.clone(),
            proxy,
            environment: shared.environment.clone(),
            permits: ConnectionPermits::new(settings.connections.min(MOST_CONNECTIONS)),
            authority: authority(&settings.url),
            unreachable: Mutex::new(Rests::new(HOSTS)),
            generation: AtomicU64::new(0),
            closing: Mutex::default(),
        })
    }

    /// Waits for a permit for a connection.
    pub(super) async fn admit(&self, request: &Request) -> Result<ConnectionPermit, FetchError> {
        let long = request.method == Method::GET && request.url.path().contains("/blobs/");
        self.permits.take(&sharer(&request.url), long).await.ok_or(FetchError::Stopped)
    }

    /// Fails at once for a host beside the registry that could not be reached a moment ago. The
    /// circuit judges the registry itself.
    pub(super) fn may_dial(&self, host: &str) -> Result<(), FetchError> {
        if host == self.authority {
            return Ok(());
        }
        self.unreachable.lock().admit(&host.to_owned(), Instant::now()).map_err(|reason| FetchError::Connect {
            host: host.to_owned(),
            reason: format!("not tried, because it failed a moment ago: {reason}"),
        })
    }

    /// Whether a host beside the registry rests.
    pub(super) fn is_resting(&self, host: &str) -> bool {
        self.unreachable.lock().is_resting(&host.to_owned(), Instant::now())
    }

    /// Notes whether a host could be reached. Its answer does not matter.
    pub(super) fn dialled(&self, host: &str, error: Option<&FetchError>) {
        if host == self.authority {
            return;
        }
        let (mut unreachable, host) = (self.unreachable.lock(), host.to_owned());
        match error.filter(|error| error.found_no_connection()) {
            Some(error) => unreachable.failed(&host, true, error.to_string(), Instant::now()),
            None => unreachable.answered(&host),
        }
    }

    /// The proxy for a host, if it has one. The environment's values were checked when they were
    /// read.
    pub(super) fn proxy_for(&self, https: bool, host: &str, port: u16) -> Option<Proxy> {
        match &self.proxy {
            Some(proxy) => Some(proxy.clone()),
            None => self.environment.proxy_for(https, host, port).and_then(Proxy::of),
        }
    }

    /// The generation of clients that may be used. Older ones are dropped.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether each connection to a host serves one request only.
    pub(super) fn closes(&self, host: &str) -> bool {
        self.closing.lock().contains(host)
    }

    /// Gives up every connection so far. Each later one to `host` serves one request only.
    pub(super) fn close_from_now_on(&self, host: String) {
        self.closing.lock().insert(host);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

/// The owner of a permit: the repository of a URL, or for a token its realm and scope.
fn sharer(url: &Url) -> String {
    let path = url.path();
    match path.contains("/v2/") {
        // The last two segments name the content: `manifests/latest`, `tags/list`.
        true => path.rsplitn(3, '/').nth(2).unwrap_or(path).to_owned(),
        false => format!("{path}?{}", url.query().unwrap_or_default()),
    }
}
