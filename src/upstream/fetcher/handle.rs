//! The handles of the fetcher: the owner of the threads, and one handle per upstream.
//!
//! `app` owns [`Fetchers`] and stops it last. `upstream` sends with a [`Fetcher`].

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    error::{FetchError, FetcherError, authority},
    job::JobQueues,
    peer::Peer,
    request::{Request, Response},
    resolver::Resolver,
    settings::{FetcherSettings, PeerSettings},
    threads::{self, Threads},
};
use crate::network::Trust;

/// Owns the fetcher threads. Dropping it stops them at once.
pub struct Fetchers {
    threads: Threads,
    queues: Arc<JobQueues>,
    settings: FetcherSettings,
    resolver: Resolver,
    trust: Mutex<Trust>,
    peers: AtomicU64,
}

/// Sends requests to one upstream, and to the hosts that it redirects to.
#[derive(Clone)]
pub struct Fetcher {
    peer: Arc<Peer>,
    queues: Arc<JobQueues>,
}

impl Fetchers {
    /// Starts at least one thread, with the usual [`FetcherSettings`]. Fails if the system has no
    /// more threads or file descriptors.
    pub fn start(threads: usize) -> io::Result<Fetchers> {
        Fetchers::start_with(threads, FetcherSettings::default())
    }

    /// Starts the threads with other settings.
    pub fn start_with(threads: usize, settings: FetcherSettings) -> io::Result<Fetchers> {
        let (threads, queues) = threads::start(threads, settings.timeouts.reuse)?;
        let (resolver, queues) = (Resolver::new(settings.lookup.clone()), Arc::new(queues));
        Ok(Fetchers { threads, queues, settings, resolver, trust: Mutex::default(), peers: AtomicU64::new(0) })
    }

    /// Makes a handle for one upstream. Reads `ca_file` now.
    pub fn fetcher(&self, settings: PeerSettings) -> Result<Fetcher, FetcherError> {
        let id = self.peers.fetch_add(1, Ordering::Relaxed);
        let peer = Peer::new(id, &settings, &self.trust, self.resolver.clone(), &self.settings)?;
        Ok(Fetcher { peer: Arc::new(peer), queues: self.queues.clone() })
    }

    /// Takes no more requests, waits up to `patience` for those that run, then drops the rest and
    /// joins the threads. Blocks, so it must run on a thread that may block.
    pub fn stop(mut self, patience: Duration) {
        self.threads.stop(patience);
    }
}

impl Fetcher {
    /// Sends a request. Returns when the final answer's head is here. `head_timeout` begins when
    /// the request has its permit for a connection: waiting behind other requests is not the
    /// upstream's fault. The permit is held until the body has been read or dropped. Dropping the
    /// future closes the connection.
    pub async fn send(&self, request: Request) -> Result<Response, FetchError> {
        let host = authority(&request.url);
        let permit = self.peer.admit(&request).await?;
        let answer = self.queues.submit(self.peer.clone(), request, permit)?;
        match answer.await {
            Ok(answer) => answer,
            Err(_) if self.queues.are_closed() => Err(FetchError::Stopped),
            Err(_) => Err(FetchError::Broken { host, reason: "an internal error of lanyard; see the log".into() }),
        }
    }

    /// Whether the host that failed rests. Then it is useless to ask again at once.
    pub(in crate::upstream) fn is_resting(&self, error: &FetchError) -> bool {
        match error {
            FetchError::Connect { host, .. } | FetchError::Timeout { host, .. } => self.peer.is_resting(host),
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
    pub(super) fn queues_are_closed(&self) -> bool {
        self.queues.are_closed()
    }
}
