//! One call to a registry, as the caller asks for it, and a success.

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

/// How long the head of a manifest or a list may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the head of a blob may take: object stores are slower to begin.
const BLOB_HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What to ask.
pub(super) struct Call<'a> {
    pub(super) kind: RequestKind,
    pub(super) url: Url,
    pub(super) repository: &'a RepositoryName,
    /// `Accept`.
    pub(super) accept: Option<&'static str>,
    /// `Range`.
    pub(super) range: Option<HeaderValue>,
    pub(super) spend: Spend,
    /// Read the whole body, of at most so many bytes, before the call has succeeded; else it is left to the caller.
    pub(super) whole: Option<usize>,
}

/// A 2xx.
pub(super) struct Success {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body, where it was to be read whole.
    pub(super) bytes: Bytes,
    /// The body, where it was not.
    pub(super) body: ResponseBody,
}

impl Call<'_> {
    /// The request that asks for it.
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
