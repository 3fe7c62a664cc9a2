//! Errors as HTTP: the only file that turns them into answers and logs them, each once. Every
//! handler fails with an [`HttpError`]; `routes.rs` makes the answer of it.

use std::time::Duration;

use actix_web::http::{
    StatusCode,
    header::{CONTENT_RANGE, HeaderName, HeaderValue, RETRY_AFTER},
};

use crate::{
    admin::RetentionError,
    http::answer::{
        access_log,
        reply::{JSON, Reply},
    },
    oci::{ErrorCode, RegistryError},
    pull::{BodyError, PullError, Trace},
    push::PushError,
};

/// Why a request is not served, and the answer's extra headers.
pub(crate) struct HttpError {
    error: RegistryError,
    total: Option<u64>,
    trace: Option<Trace>,
    extra: Vec<(HeaderName, HeaderValue)>,
}

impl From<RegistryError> for HttpError {
    fn from(error: RegistryError) -> Self {
        HttpError { error, total: None, trace: None, extra: Vec::new() }
    }
}

impl From<PullError> for HttpError {
    fn from(error: PullError) -> Self {
        HttpError { error: error.to_registry_error(), total: error.total(), trace: None, extra: Vec::new() }
    }
}

impl From<PushError> for HttpError {
    fn from(error: PushError) -> Self {
        // The client is not told which file failed.
        if let PushError::Storage(error) = &error {
            tracing::error!(%error, "the disk failed");
        }
        error.to_registry_error().into()
    }
}

impl From<RetentionError> for HttpError {
    fn from(error: RetentionError) -> Self {
        let code = if error.is_expected() { ErrorCode::Unavailable } else { ErrorCode::Unknown };
        RegistryError::new(code, error.to_string()).into()
    }
}

impl HttpError {
    /// A body failed before its first byte. The head is not sent yet, so the answer can be an
    /// error.
    pub(crate) fn before_first_byte(error: Option<BodyError>, trace: Trace) -> Self {
        let message = error.map_or_else(|| "upstream sent nothing".to_owned(), |error| error.to_string());
        let error = RegistryError::new(ErrorCode::Unavailable, message).with_status(502);
        HttpError { error, total: None, trace: Some(trace), extra: Vec::new() }
    }

    /// The same error with one more header.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.extra.push((name, value));
        self
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> u16 {
        self.error.status
    }

    /// The answer: the specification's JSON; `Retry-After` in whole seconds; `Content-Range: bytes
    /// */N` with a 416. Logs the error.
    pub(crate) fn into_reply(self, path: &str) -> Reply {
        let HttpError { error, total, trace, extra } = self;
        let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let path = access_log::escaped(path, access_log::LONGEST);
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), code = error.code.as_str(), %path, "{}", error.message);
        } else {
            tracing::debug!(status = status.as_u16(), code = error.code.as_str(), %path, "{}", error.message);
        }
        let entry = serde_json::json!({ "code": error.code.as_str(), "message": error.message, "detail": null });
        let body = serde_json::json!({ "errors": [entry] }).to_string();
        let mut reply = Reply::bytes(status, JSON, body.into());
        if let Some(wait) = error.retry_after {
            reply.header(RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
        }
        if let Some(total) = total {
            reply.text(CONTENT_RANGE, &format!("bytes */{total}"));
        }
        for (name, value) in extra {
            reply.header(name, value);
        }
        reply.trace = trace;
        reply
    }
}

/// 503: the answers under way hold all the memory that they may hold together.
pub(crate) fn too_much_in_memory() -> HttpError {
    let message = "too many long answers are under way; try again in a few seconds";
    let mut error = RegistryError::new(ErrorCode::Unavailable, message).with_status(503);
    error.retry_after = Some(Duration::from_secs(5));
    error.into()
}

/// 429: the bodies of requests hold all the memory that they may hold together.
pub(crate) fn too_many_bodies() -> HttpError {
    let message = "too many large requests are coming in; try again in a few seconds";
    let mut error = RegistryError::new(ErrorCode::TooManyRequests, message);
    error.retry_after = Some(Duration::from_secs(5));
    error.into()
}
