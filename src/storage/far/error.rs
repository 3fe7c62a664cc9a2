//! The errors of an object store, in words for an operator.
//!
//! A store says why in an XML body (`<Code>`, `<Message>`), in three dialects of code words. The
//! connector reads it ([`Refusal::read`]) before `object_store` makes a sentence with the URL of
//! it, which may hold a signature. The words are told with control characters escaped, and not at
//! all if they look like a part of a request.

use std::{error::Error, fmt};

use hyper::StatusCode;

use crate::runtime::printable;

/// The longest word of a store that is told, in characters.
const LONGEST: usize = 300;

/// Why a call to an object store failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FarError {
    /// There is no such object, or no such session.
    #[error("it is not in the object store")]
    Missing,
    /// The condition of a PUT does not hold. Nothing was written.
    #[error("another version is in the object store")]
    Conflict,
    /// The store said no, and why. Nothing was done.
    #[error("{0}")]
    Refused(String),
    /// No answer that says whether it was done, and why.
    #[error("{0}")]
    Unavailable(String),
}

impl From<object_store::Error> for FarError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as Of;
        if let Some(refusal) = chain(&error).find_map(|error| error.downcast_ref::<Refusal>()) {
            return refusal.to_error();
        }
        match &error {
            Of::NotFound { .. } => FarError::Missing,
            Of::AlreadyExists { .. } | Of::Precondition { .. } => FarError::Conflict,
            // Its sentences hold URLs, but for those of the connector and of the body's reader.
            _ => FarError::Unavailable(told(&error)),
        }
    }
}

/// What may be told: a sentence of the connector's, or that a status was no success, whose body is
/// the connector's too. Other sentences of `object_store` quote answers and settings.
fn told(error: &object_store::Error) -> String {
    if let Some(plain) = chain(error).find_map(|error| error.downcast_ref::<Plain>()) {
        return shortened(&plain.to_string());
    }
    let innermost = chain(error).last().map_or_else(String::new, ToString::to_string);
    match innermost.strip_prefix("Server returned non-2xx status code: ").and_then(|rest| rest.split_once(": ")) {
        Some((_, told)) => shortened(told),
        None => "the store's answer is not one to what it was asked".to_owned(),
    }
}

/// A sentence that holds no secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Plain(pub(super) String);

/// An error and its causes.
pub(super) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

fn shortened(text: &str) -> String {
    let mut text = printable(text).into_owned();
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// A store's no.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    status: u16,
    /// The code word, as in `NoSuchBucket`. Empty if the answer had none.
    code: String,
    message: String,
}

impl Refusal {
    /// From the status and the body of an answer.
    pub(super) fn read(status: StatusCode, body: &[u8]) -> Refusal {
        let body = String::from_utf8_lossy(body);
        let within = |open: &str, close: &str| {
            let (_, rest) = body.split_once(open)?;
            Some(shortened(rest.split_once(close)?.0.lines().next().unwrap_or_default()))
        };
        Refusal {
            status: status.as_u16(),
            code: within("<Code>", "</Code>").unwrap_or_default(),
            // A store may quote what it was sent, with the signature in it.
            message: within("<Message>", "</Message>").filter(|text| !text.contains('=')).unwrap_or_default(),
        }
    }

    /// Whether the answer means that one object or one session is not there.
    pub(super) fn is_missing(&self) -> bool {
        self.status == 404 && !matches!(self.code.as_str(), "NoSuchBucket" | "ContainerNotFound")
    }

    fn to_error(&self) -> FarError {
        if self.is_missing() {
            return FarError::Missing;
        }
        FarError::Refused(self.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.code.as_str() {
            "NoSuchBucket" | "ContainerNotFound" => "there is no such bucket or container",
            "RequestTimeTooSkewed" => "this machine's clock and the store's are too far apart: set the clock right",
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidToken"
            | "ExpiredToken"
            | "AuthenticationFailed"
            | "InvalidAuthenticationInfo"
            | "TokenRefreshRequired" => "the store does not accept the credentials",
            "PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException"
            | "TemporaryRedirect" => "the bucket is in another region: see storage.region",
            "AccessDenied"
            | "AuthorizationFailure"
            | "AuthorizationPermissionMismatch"
            | "InsufficientAccountPermissions" => "the credentials lack a permission",
            "NotImplemented" => "the store cannot do this",
            "KMS.NotFoundException" | "KMS.DisabledException" => "the key of storage.kms_key cannot be used",
            _ => match self.status {
                401 => "the store does not accept the credentials",
                403 => "the credentials lack a permission",
                404 => "there is no such bucket or container",
                405 | 501 => "the store cannot do this",
                408 | 429 | 503 => "the store is busy",
                500.. => "the store has failed",
                301 | 302 | 303 | 307 | 308 => "the store sends elsewhere: see storage.endpoint and storage.region",
                _ => "the store refuses the request",
            },
        })?;
        write!(f, " ({}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        f.write_str(")")
    }
}

impl Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> Refusal {
        Refusal::read(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn what_a_store_says_becomes_one_sentence() {
        let body = "<?xml version=\"1.0\"?><Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too \
                    large.</Message><StringToSign>secret</StringToSign></Error>";
        assert_eq!(
            refusal(403, body).to_string(),
            "this machine's clock and the store's are too far apart: set the clock right (403 RequestTimeTooSkewed: \
             The difference is too large.)"
        );
        assert_eq!(refusal(403, "").to_string(), "the credentials lack a permission (403)");
        assert!(refusal(418, "<Code>\u{1b}[2J</Code>").to_string().starts_with("the store refuses the request (418 "));
        assert!(!refusal(418, "<Code>\u{1b}[2J</Code>").to_string().contains('\u{1b}'));
        let long = format!("<Message>{}</Message>", "x".repeat(1000));
        assert!(refusal(400, &long).to_string().len() < 400);
    }

    #[test]
    fn a_missing_object_is_no_missing_bucket() {
        for (body, missing) in [("", true), ("<Code>NoSuchKey</Code>", true), ("<Code>BlobNotFound</Code>", true)] {
            assert_eq!(refusal(404, body).is_missing(), missing, "{body}");
        }
        for body in ["<Code>NoSuchBucket</Code>", "<Code>ContainerNotFound</Code>"] {
            assert!(matches!(refusal(404, body).to_error(), FarError::Refused(_)), "{body}");
        }
        assert_eq!(refusal(404, "<Code>NoSuchUpload</Code>").to_error(), FarError::Missing);
    }
}
