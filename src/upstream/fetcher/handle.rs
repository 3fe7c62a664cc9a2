//! What everybody else holds: the threads' owner, and a handle per upstream.

use std::{
    collections::HashSet,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Method;
use rustls::ClientConfig;
use tokio::time::Instant;
use url::Url;

use super::{
    Environment, FetchError, Lookup, Request, Response, authority,
    proxy::Proxy,
    resolver::Resolver,
    rests::Rests,
    shares::{Share, Shares},
    threads::{self, Entrances, Threads},
    tls::Trust,
};

/// Of how many hosts beside an upstream it is remembered that they cannot be reached.
const HOSTS: usize = 64;

/// The most connections to one upstream, whatever is configured.
const MOST_CONNECTIONS: usize = 1 << 20;

/// Settings of one upstream's connections.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The configured base URL. Its host decides how far redirects and realms may lead (S4).
    pub url: Url,
    /// Whether `url` is the built-in one: then only public addresses are ever dialled.
    pub built_in_url: bool,
    /// PEM file with additional trust anchors.
    pub ca_file: Option<PathBuf>,
    /// `http://[user:password@]host:port`, for every host. Absent: what the environment says.
    pub proxy: Option<Url>,
    /// The most connections at a time; with a setting of one, there is one more for everything that
    /// is no blob. How they are shared: `shares`.
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
pub struct Settings {
    /// Limits of time.
    pub timeouts: Timeouts,
    /// Proxies for upstreams that name none.
    pub environment: Environment,
    /// Where names are looked up.
    pub lookup: Lookup,
}

impl Default for Settings {
    /// The usual timeouts, the process's environment, the system's names.
    fn default() -> Self {
        Settings { timeouts: Timeouts::default(), environment: Environment::read(), lookup: Lookup::system() }
    }
}

/// Why there is no handle for an upstream: the configuration cannot work.
#[derive(Debug, thiserror::Error)]
pub enum FetcherError {
    /// The file is missing, unreadable, or holds no certificate.
    #[error("ca_file {path}: {source}", path = path.display())]
    CaFile {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Neither http nor https, or no host.
    #[error("{0} is no URL of a registry: it must be http:// or https:// and have a host")]
    Url(String),
    /// Not `http://host:port`. The URL is not quoted, because it may hold a password.
    #[error("the proxy must be of the form http://[user:password@]host:port")]
    Proxy,
    /// The TLS library refuses its own defaults.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Owns the fetcher threads. Dropping it stops them without patience.
pub struct Fetchers {
    threads: Threads,
    entrances: Arc<Entrances>,
    settings: Settings,
    resolver: Resolver,
    trust: Mutex<Trust>,
    upstreams: AtomicU64,
}

/// Sends requests to one upstream, and wherever it redirects to.
#[derive(Clone)]
pub struct Fetcher {
    upstream: Arc<Upstream>,
    entrances: Arc<Entrances>,
}

/// What all threads know of an upstream.
pub(super) struct Upstream {
    pub(super) id: u64,
    /// The configured URL's host, without a trailing dot.
    pub(super) host: String,
    pub(super) built_in_url: bool,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) resolver: Resolver,
    pub(super) timeouts: Timeouts,
    proxy: Option<Proxy>,
    environment: Environment,
    shares: Shares,
    /// Host and port of the configured URL.
    authority: String,
    /// Other hosts that a redirect or a challenge led to, and that could not be reached.
    unreachable: Mutex<Rests<String>>,
    generation: AtomicU64,
    closing: Mutex<HashSet<String>>,
}

impl Fetchers {
    /// Starts the threads (at least one), with the usual [`Settings`]. Fails where the system has no more threads or
    /// file descriptors.
    pub fn start(threads: usize) -> io::Result<Fetchers> {
        Fetchers::start_with(threads, Settings::default())
    }

    /// The same with other settings.
    pub fn start_with(threads: usize, settings: Settings) -> io::Result<Fetchers> {
        let (threads, entrances) = threads::start(threads, settings.timeouts.reuse)?;
        let (resolver, entrances) = (Resolver::new(settings.lookup.clone()), Arc::new(entrances));
        Ok(Fetchers { threads, entrances, settings, resolver, trust: Mutex::default(), upstreams: AtomicU64::new(0) })
    }

    /// A handle for one upstream. Reads `ca_file` now.
    pub fn fetcher(&self, origin: Origin) -> Result<Fetcher, FetcherError> {
        let host = match (origin.url.scheme(), origin.url.host_str()) {
            ("http" | "https", Some(host)) => host.trim_end_matches('.').to_owned(),
            _ => return Err(FetcherError::Url(authority(&origin.url))),
        };
        let proxy = match &origin.proxy {
            Some(url) => Some(Proxy::of(url).ok_or(FetcherError::Proxy)?),
            None => None,
        };
        let tls = self.trust.lock().unwrap_or_else(PoisonError::into_inner).config(origin.ca_file.as_deref())?;
        let upstream = Upstream {
            id: self.upstreams.fetch_add(1, Ordering::Relaxed),
            host,
            built_in_url: origin.built_in_url,
            tls,
            resolver: self.resolver.clone(),
            timeouts: self.settings.timeouts.clone(),
            proxy,
            environment: self.settings.environment.clone(),
            shares: Shares::new(origin.connections.min(MOST_CONNECTIONS)),
            authority: authority(&origin.url),
            unreachable: Mutex::new(Rests::new(HOSTS)),
            generation: AtomicU64::new(0),
            closing: Mutex::default(),
        };
        Ok(Fetcher { upstream: Arc::new(upstream), entrances: self.entrances.clone() })
    }

    /// Takes no more requests, waits for those that run for up to `patience`, then drops what is left and joins the
    /// threads. Blocks: call it where that is allowed.
    pub fn stop(mut self, patience: Duration) {
        self.threads.stop(patience);
    }
}

impl Fetcher {
    /// Sends a request; returns when the final answer's head is here. The request's `head_timeout`
    /// begins when it has its share of the connections: waiting behind other requests is not the
    /// upstream's fault, and ends when the caller gives up. The share is held until the body has
    /// been read, or dropped. Dropping the future closes the connection.
    pub async fn send(&self, request: Request) -> Result<Response, FetchError> {
        let host = authority(&request.url);
        let share = self.upstream.admit(&request).await?;
        let answer = self.entrances.submit(self.upstream.clone(), request, share)?;
        match answer.await {
            Ok(answer) => answer,
            Err(_) if self.entrances.are_closed() => Err(FetchError::Stopped),
            Err(_) => Err(FetchError::Broken { host, reason: "an error of lanyard's own; see the log".into() }),
        }
    }

    /// Whether the host of this failure is not dialled for now: to ask again at once is of no use.
    pub(in crate::upstream) fn is_resting(&self, error: &FetchError) -> bool {
        match error {
            FetchError::Connect { host, .. } | FetchError::Timeout { host, .. } => {
                lock(&self.upstream.unreachable).is_resting(host, Instant::now())
            }
            FetchError::Broken { .. }
            | FetchError::Protocol { .. }
            | FetchError::Redirect { .. }
            | FetchError::Forbidden { .. }
            | FetchError::Stopped => false,
        }
    }
}

#[cfg(test)]
impl Fetcher {
    /// Whether a stop has begun.
    pub(super) fn entrances_are_closed(&self) -> bool {
        self.entrances.are_closed()
    }
}

impl Upstream {
    /// Waits for the right to a connection.
    async fn admit(&self, request: &Request) -> Result<Share, FetchError> {
        let long = request.method == Method::GET && request.url.path().contains("/blobs/");
        self.shares.take(&sharer(&request.url), long).await.ok_or(FetchError::Stopped)
    }

    /// Fails at once for a host beside the registry that could not be reached a moment ago. How the
    /// registry itself is doing is known above.
    pub(super) fn may_dial(&self, host: &str) -> Result<(), FetchError> {
        if host == self.authority {
            return Ok(());
        }
        lock(&self.unreachable).admit(&host.to_owned(), Instant::now()).map_err(|reason| FetchError::Connect {
            host: host.to_owned(),
            reason: format!("not tried, because it failed a moment ago: {reason}"),
        })
    }

    /// Remembers whether a host could be reached. What it answered does not matter.
    pub(super) fn dialled(&self, host: &str, error: Option<&FetchError>) {
        if host == self.authority {
            return;
        }
        let (mut unreachable, host) = (lock(&self.unreachable), host.to_owned());
        match error.filter(|error| error.found_nobody()) {
            Some(error) => unreachable.failed(&host, true, error.to_string(), Instant::now()),
            None => unreachable.answered(&host),
        }
    }

    /// The proxy to go through to a host, if there is one. The environment's values were checked when it was read.
    pub(super) fn proxy_for(&self, https: bool, host: &str, port: u16) -> Option<Proxy> {
        match &self.proxy {
            Some(proxy) => Some(proxy.clone()),
            None => self.environment.proxy_for(https, host, port).and_then(Proxy::of),
        }
    }

    /// Clients of an older generation are not used any more.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether connections to a host serve one request only.
    pub(super) fn closes(&self, host: &str) -> bool {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner).contains(host)
    }

    /// Every connection so far is given up, and later ones to `host` serve one request only.
    pub(super) fn close_from_now_on(&self, host: String) {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner).insert(host);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

/// Who shares the connections: the repository of a URL; of a token, what it is asked for.
fn sharer(url: &Url) -> String {
    let path = url.path();
    match path.contains("/v2/") {
        // What is asked for takes two segments: `manifests/latest`, `tags/list`.
        true => path.rsplitn(3, '/').nth(2).unwrap_or(path).to_owned(),
        false => format!("{path}?{}", url.query().unwrap_or_default()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The critical sections cannot leave what they guard half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
