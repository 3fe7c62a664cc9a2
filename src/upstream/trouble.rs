//! Requests that fail at once, and requests that wait (S30).
//!
//! - Circuit open: every request fails at once.
//! - A kind of request that keeps failing in one repository rests (`fetcher::Rests`): it fails at
//!   once there. Other kinds and other repositories go on.
//! - After a 429 the governor refuses that kind in that repository. A request whose client has no
//!   stored answer waits for `Retry-After`, at most 10 s in all. Called by `call`.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use super::{
    call::{Answer, Call},
    counters::Kind,
    error::UpstreamError,
    fetcher::{FetchError, Rests},
    governor::Spend,
    lock,
    registry::Upstream,
};
use crate::oci::RepositoryName;

/// How many repositories' troubles are remembered, each kind of request by itself.
const MOST: usize = 4096;

/// How long one request waits for its turn after 429s, in all.
const PATIENCE: Duration = Duration::from_secs(10);

/// The least first wait after a 429. It doubles, so that an upstream which says `Retry-After: 0`
/// for ever is not asked for ever.
const LEAST_WAIT: Duration = Duration::from_millis(250);

/// What fails again and again, by repository and kind of request.
pub(super) struct Troubles(Mutex<Rests<(RepositoryName, Kind)>>);

impl Default for Troubles {
    fn default() -> Self {
        Troubles(Mutex::new(Rests::new(MOST)))
    }
}

impl Upstream {
    /// Fails at once where the request is not to be sent now.
    pub(super) fn admit(&self, call: &Call<'_>) -> Result<(), UpstreamError> {
        self.wire.admit()?;
        let now = Instant::now();
        lock(&self.governor).admit(call.kind, call.spend, call.repository, now)?;
        let admitted = lock(&self.troubles.0).admit(&key(call), now);
        admitted.map_err(|reason| UpstreamError::CircuitOpen { reason })
    }

    /// Whether the request may be sent again after it has failed with `error`.
    pub(super) fn is_worth_another(&self, call: &Call<'_>, error: &UpstreamError) -> bool {
        let dialled = match error {
            UpstreamError::Unreachable(error) => !self.wire.is_resting(error),
            UpstreamError::NotFound { .. }
            | UpstreamError::Denied { .. }
            | UpstreamError::RateLimited { .. }
            | UpstreamError::Failed { .. }
            | UpstreamError::CircuitOpen { .. }
            | UpstreamError::Untrue { .. }
            | UpstreamError::RangeNotSatisfiable
            | UpstreamError::Blocked
            | UpstreamError::Offline => true,
        };
        dialled && self.wire.admit().is_ok() && !lock(&self.troubles.0).is_resting(&key(call), Instant::now())
    }

    /// Remembers what an attempt came to, for the next ones of its kind in its repository.
    pub(super) fn note(&self, call: &Call<'_>, ended: &Result<Answer, UpstreamError>) {
        let (key, mut troubles) = (key(call), lock(&self.troubles.0));
        let found_nobody = match ended {
            Err(UpstreamError::Unreachable(FetchError::Forbidden { .. } | FetchError::Stopped))
            | Err(UpstreamError::CircuitOpen { .. } | UpstreamError::Blocked | UpstreamError::Offline) => return,
            Err(UpstreamError::Failed { status: 500.., .. }) => false,
            Err(UpstreamError::Unreachable(error)) => {
                matches!(error, FetchError::Connect { .. } | FetchError::Timeout { .. })
            }
            Ok(_)
            | Err(
                UpstreamError::NotFound { .. }
                | UpstreamError::Denied { .. }
                | UpstreamError::RateLimited { .. }
                | UpstreamError::Failed { .. }
                | UpstreamError::Untrue { .. }
                | UpstreamError::RangeNotSatisfiable,
            ) => return troubles.answered(&key),
        };
        let reason = ended.as_ref().err().map(UpstreamError::message).unwrap_or_default();
        troubles.failed(&key, found_nobody, reason, Instant::now());
    }
}

fn key(call: &Call<'_>) -> (RepositoryName, Kind) {
    (call.repository.clone(), call.kind)
}

/// What a request has left of its 10 s.
pub(super) struct Patience {
    until: Option<Instant>,
    least: Duration,
}

impl Patience {
    /// Manifests and blobs wait, unless something can be served instead.
    pub(super) fn of(call: &Call<'_>) -> Self {
        let waits = match call.kind {
            Kind::Manifest | Kind::ManifestHead | Kind::Blob | Kind::BlobHead => call.spend == Spend::Needed,
            Kind::Tags | Kind::Referrers | Kind::Token | Kind::Greeting | Kind::Probe => false,
        };
        Patience { until: waits.then(|| Instant::now() + PATIENCE), least: LEAST_WAIT }
    }

    /// Waits as long as a 429 says, and returns true; or false at once, where that is too long.
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
