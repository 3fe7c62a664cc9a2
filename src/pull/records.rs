//! The records that the pull writes into the catalogue, with the time of now.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    oci::{Digest, Tag},
    storage::{LinkRecord, LinkRight, StorageError, TagRecord},
};

/// A repository links `digest`, by this right.
pub(super) fn link(digest: Digest, media_type: &str, size: u64, right: LinkRight) -> LinkRecord {
    LinkRecord { digest, media_type: media_type.to_owned(), size, subject: None, right, created: now() }
}

/// `tag` names `digest`.
pub(super) fn tag(tag: Tag, digest: Digest, media_type: &str, size: u64) -> TagRecord {
    TagRecord { tag, digest, media_type: media_type.to_owned(), size, updated: now() }
}

/// Whether the disk is full or read-only. Content is then passed on and not kept (F7).
pub(super) fn no_room(error: &StorageError) -> bool {
    matches!(error, StorageError::NoSpace { .. } | StorageError::ReadOnly)
}

/// Seconds since 1970; 0 if the clock is before that.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
