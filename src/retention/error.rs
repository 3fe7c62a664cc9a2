//! Why work of the retention ended early, or was refused. Admin and http see it too.

use crate::storage::StorageError;

/// Why the work ended early. What it did so far is done.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The disk failed, or takes no change.
    #[error(transparent)]
    Storage(StorageError),
    /// lanyard is offline: content that goes could not come again.
    #[error("lanyard is offline (mode): what it has is not let go")]
    Offline,
    /// The work panicked, or lanyard is stopping.
    #[error("the work was lost")]
    Lost,
}

impl RetentionError {
    /// Whether the error is no fault: the disk is read-only, or lanyard is stopping.
    pub fn is_expected(&self) -> bool {
        match self {
            RetentionError::Lost | RetentionError::Offline => true,
            RetentionError::Storage(error) => matches!(error, StorageError::ReadOnly | StorageError::Closed),
        }
    }
}

impl From<StorageError> for RetentionError {
    fn from(error: StorageError) -> Self {
        if matches!(error, StorageError::Lost) { RetentionError::Lost } else { RetentionError::Storage(error) }
    }
}
