//! What the pull writes into the catalogue.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    oci::{Digest, Tag},
    storage::{LinkRecord, LinkRight, StorageError, TagRecord},
};

/// That a repository holds `digest`, from now on.
pub(super) fn link(digest: Digest, media_type: &str, size: u64, right: LinkRight) -> LinkRecord {
    LinkRecord { digest, media_type: media_type.to_owned(), size, subject: None, right, created: now() }
}

/// That `tag` names `digest`, as of now.
pub(super) fn tag(tag: Tag, digest: Digest, media_type: &str, size: u64) -> TagRecord {
    TagRecord { tag, digest, media_type: media_type.to_owned(), size, updated: now() }
}

/// Whether the disk takes nothing more. Content is then passed on and not kept (F7).
pub(super) fn no_room(error: &StorageError) -> bool {
    matches!(error, StorageError::NoSpace { .. } | StorageError::ReadOnly)
}

/// Seconds since 1970; a clock before that is as good as none.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
