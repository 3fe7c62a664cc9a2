//! Why a push, a mount or a deletion does not happen, and what the client is told.

use std::{sync::Arc, time::Duration};

use crate::{
    oci::{Algorithm, Digest, ErrorCode, ManifestError, RegistryError},
    pull::PullError,
    storage::{CommitError, Refusal, StorageError, Unsure},
};

/// How many missing parts an error names.
const NAMED: usize = 8;

/// Why nothing was pushed, mounted or deleted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PushError {
    /// This name, or this tag, does not take it, whoever asks.
    #[error("{0}")]
    Refused(String),
    /// There is no such upload in this repository; it may be finished, cancelled or swept.
    #[error("there is no such upload in this repository; begin a new one")]
    UploadUnknown,
    /// Another request writes to the upload.
    #[error("another request is writing to this upload")]
    Busy,
    /// The bytes do not follow those that are here.
    #[error("the upload is at offset {offset}, and goes on there")]
    OutOfOrder {
        /// Where it goes on, in bytes.
        offset: u64,
    },
    /// Too many uploads are open.
    #[error("{0}")]
    TooMany(&'static str),
    /// The disk is as full as it may be.
    #[error(
        "lanyard's disk is full, or has no more free than cache.min_free asks for; nothing can be pushed until there is space"
    )]
    NoRoom,
    /// The bytes are not what their digest says.
    #[error("the content does not have the digest {0}")]
    WrongDigest(Digest),
    /// The digest is not of the algorithm that was said when the upload was begun.
    #[error("this upload was begun with digest-algorithm={}, and {digest} is of another algorithm", algorithm.as_str())]
    WrongAlgorithm {
        /// What was said.
        algorithm: Algorithm,
        /// What it is to have now.
        digest: Digest,
    },
    /// The bytes are no manifest that lanyard keeps.
    #[error("{0}")]
    Manifest(Arc<ManifestError>),
    /// Nor are these, for a reason that the manifest itself does not tell.
    #[error("{0}")]
    Invalid(String),
    /// Parts of the manifest are not in the repository.
    #[error("the repository does not hold {}; push what the manifest names first", named(.0))]
    PartsUnknown(Vec<Digest>),
    /// There is nothing of that name to delete.
    #[error("{message}")]
    Unknown {
        /// Blob or manifest.
        code: ErrorCode,
        /// In words.
        message: String,
    },
    /// A part is upstream's, and could not be got from there.
    #[error("{0}")]
    Pull(PullError),
    /// The disk failed.
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
            Unsure::Missing(_) | Unsure::Manifest(..) | Unsure::Link => PushError::Refused(unsure.to_string()),
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
    /// What the client is told.
    pub fn to_registry_error(&self) -> RegistryError {
        let told = |code| RegistryError::new(code, self.to_string());
        let later = |mut error: RegistryError, seconds| {
            error.retry_after = Some(Duration::from_secs(seconds));
            error
        };
        match self {
            PushError::Refused(_) => told(ErrorCode::Denied),
            PushError::UploadUnknown => told(ErrorCode::BlobUploadUnknown),
            // The specification has no word for it.
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

/// The details are logged; a path of this machine is nobody's business on the LAN.
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
