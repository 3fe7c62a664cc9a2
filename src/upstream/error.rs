//! What can go wrong between lanyard and an upstream.

use std::time::Duration;

use super::fetcher::FetchError;

/// Why an upstream did not give what was asked of it. Messages are fit for clients: they hold the upstream's own words where
/// it had any, without control characters and cut at 300 characters, and never a credential or a signed query string (S18).
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpstreamError {
    /// 404 or 410. An answer, not a failure: it is passed on.
    #[error("{message}")]
    NotFound {
        /// Upstream's words.
        message: String,
        /// Whether it came with the specification's list of errors: a registry's own word, in
        /// contrast to the page of a proxy or a load balancer. Never so for HEAD.
        told: bool,
    },
    /// 401 or 403, from the registry or its token endpoint, after everything lanyard may do about it was done.
    #[error("{message}")]
    Denied {
        /// 401 or 403.
        status: u16,
        /// Upstream's words, or lanyard's where it was lanyard that would not go on (S1).
        message: String,
    },
    /// 429, now or a moment ago, or the last of the budget is kept for content that is not here.
    #[error("{message}")]
    RateLimited {
        /// How long to wait; absent where nobody knows.
        retry_after: Option<Duration>,
        /// Upstream's words.
        message: String,
    },
    /// Any other status: 5xx, and what a registry does not say.
    #[error("{message}")]
    Failed {
        /// The HTTP status.
        status: u16,
        /// Upstream's words.
        message: String,
    },
    /// No answer, or not all of it.
    #[error("{0}")]
    Unreachable(#[from] FetchError),
    /// The circuit is open: the upstream failed a moment ago, and is not asked until a probe has been answered.
    #[error("not asked, because it failed a moment ago: {reason}")]
    CircuitOpen {
        /// The failure that opened it.
        reason: String,
    },
    /// An answer that is not to be believed: wrong digest, too big, nonsense, schema 1 (S11).
    #[error("{message}")]
    Untrue {
        /// What is wrong with it.
        message: String,
    },
    /// 416: the range begins past the end.
    #[error("the range begins past the end of the content")]
    RangeNotSatisfiable,
    /// `allow` or `block` of the configuration forbid the repository; upstream was not asked.
    #[error("the configuration of this mirror does not allow this repository")]
    Blocked,
    /// `mode = "offline"`: upstream was not asked.
    #[error("this mirror is offline by its configuration")]
    Offline,
}

impl UpstreamError {
    /// Whether upstream could not be asked, or could not answer, so that a tag's last known content may be served `stale`
    /// (DESIGN.md section 5: network error, timeout, 5xx, 429, open circuit).
    pub fn is_outage(&self) -> bool {
        match self {
            UpstreamError::RateLimited { .. }
            | UpstreamError::Unreachable(_)
            | UpstreamError::CircuitOpen { .. }
            | UpstreamError::Offline => true,
            UpstreamError::Failed { status, .. } => *status >= 500,
            UpstreamError::NotFound { .. }
            | UpstreamError::Denied { .. }
            | UpstreamError::Untrue { .. }
            | UpstreamError::RangeNotSatisfiable
            | UpstreamError::Blocked => false,
        }
    }

    /// Whether the same question may have another answer when it is asked by GET instead of HEAD.
    /// There are registries, and things in front of them, that refuse HEAD, drop it, or answer it
    /// with something else.
    pub fn may_be_of_head_alone(&self) -> bool {
        match self {
            UpstreamError::NotFound { .. }
            | UpstreamError::Denied { .. }
            | UpstreamError::Failed { .. }
            | UpstreamError::Untrue { .. }
            | UpstreamError::RangeNotSatisfiable
            // HEADs of one repository may rest while its GETs do not.
            | UpstreamError::CircuitOpen { .. } => true,
            UpstreamError::Unreachable(error) => match error {
                FetchError::Timeout { .. }
                | FetchError::Broken { .. }
                | FetchError::Protocol { .. }
                | FetchError::Redirect { .. } => true,
                FetchError::Connect { .. } | FetchError::Forbidden { .. } | FetchError::Stopped => false,
            },
            UpstreamError::RateLimited { .. } | UpstreamError::Blocked | UpstreamError::Offline => false,
        }
    }

    /// What to tell a person: upstream's own words, or lanyard's.
    pub fn message(&self) -> String {
        self.to_string()
    }

    /// How long to wait before it makes sense to ask again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            UpstreamError::RateLimited { retry_after, .. } => *retry_after,
            UpstreamError::NotFound { .. }
            | UpstreamError::Denied { .. }
            | UpstreamError::Failed { .. }
            | UpstreamError::Unreachable(_)
            | UpstreamError::CircuitOpen { .. }
            | UpstreamError::Untrue { .. }
            | UpstreamError::RangeNotSatisfiable
            | UpstreamError::Blocked
            | UpstreamError::Offline => None,
        }
    }

    /// Whether the same request, sent again at once, may well succeed: a 5xx or a connection that came to nothing. A head that
    /// did not come in time is not asked for again, the client has waited long enough.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            UpstreamError::Failed { status, .. } => *status >= 500,
            UpstreamError::Unreachable(error) => match error {
                FetchError::Connect { .. } | FetchError::Broken { .. } => true,
                FetchError::Timeout { .. }
                | FetchError::Protocol { .. }
                | FetchError::Redirect { .. }
                | FetchError::Forbidden { .. }
                | FetchError::Stopped => false,
            },
            UpstreamError::NotFound { .. }
            | UpstreamError::Denied { .. }
            | UpstreamError::RateLimited { .. }
            | UpstreamError::CircuitOpen { .. }
            | UpstreamError::Untrue { .. }
            | UpstreamError::RangeNotSatisfiable
            | UpstreamError::Blocked
            | UpstreamError::Offline => false,
        }
    }

    /// An answer that is not to be believed.
    pub(super) fn untrue(message: impl Into<String>) -> Self {
        UpstreamError::Untrue { message: message.into() }
    }
}
