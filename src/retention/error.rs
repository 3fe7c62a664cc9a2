//! What can end a pass early.

use crate::storage::StorageError;

/// Why a pass ended before its end. What it had removed by then is removed, and the next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The disk.
    #[error(transparent)]
    Storage(StorageError),
    /// The work panicked, or lanyard is stopping.
    #[error("the work was lost")]
    Lost,
}

impl RetentionError {
    /// Whether this is how things are rather than a fault: a disk that takes no change, a stop under way.
    pub fn is_expected(&self) -> bool {
        matches!(self, RetentionError::Lost | RetentionError::Storage(StorageError::ReadOnly | StorageError::Closed))
    }
}

impl From<StorageError> for RetentionError {
    fn from(error: StorageError) -> Self {
        if matches!(error, StorageError::Lost) { RetentionError::Lost } else { RetentionError::Storage(error) }
    }
}
