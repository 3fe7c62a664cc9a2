//! The error codes of the distribution specification ("Error Codes"), and the error that a client
//! receives. Rooms below `http` return a [`RegistryError`] where they know the answer; `http` turns
//! it into a response.

use std::time::Duration;

/// The codes that clients receive. The three after `TooManyRequests` are not in the specification;
/// clients show them as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the names are the specification's own")]
pub enum ErrorCode {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    RangeInvalid,
    Unavailable,
    Unknown,
}

impl ErrorCode {
    /// The identifier in the JSON body.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status of the code, unless a [`RegistryError`] has another one.
    pub fn status(self) -> u16 {
        self.row().1
    }

    fn row(self) -> (&'static str, u16) {
        match self {
            ErrorCode::BlobUnknown => ("BLOB_UNKNOWN", 404),
            ErrorCode::BlobUploadInvalid => ("BLOB_UPLOAD_INVALID", 400),
            ErrorCode::BlobUploadUnknown => ("BLOB_UPLOAD_UNKNOWN", 404),
            ErrorCode::DigestInvalid => ("DIGEST_INVALID", 400),
            ErrorCode::ManifestBlobUnknown => ("MANIFEST_BLOB_UNKNOWN", 404),
            ErrorCode::ManifestInvalid => ("MANIFEST_INVALID", 400),
            ErrorCode::ManifestUnknown => ("MANIFEST_UNKNOWN", 404),
            ErrorCode::NameInvalid => ("NAME_INVALID", 400),
            ErrorCode::NameUnknown => ("NAME_UNKNOWN", 404),
            ErrorCode::SizeInvalid => ("SIZE_INVALID", 400),
            ErrorCode::Unauthorized => ("UNAUTHORIZED", 401),
            ErrorCode::Denied => ("DENIED", 403),
            ErrorCode::Unsupported => ("UNSUPPORTED", 405),
            ErrorCode::TooManyRequests => ("TOOMANYREQUESTS", 429),
            ErrorCode::RangeInvalid => ("RANGE_INVALID", 416),
            ErrorCode::Unavailable => ("UNAVAILABLE", 503),
            ErrorCode::Unknown => ("UNKNOWN", 500),
        }
    }
}

/// An error for a client: one entry of the specification's `errors` list, with its status.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct RegistryError {
    /// The specification's code.
    pub code: ErrorCode,
    /// HTTP status, usually that of the code.
    pub status: u16,
    /// One sentence for a person: the mistake, and its remedy if there is one. Never a secret.
    pub message: String,
    /// `Retry-After`, if waiting helps.
    pub retry_after: Option<Duration>,
}

impl RegistryError {
    /// An error with the code's own status.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        RegistryError { code, status: code.status(), message: message.into(), retry_after: None }
    }

    /// The same with another status, e.g. 502 instead of 503.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}
