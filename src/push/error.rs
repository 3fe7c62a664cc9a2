//! The errors of pushes, mounts and deletions, and the answer that the client gets for each.
//!
//! [`PushError`] has one variant for each answer. Errors of storage and pull become one by `From`;
//! [`PushError::to_registry_error`] makes the answer. Used by push and http.

use std::{sync::Arc, time::Duration};

use crate::{
    oci::{Algorithm, Digest, ErrorCode, ManifestError, RegistryError},
    pull::PullError,
    storage::{CommitError, Refusal, StorageError, Unsure},
};

/// An error names at most this many missing parts.
const NAMED: usize = 8;

/// Why nothing was pushed, mounted or deleted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PushError {
    /// A rule forbids it for every client: of this repository, or of this tag.
    #[error("{0}")]
    Refused(String),
    /// The repository has no such upload. It may be finished, cancelled or swept.
    #[error("there is no such upload in this repository; begin a new one")]
    UploadUnknown,
    /// Another request writes to the upload.
    #[error("another request is writing to this upload")]
    Busy,
    /// The bytes do not begin where the upload ends.
    #[error("the upload ends at offset {offset}; go on there")]
    OutOfOrder {
        /// The end of the upload, in bytes.
        offset: u64,
    },
    /// Too many uploads are open.
    #[error("{0}")]
    TooMany(&'static str),
    /// The disk is full, or has no more free than `cache.min_free`.
    #[error(
        "lanyard's disk is full, or has no more free than cache.min_free asks for; nothing can be pushed until there is space"
    )]
    NoRoom,
    /// The content has another digest.
    #[error("the content does not have the digest {0}")]
    WrongDigest(Digest),
    /// The digest has another algorithm than the client named when it began the upload.
    #[error("this upload was begun with digest-algorithm={}, and {digest} has another algorithm", algorithm.as_str())]
    WrongAlgorithm {
        /// The algorithm named at the beginning.
        algorithm: Algorithm,
        /// The digest named at the end.
        digest: Digest,
    },
    /// The bytes are not a manifest that lanyard keeps.
    #[error("{0}")]
    Manifest(Arc<ManifestError>),
    /// The same, for a reason outside the manifest's bytes, such as its `Content-Type`.
    #[error("{0}")]
    Invalid(String),
    /// Parts of the manifest are not in the repository.
    #[error("the repository does not hold {}; push what the manifest names first", named(.0))]
    PartsUnknown(Vec<Digest>),
    /// The repository does not have the tag, manifest or blob that is to be deleted.
    #[error("{message}")]
    Unknown {
        /// Unknown blob or unknown manifest.
        code: ErrorCode,
        /// The sentence for the client.
        message: String,
    },
    /// A part is mirrored, and could not be fetched from its upstream.
    #[error("{0}")]
    Pull(PullError),
    /// The disk failed, or takes no change.
    #[error("{0}")]
    Storage(Arc<StorageError>),
    /// A task ended without a result.
    #[error("the request was dropped inside lanyard; ask again")]
    Lost,
}

impl From<StorageError> for PushError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::WrongDigest(digest) => PushError::WrongDigest(digest),
            StorageError::UploadBusy(_) => PushError::Busy,
            StorageError::Gone(digest) => PushError::PartsUnknown(vec![digest]),
            StorageError::NoSpace { .. } => PushError::NoRoom,
            StorageError::Lost => PushError::Lost,
            StorageError::ReadOnly
            | StorageError::Closed
            | StorageError::Unproven(_)
            | StorageError::Busy(_)
            | StorageError::TooLarge { .. }
            | StorageError::Io { .. } => PushError::Storage(Arc::new(error)),
        }
    }
}

impl From<CommitError> for PushError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => error.into(),
            CommitError::Refused(Refusal::PartsMissing(parts)) => PushError::PartsUnknown(parts),
            CommitError::Refused(Refusal::Full) => PushError::NoRoom,
            CommitError::Refused(Refusal::TagMoves(tag) | Refusal::NewTag(tag)) => {
                PushError::Refused(format!("the tag {tag} has changed meanwhile: try again"))
            }
        }
    }
}

impl From<Unsure> for PushError {
    fn from(unsure: Unsure) -> Self {
        match unsure {
            Unsure::Storage(error) => error.into(),
            Unsure::Missing(_) | Unsure::Manifest(..) | Unsure::Pin | Unsure::Tag(_) | Unsure::Link => {
                PushError::Refused(unsure.to_string())
            }
        }
    }
}

impl From<PullError> for PushError {
    fn from(error: PullError) -> Self {
        PushError::Pull(error)
    }
}

impl From<ManifestError> for PushError {
    fn from(error: ManifestError) -> Self {
        PushError::Manifest(Arc::new(error))
    }
}

impl PushError {
    /// The answer for the client.
    pub fn to_registry_error(&self) -> RegistryError {
        let told = |code| RegistryError::new(code, self.to_string());
        let later = |mut error: RegistryError, seconds| {
            error.retry_after = Some(Duration::from_secs(seconds));
            error
        };
        match self {
            PushError::Refused(_) => told(ErrorCode::Denied),
            PushError::UploadUnknown => told(ErrorCode::BlobUploadUnknown),
            // The specification has no error code for it.
            PushError::Busy => later(told(ErrorCode::BlobUploadInvalid).with_status(409), 1),
            PushError::OutOfOrder { .. } => told(ErrorCode::RangeInvalid),
            PushError::TooMany(_) => later(told(ErrorCode::TooManyRequests), 60),
            PushError::NoRoom => told(ErrorCode::Unavailable).with_status(507),
            PushError::WrongDigest(_) | PushError::WrongAlgorithm { .. } => told(ErrorCode::DigestInvalid),
            PushError::Manifest(_) | PushError::Invalid(_) => told(ErrorCode::ManifestInvalid),
            PushError::PartsUnknown(_) => told(ErrorCode::ManifestBlobUnknown),
            PushError::Unknown { code, .. } => told(*code),
            PushError::Pull(error) => error.to_registry_error(),
            PushError::Storage(error) => storage(error),
            PushError::Lost => told(ErrorCode::Unavailable),
        }
    }
}

/// The details go to the log only: clients must not learn paths of this machine.
fn storage(error: &StorageError) -> RegistryError {
    match error {
        StorageError::NoSpace { .. } => PushError::NoRoom.to_registry_error(),
        StorageError::ReadOnly => {
            RegistryError::new(ErrorCode::Unavailable, "lanyard's disk is read-only; nothing can be pushed")
        }
        StorageError::Closed => RegistryError::new(ErrorCode::Unavailable, "lanyard is stopping; ask again"),
        StorageError::WrongDigest(_)
        | StorageError::Unproven(_)
        | StorageError::Busy(_)
        | StorageError::UploadBusy(_)
        | StorageError::Gone(_)
        | StorageError::TooLarge { .. }
        | StorageError::Lost
        | StorageError::Io { .. } => {
            RegistryError::new(ErrorCode::Unknown, "lanyard cannot read or write its data; its log says why")
        }
    }
}

fn named(parts: &[Digest]) -> String {
    let mut text = parts.iter().take(NAMED).map(Digest::to_string).collect::<Vec<_>>().join(", ");
    if parts.len() > NAMED {
        text.push_str(&format!(" and {} more", parts.len() - NAMED));
    }
    text
}
