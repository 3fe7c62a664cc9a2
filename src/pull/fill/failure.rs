//! Why a fill failed.
//!
//! Each follower of a fill gets the failure that its leader ended with. `statements` weakens it for
//! the clients of another registry; `error` turns it into what the client is told.

use std::{fmt, sync::Arc};

use super::super::records::no_room;
use crate::{
    storage::{CommitError, StorageError},
    upstream::UpstreamError,
};

/// Why a fill failed.
#[derive(Clone, Debug)]
pub enum FillFailure {
    /// Upstream's answer, or that none came.
    Upstream(Arc<UpstreamError>),
    /// The bytes that came do not have the digest.
    Corrupt,
    /// The disk is full, or has reached its configured limit: followers go on straight from
    /// upstream.
    NoRoom,
    /// The disk failed in another way.
    Storage(Arc<StorageError>),
    /// The leader was dropped, or the claim must be made again.
    Abandoned,
    /// It failed at another registry, whose words are for its own clients.
    Elsewhere,
    /// lanyard is stopping. The bytes are kept for the next start.
    Stopping,
}

impl fmt::Display for FillFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FillFailure::Upstream(error) => error.fmt(f),
            FillFailure::Corrupt => f.write_str("upstream's bytes do not have the digest they were asked for by"),
            FillFailure::NoRoom => {
                f.write_str("no room for it: cache.max_size or cache.min_free is reached, or the disk is full")
            }
            FillFailure::Storage(error) => error.fmt(f),
            FillFailure::Abandoned | FillFailure::Elsewhere => f.write_str("the download was abandoned"),
            FillFailure::Stopping => f.write_str("lanyard is stopping"),
        }
    }
}

impl From<UpstreamError> for FillFailure {
    fn from(error: UpstreamError) -> Self {
        FillFailure::Upstream(Arc::new(error))
    }
}

impl From<StorageError> for FillFailure {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Lost => FillFailure::Abandoned,
            error if no_room(&error) => FillFailure::NoRoom,
            error => FillFailure::Storage(Arc::new(error)),
        }
    }
}

impl From<CommitError> for FillFailure {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => error.into(),
            CommitError::Refused(_) => FillFailure::NoRoom,
        }
    }
}
