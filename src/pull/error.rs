//! Why a pull fails, and what a client is told (DESIGN.md section 5, WIRE.md).
//!
//! A client gets 404 only if upstream said so, or if upstream is never asked. It never gets 401,
//! 403 or 429, which make clients send passwords or give up for good. An upstream in trouble is
//! 502, 503 or 504.

use std::{sync::Arc, time::Duration};

use super::fill::FillFailure;
use crate::{
    oci::{ErrorCode, RegistryError},
    storage::StorageError,
    upstream::{UpstreamError, fetcher::FetchError},
};

/// Why a pull fails.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PullError {
    /// It is not here, and no upstream is asked: hosted, offline, or known to be missing.
    #[error("{message}")]
    Unknown {
        /// What is missing: blob, manifest or name.
        code: ErrorCode,
        /// In words.
        message: String,
    },
    /// Upstream did not give the content.
    #[error("{error}")]
    Upstream {
        /// The code if it said that the content does not exist.
        code: ErrorCode,
        /// Its answer.
        error: Arc<UpstreamError>,
    },
    /// The fill that was waited for failed.
    #[error("{0}")]
    Fill(FillFailure),
    /// The disk failed.
    #[error("{0}")]
    Storage(Arc<StorageError>),
    /// No byte of the blob is in the range that was asked for.
    #[error("the range lies outside the blob's {total} bytes")]
    Range {
        /// The blob's length in bytes.
        total: u64,
    },
    /// A manifest here names the content, it is not here, and upstream cannot be asked for it now.
    #[error("{message}")]
    Away {
        /// What is missing, and why upstream cannot be asked.
        message: String,
    },
    /// A task ended without a result.
    #[error("the request was dropped inside lanyard; ask again")]
    Lost,
}

impl PullError {
    /// For `Content-Range: bytes */total`.
    pub fn total(&self) -> Option<u64> {
        match self {
            PullError::Range { total } => Some(*total),
            PullError::Unknown { .. }
            | PullError::Upstream { .. }
            | PullError::Fill(_)
            | PullError::Storage(_)
            | PullError::Away { .. }
            | PullError::Lost => None,
        }
    }

    /// Whether upstream could not be asked, so that the content that is here may be served instead.
    pub fn is_outage(&self) -> bool {
        match self {
            PullError::Upstream { error, .. } => error.is_outage(),
            PullError::Fill(FillFailure::Upstream(error)) => error.is_outage(),
            PullError::Away { .. } | PullError::Lost => true,
            PullError::Unknown { .. } | PullError::Fill(_) | PullError::Storage(_) | PullError::Range { .. } => false,
        }
    }

    /// The error that the client gets.
    pub fn to_registry_error(&self) -> RegistryError {
        match self {
            PullError::Unknown { code, message } => RegistryError::new(*code, message),
            PullError::Upstream { code, error } => upstream(*code, error),
            PullError::Fill(FillFailure::Upstream(error)) => upstream(ErrorCode::BlobUnknown, error),
            PullError::Fill(FillFailure::Corrupt) => {
                RegistryError::new(ErrorCode::Unavailable, self.to_string()).with_status(502)
            }
            PullError::Fill(
                FillFailure::NoRoom | FillFailure::Abandoned | FillFailure::Elsewhere | FillFailure::Stopping,
            )
            | PullError::Away { .. }
            | PullError::Lost => RegistryError::new(ErrorCode::Unavailable, self.to_string()),
            // The reason is logged. Clients are not told a path of this machine.
            PullError::Storage(_) | PullError::Fill(FillFailure::Storage(_)) => {
                RegistryError::new(ErrorCode::Unknown, "lanyard cannot read or write its data; its log says why")
            }
            PullError::Range { .. } => RegistryError::new(ErrorCode::RangeInvalid, self.to_string()),
        }
    }
}

fn upstream(missing: ErrorCode, error: &UpstreamError) -> RegistryError {
    let unavailable = |status| RegistryError::new(ErrorCode::Unavailable, error.to_string()).with_status(status);
    match error {
        UpstreamError::NotFound { .. }
        | UpstreamError::Denied { .. }
        | UpstreamError::Blocked
        | UpstreamError::Offline => RegistryError::new(missing, error.to_string()),
        UpstreamError::RateLimited { retry_after, .. } => {
            let mut told = RegistryError::new(ErrorCode::TooManyRequests, error.to_string()).with_status(503);
            told.retry_after = Some(retry_after.unwrap_or(Duration::from_secs(60)));
            told
        }
        UpstreamError::CircuitOpen { .. } => unavailable(503),
        UpstreamError::Unreachable(FetchError::Timeout { .. }) => unavailable(504),
        UpstreamError::Unreachable(_)
        | UpstreamError::Failed { .. }
        | UpstreamError::Untrue { .. }
        | UpstreamError::RangeNotSatisfiable => unavailable(502),
    }
}

impl From<StorageError> for PullError {
    fn from(error: StorageError) -> Self {
        if matches!(error, StorageError::Lost) { PullError::Lost } else { PullError::Storage(Arc::new(error)) }
    }
}
