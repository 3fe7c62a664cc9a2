//! Why a fill failed.
//!
//! Each follower of a fill gets the failure that its leader ended with. `words` weakens it for the
//! clients of another registry; `error` turns it into what the client is told.

use std::{fmt, sync::Arc};

use super::super::records::no_room;
use crate::{storage::StorageError, upstream::UpstreamError};

/// Why a fill failed.
#[derive(Clone, Debug)]
pub enum FillFailure {
    /// Upstream's answer, or its silence.
    Upstream(Arc<UpstreamError>),
    /// The bytes that came are not the digest's.
    Corrupt,
    /// The disk is full, or may hold no more: followers go on straight from upstream.
    NoRoom,
    /// The disk failed otherwise.
    Storage(Arc<StorageError>),
    /// The leader went away: a panic.
    Abandoned,
    /// Another registry's doing: what it says is for its own clients.
    Elsewhere,
    /// lanyard is stopping; what is here is kept for the next start.
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
        if no_room(&error) { FillFailure::NoRoom } else { FillFailure::Storage(Arc::new(error)) }
    }
}
