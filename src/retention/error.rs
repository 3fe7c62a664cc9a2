//! The errors that end a pass or a note of the collector or the scrub early. Seen by admin and app.

use crate::storage::StorageError;

/// Why a pass ended early. Its removals so far are done, and the next pass does the rest.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The disk failed, or takes no change.
    #[error(transparent)]
    Storage(StorageError),
    /// The work panicked, or lanyard is stopping.
    #[error("the work was lost")]
    Lost,
}

impl RetentionError {
    /// Whether the error is no fault: the disk is read-only, or lanyard is stopping.
    pub fn is_expected(&self) -> bool {
        matches!(self, RetentionError::Lost | RetentionError::Storage(StorageError::ReadOnly | StorageError::Closed))
    }
}

impl From<StorageError> for RetentionError {
    fn from(error: StorageError) -> Self {
        if matches!(error, StorageError::Lost) { RetentionError::Lost } else { RetentionError::Storage(error) }
    }
}
