//! Blobs of an upstream: their size, and their bytes from an offset on.
//!
//! Nothing here proves a digest. The fill proves it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    call::Call,
    counters::RequestKind,
    error::UpstreamError,
    fetcher::{FetchError, ResponseBody},
    governor::Spend,
    registry::Registry,
    transport::Transport,
    words,
};
use crate::oci::{Digest, RepositoryName};

/// The head of a blob's answer, with the body to come.
#[derive(Debug)]
pub struct BlobResponse {
    /// The whole blob's size in bytes, if the answer tells it.
    pub total: Option<u64>,
    /// Where the body begins in the blob, in bytes: the requested offset, or 0 if the source
    /// ignored the range.
    pub offset: u64,
    /// The body's length in bytes, if the answer tells it.
    pub length: Option<u64>,
    /// Whether its type is that of a web page: a guest network's login, or a site that answers
    /// every request.
    pub page: bool,
    /// The bytes.
    pub body: BlobStream,
}

/// The bytes of a blob, counted as they pass. They are exactly [`BlobResponse::length`] bytes, or
/// an error ends them.
pub struct BlobStream {
    body: ResponseBody,
    transport: Arc<Transport>,
    left: Option<u64>,
    host: String,
}

impl std::fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobBody").field("host", &self.host).field("left", &self.left).finish_non_exhaustive()
    }
}

impl BlobStream {
    /// The next piece. `None` follows the last one. Dropping the stream closes the connection.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, FetchError>> {
        let chunk = match self.body.chunk().await {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => return Some(Err(error)),
            None => {
                let left = self.left.take().filter(|left| *left > 0)?;
                return Some(Err(FetchError::Broken {
                    host: self.host.clone(),
                    reason: format!("{left} bytes did not come"),
                }));
            }
        };
        self.transport.counters.received(chunk.len());
        if let Some(left) = &mut self.left {
            match left.checked_sub(chunk.len() as u64) {
                Some(rest) => *left = rest,
                None => {
                    let reason = "more bytes than announced".into();
                    return Some(Err(FetchError::Protocol { host: self.host.clone(), reason }));
                }
            }
        }
        Some(Ok(chunk))
    }
}

impl Registry {
    /// Asks for a blob's size in bytes. `None`: the registry has the blob and does not tell its
    /// size. A size of 0 is ignored unless the digest is the empty blob's.
    ///
    /// Many signed addresses allow GET only, so a refusal by a redirect's target is no error. A web
    /// page in answer to HEAD proves nothing: then a GET of one byte decides.
    pub async fn head_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>, UpstreamError> {
        match self.call(&self.blob_call(RequestKind::BlobHead, repository, digest)).await {
            Ok(answer) if is_page(&answer.headers) => self.blob_size_by_a_byte(repository, digest).await,
            Ok(answer) => Ok(words::content_length(&answer.headers).filter(|size| *size > 0 || digest.is_of_nothing())),
            Err(UpstreamError::Failed { status: 401 | 403 | 405, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The size in bytes from a GET of one byte. `None` if the answer does not tell it.
    pub async fn blob_size_by_a_byte(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, UpstreamError> {
        let answer = match self.blob(repository, digest, 0, Some(0)).await {
            Err(UpstreamError::RangeNotSatisfiable) if digest.is_of_nothing() => return Ok(Some(0)),
            answer => answer?,
        };
        let why = match answer.total {
            _ if answer.page => "the answer is a web page, not a blob",
            Some(0) if !digest.is_of_nothing() => "the answer is empty, but the blob is not",
            total => return Ok(total),
        };
        self.transport.counters.disbelieved();
        Err(UpstreamError::untrue(why))
    }

    /// Asks for a blob's bytes from offset `from` to `to_inclusive`, or to its end. `Range` is sent
    /// only for a part. A source may ignore it: see [`BlobResponse::offset`].
    pub async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: u64,
        to_inclusive: Option<u64>,
    ) -> Result<BlobResponse, UpstreamError> {
        let mut call = self.blob_call(RequestKind::Blob, repository, digest);
        let ranged = from > 0 || to_inclusive.is_some();
        if ranged {
            let to = to_inclusive.map(|to| to.to_string()).unwrap_or_default();
            call.range = HeaderValue::from_str(&format!("bytes={from}-{to}")).ok();
        }
        let answer = self.call(&call).await?;
        let length = words::content_length(&answer.headers);
        let (total, offset, length) = match answer.status {
            StatusCode::PARTIAL_CONTENT if ranged => {
                let part = content_range(&answer.headers).filter(|part| {
                    part.first == from
                        && to_inclusive.is_none_or(|to| part.last <= to)
                        && length.is_none_or(|length| part.last - part.first == length.wrapping_sub(1))
                });
                let Some(part) = part else {
                    self.transport.counters.disbelieved();
                    return Err(UpstreamError::untrue("the answer is another part of the blob than the requested one"));
                };
                (part.total, from, Some(part.last - part.first + 1))
            }
            StatusCode::OK => (length, 0, length),
            status => {
                self.transport.counters.disbelieved();
                return Err(UpstreamError::untrue(format!("the answer to a request for a blob has status {status}")));
            }
        };
        let host = call.url.host_str().unwrap_or_default().to_owned();
        let page = is_page(&answer.headers);
        let body = BlobStream { body: answer.body, transport: Arc::clone(&self.transport), left: length, host };
        Ok(BlobResponse { total, offset, length, page, body })
    }

    fn blob_call<'a>(&self, kind: RequestKind, repository: &'a RepositoryName, digest: &Digest) -> Call<'a> {
        Call {
            kind,
            url: self.url(&format!("{repository}/blobs/{digest}")),
            repository,
            accept: Some("application/octet-stream, */*;q=0.5"),
            range: None,
            spend: Spend::Needed,
            whole: None,
        }
    }
}

fn is_page(headers: &HeaderMap) -> bool {
    matches!(words::media_type(headers).as_deref(), Some("text/html" | "application/xhtml+xml"))
}

/// The `Content-Range` of a 206. It is never empty and never ends behind its total.
#[derive(PartialEq, Eq, Debug)]
struct PartialContent {
    first: u64,
    last: u64,
    total: Option<u64>,
}

/// `bytes 0-99/1000`, or `bytes 0-99/*` (RFC 9110 section 14.4).
fn content_range(headers: &HeaderMap) -> Option<PartialContent> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (unit, rest) = value.trim().split_once(' ')?;
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse::<u64>().ok()).flatten();
    let total = if total == "*" { None } else { Some(number(total)?) };
    let part = PartialContent { first: number(first)?, last: number(last)?, total };
    let fits = part.first <= part.last && part.last < part.total.unwrap_or(u64::MAX);
    (unit.eq_ignore_ascii_case("bytes") && fits).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(value: &str) -> Option<PartialContent> {
        let value = HeaderValue::from_str(value).ok()?;
        content_range(&HeaderMap::from_iter([(header::CONTENT_RANGE, value)]))
    }

    #[test]
    fn reads_content_ranges() {
        assert_eq!(read("bytes 5-9/10"), Some(PartialContent { first: 5, last: 9, total: Some(10) }));
        assert_eq!(read("Bytes 5-9/*"), Some(PartialContent { first: 5, last: 9, total: None }));
        for bad in
            ["", "bytes", "bytes 9-5/10", "bytes 5-10/10", "bytes */10", "bytes 5-/10", "lines 1-2/3", "bytes +1-2/3"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[ -~]*", first: u64, last: u64, total: u64) {
            let _ = read(&text);
            if let Some(part) = read(&format!("bytes {first}-{last}/{total}")) {
                prop_assert!(part.first <= part.last && part.last < total);
            }
        }
    }
}
