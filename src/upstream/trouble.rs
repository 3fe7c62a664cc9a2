//! How failures and 429s in one repository of a registry affect the next requests to it.
//!
//! - [`Troubles`]: a kind of request that keeps failing in a repository rests there for 1 to 8 s:
//!   it fails at once. Other kinds and other repositories go on (S30). `fetcher::Rests` has the
//!   numbers.
//! - [`RateLimitWait`]: after a 429 a request for a manifest or blob waits for `Retry-After` and is
//!   tried again. It waits at most 10 s in all, and only if no stored answer can serve its client.
//!
//! `circuit` refuses requests to the whole registry, `governor` those that a 429 forbids. Callers:
//! `admission.rs`, which asks all of them before each request.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    counters::RequestKind,
    error::UpstreamError,
    fetcher::{FetchError, Rests},
    governor::Spend,
};
use crate::oci::RepositoryName;

/// The most repositories whose failures are remembered, for each kind of request.
const MOST: usize = 4096;

/// How long one request waits after 429s, in all.
const PATIENCE: Duration = Duration::from_secs(10);

/// The least wait after the first 429. It doubles, so that an upstream that always says
/// `Retry-After: 0` is not asked for ever.
const LEAST_WAIT: Duration = Duration::from_millis(250);

/// The kinds of requests that keep failing, by repository.
pub(super) struct Troubles(Mutex<Rests<(RepositoryName, RequestKind)>>);

impl Default for Troubles {
    fn default() -> Self {
        Troubles(Mutex::new(Rests::new(MOST)))
    }
}

impl Troubles {
    /// Fails at once if requests of this kind rest in this repository.
    pub(super) fn admit(
        &self,
        repository: &RepositoryName,
        kind: RequestKind,
        now: Instant,
    ) -> Result<(), UpstreamError> {
        let admitted = self.0.lock().admit(&(repository.clone(), kind), now);
        admitted.map_err(|reason| UpstreamError::CircuitOpen { reason })
    }

    /// Whether requests of this kind rest in this repository.
    pub(super) fn is_resting(&self, repository: &RepositoryName, kind: RequestKind, now: Instant) -> bool {
        self.0.lock().is_resting(&(repository.clone(), kind), now)
    }

    /// Notes an attempt's result for later requests of its kind in its repository.
    pub(super) fn note(&self, repository: &RepositoryName, kind: RequestKind, error: Option<&UpstreamError>) {
        let (key, mut troubles) = ((repository.clone(), kind), self.0.lock());
        let Some(error) = error else { return troubles.answered(&key) };
        let found_no_connection = match error {
            UpstreamError::Unreachable(FetchError::Forbidden { .. } | FetchError::Stopped)
            | UpstreamError::CircuitOpen { .. }
            | UpstreamError::Blocked
            | UpstreamError::Offline => return,
            UpstreamError::Failed { status: 500.., .. } => false,
            UpstreamError::Unreachable(error) => {
                matches!(error, FetchError::Connect { .. } | FetchError::Timeout { .. })
            }
            UpstreamError::NotFound { .. }
            | UpstreamError::Denied { .. }
            | UpstreamError::RateLimited { .. }
            | UpstreamError::Failed { .. }
            | UpstreamError::Untrue { .. }
            | UpstreamError::RangeNotSatisfiable => return troubles.answered(&key),
        };
        troubles.failed(&key, found_no_connection, error.message(), Instant::now());
    }
}

/// The rest of the 10 s that a request may wait.
pub(super) struct RateLimitWait {
    until: Option<Instant>,
    least: Duration,
}

impl RateLimitWait {
    /// Requests for manifests and blobs wait, unless there is a stored answer.
    pub(super) fn of(kind: RequestKind, spend: Spend) -> Self {
        let waits = match kind {
            RequestKind::Manifest | RequestKind::ManifestHead | RequestKind::Blob | RequestKind::BlobHead => {
                spend == Spend::Needed
            }
            RequestKind::Tags
            | RequestKind::Referrers
            | RequestKind::Token
            | RequestKind::Greeting
            | RequestKind::Probe => false,
        };
        RateLimitWait { until: waits.then(|| Instant::now() + PATIENCE), least: LEAST_WAIT }
    }

    /// Waits as long as a 429 says and returns true. Returns false at once if that is too long.
    pub(super) async fn outlasts(&mut self, error: &UpstreamError) -> bool {
        let (UpstreamError::RateLimited { retry_after: Some(said), .. }, Some(until)) = (error, self.until) else {
            return false;
        };
        let again = Instant::now() + (*said).max(self.least);
        if again > until {
            return false;
        }
        self.least *= 2;
        tokio::time::sleep_until(again).await;
        true
    }
}
