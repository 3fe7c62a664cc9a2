//! The errors between lanyard and an upstream: which of them are outages, which are worth a retry,
//! and which may come from HEAD alone.

use std::time::Duration;

use super::fetcher::FetchError;

/// Why an upstream did not give the content. Messages are fit for clients: they hold the upstream's
/// own words if it sent any, without control characters and cut at 300 characters. They never hold
/// a credential or a signed query string (S18).
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpstreamError {
    /// 404 or 410. This is an answer, not a failure: clients get it.
    #[error("{message}")]
    NotFound {
        /// Upstream's words.
        message: String,
        /// Whether the answer has the specification's list of errors. Then a registry said so, and
        /// not a proxy or a load balancer. It is never true for HEAD.
        told: bool,
    },
    /// 401 or 403 from the registry or its token endpoint, after lanyard has tried all its
    /// credentials.
    #[error("{message}")]
    Denied {
        /// 401 or 403.
        status: u16,
        /// Upstream's words, or lanyard's if lanyard refused to go on (S1).
        message: String,
    },
    /// A 429, now or a moment ago. Or the rest of the budget is kept for content that is not here.
    #[error("{message}")]
    RateLimited {
        /// How long to wait, if it is known.
        retry_after: Option<Duration>,
        /// Upstream's words.
        message: String,
    },
    /// Any other status: 5xx, and statuses that a registry does not send.
    #[error("{message}")]
    Failed {
        /// The HTTP status.
        status: u16,
        /// Upstream's words.
        message: String,
    },
    /// No answer, or only a part of it.
    #[error("{0}")]
    Unreachable(#[from] FetchError),
    /// The circuit is open: the upstream failed a moment ago, and lanyard does not ask it until a
    /// probe has been answered.
    #[error("not asked, because it failed a moment ago: {reason}")]
    CircuitOpen {
        /// The failure that opened it.
        reason: String,
    },
    /// An answer that lanyard does not believe: wrong digest, too large, nonsense, schema 1 (S11).
    #[error("{message}")]
    Untrue {
        /// Why it is not believed.
        message: String,
    },
    /// 416: the range begins past the end.
    #[error("the range begins past the end of the content")]
    RangeNotSatisfiable,
    /// `allow` or `block` of the configuration forbids the repository. Upstream was not asked.
    #[error("the configuration of this mirror does not allow this repository")]
    Blocked,
    /// `mode = "offline"`: upstream was not asked.
    #[error("this mirror is offline by its configuration")]
    Offline,
}

impl UpstreamError {
    /// Whether upstream could not be asked or could not answer, so that a tag's last known content
    /// may be served `stale` (DESIGN.md section 5: network error, timeout, 5xx, 429, open circuit).
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

    /// Whether a GET may get another answer than this HEAD did. Some registries, and some proxies
    /// before them, refuse HEAD, drop it, or answer it with something else.
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

    /// The message for a person: upstream's own words, or lanyard's.
    pub fn message(&self) -> String {
        self.to_string()
    }

    /// How long to wait before the next request, if it is known.
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

    /// Whether the same request may well succeed if it is sent again at once: after a 5xx or a
    /// broken connection. A late head is not asked for again, because the client has waited long
    /// enough.
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

    /// An answer that lanyard does not believe, for this reason.
    pub(super) fn untrue(message: impl Into<String>) -> Self {
        UpstreamError::Untrue { message: message.into() }
    }
}
