//! The values of one call to a registry: the question, and its success.
//!
//! `manifests.rs`, `blobs.rs` and `lists.rs` build a [`Call`]. `admission.rs` and `attempt.rs` make
//! it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use url::Url;

use super::{
    counters::RequestKind,
    fetcher::{Request, ResponseBody},
    governor::Spend,
    transport::user_agent,
};
use crate::oci::RepositoryName;

/// How long the head of a manifest's or a list's answer may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the head of a blob's answer may take. Object stores are slower to begin.
const BLOB_HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A question to the registry.
pub(super) struct Call<'a> {
    pub(super) kind: RequestKind,
    pub(super) url: Url,
    pub(super) repository: &'a RepositoryName,
    /// `Accept`.
    pub(super) accept: Option<&'static str>,
    /// `Range`.
    pub(super) range: Option<HeaderValue>,
    pub(super) spend: Spend,
    /// The largest body in bytes that the call reads itself. Without it the caller reads the body.
    pub(super) whole: Option<usize>,
}

/// A 2xx answer.
pub(super) struct Success {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body, if the call has read it.
    pub(super) bytes: Bytes,
    /// The body, if the call has not read it.
    pub(super) body: ResponseBody,
}

impl Call<'_> {
    /// The HTTP request for this call.
    pub(super) fn request(&self, authorization: Option<HeaderValue>) -> Request {
        let mut headers = HeaderMap::from_iter([user_agent()]);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.extend(self.accept.map(|accept| (header::ACCEPT, HeaderValue::from_static(accept))));
        headers.extend(self.range.clone().map(|range| (header::RANGE, range)));
        headers.extend(authorization.map(|value| (header::AUTHORIZATION, value)));
        let (method, head_timeout) = match self.kind {
            RequestKind::ManifestHead => (Method::HEAD, HEAD_TIMEOUT),
            RequestKind::BlobHead => (Method::HEAD, BLOB_HEAD_TIMEOUT),
            RequestKind::Blob => (Method::GET, BLOB_HEAD_TIMEOUT),
            RequestKind::Manifest
            | RequestKind::Tags
            | RequestKind::Referrers
            | RequestKind::Token
            | RequestKind::Greeting
            | RequestKind::Probe => (Method::GET, HEAD_TIMEOUT),
        };
        Request { method, url: self.url.clone(), headers, head_timeout }
    }
}
