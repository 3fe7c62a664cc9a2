//! One call to a registry, from its admission to its answer: circuit, governor, authorization, the one retry policy, and what
//! a status means. Every request but tokens and probes goes through [`Upstream::call`].

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::Instant;
use url::Url;

use super::{
    auth::Authorization,
    counters::Kind,
    error::UpstreamError,
    fetcher::{Body, Request, Response},
    governor::{self, Limit, Spend},
    lock,
    registry::Upstream,
    trouble::Patience,
    wire::user_agent,
    words::{self, Said},
};
use crate::oci::RepositoryName;

/// How often one request may be challenged. A token can expire while its request waits for a connection, so two is not
/// enough; a registry that never has enough is not asked for ever.
const MAX_CHALLENGES: u32 = 4;

/// How long the head of a manifest or a list may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the head of a blob may take: object stores are slower to begin.
const BLOB_HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What to ask.
pub(super) struct Call<'a> {
    pub(super) kind: Kind,
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
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body, where it was to be read whole.
    pub(super) bytes: Bytes,
    /// The body, where it was not.
    pub(super) body: Body,
}

impl Call<'_> {
    fn request(&self, authorization: Option<HeaderValue>) -> Request {
        let mut headers = HeaderMap::from_iter([user_agent()]);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.extend(self.accept.map(|accept| (header::ACCEPT, HeaderValue::from_static(accept))));
        headers.extend(self.range.clone().map(|range| (header::RANGE, range)));
        headers.extend(authorization.map(|value| (header::AUTHORIZATION, value)));
        let (method, head_timeout) = match self.kind {
            Kind::ManifestHead => (Method::HEAD, HEAD_TIMEOUT),
            Kind::BlobHead => (Method::HEAD, BLOB_HEAD_TIMEOUT),
            Kind::Blob => (Method::GET, BLOB_HEAD_TIMEOUT),
            Kind::Manifest | Kind::Tags | Kind::Referrers | Kind::Token | Kind::Probe => (Method::GET, HEAD_TIMEOUT),
        };
        Request { method, url: self.url.clone(), headers, head_timeout }
    }
}

impl Upstream {
    /// Makes the call. Any answer that is not a 2xx is an error.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Answer, UpstreamError> {
        if !self.allows(call.repository) {
            return Err(UpstreamError::Blocked);
        }
        if self.is_offline() {
            return Err(UpstreamError::Offline);
        }
        let mut patience = Patience::of(call);
        loop {
            let error = match self.call_now(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !patience.outlasts(&error).await {
                return Err(error);
            }
        }
    }

    /// The same without waiting for a rate limit.
    async fn call_now(&self, call: &Call<'_>) -> Result<Answer, UpstreamError> {
        self.admit(call)?;
        let mut attempts = self.wire.retries.begin();
        loop {
            let ended = self.attempt(call).await;
            self.note(call, &ended);
            let error = match ended {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if matches!(error, UpstreamError::Untrue { .. }) {
                self.wire.counters.disbelieved();
            }
            // A circuit that this very failure opened is reported as the failure itself.
            let again = self.is_worth_another(call, &error) && attempts.again(&error).await;
            if !again || !self.is_worth_another(call, &error) {
                return Err(error);
            }
            self.wire.counters.retried();
        }
    }

    /// Sends the request, and again with what the registry asks for.
    async fn attempt(&self, call: &Call<'_>) -> Result<Answer, UpstreamError> {
        let mut used = self.auth.ready(&self.wire, call.repository).await?;
        for _ in 0..MAX_CHALLENGES {
            let mut response = self.wire.send(call.kind, call.request(self.auth.header(&used))).await?;
            if response.status != StatusCode::UNAUTHORIZED || self.is_foreign(&response) {
                return self.judge(call, response, &used).await;
            }
            let words = self.words(call, &mut response, &used).await;
            // The body is let go before the token is asked for: it holds a connection, and the token needs one.
            let Response { headers, body, .. } = response;
            drop(body);
            used = self.auth.answer(&self.wire, call.repository, &headers, &used, words).await?;
        }
        Err(UpstreamError::Denied { status: 401, message: "the registry takes none of its own tokens".into() })
    }

    /// What the answer means.
    async fn judge(
        &self,
        call: &Call<'_>,
        mut response: Response,
        used: &Authorization,
    ) -> Result<Answer, UpstreamError> {
        let foreign = self.is_foreign(&response);
        if !foreign {
            let (mut governor, now) = (lock(&self.governor), Instant::now());
            governor.observe(&response.headers, now);
            if response.status != StatusCode::TOO_MANY_REQUESTS {
                governor.passed(call.kind, call.repository, now);
            }
        }
        if response.status.is_success() {
            refuse_encoding(&response.headers)?;
            let bytes = match call.whole {
                Some(cap) => words::whole(&mut response, cap, &self.wire.counters).await?,
                None => Bytes::new(),
            };
            let Response { status, headers, url: _, body } = response;
            return Ok(Answer { status, headers, bytes, body });
        }
        let status = response.status.as_u16();
        let Said { words, listed } = self.said(call, &mut response, used).await;
        let message = words.unwrap_or_else(|| match status {
            404 => "not found".into(),
            403 => "access denied".into(),
            429 => "too many requests".into(),
            status => format!("status {status}"),
        });
        Err(match status {
            404 | 410 => UpstreamError::NotFound { message, told: listed },
            // A content network that refuses a signed address says nothing about the repository.
            401 | 403 if !foreign => UpstreamError::Denied { status, message },
            416 => UpstreamError::RangeNotSatisfiable,
            // That of a content network says nothing about the registry's other repositories.
            429 if foreign => {
                UpstreamError::RateLimited { retry_after: governor::retry_after_now(&response.headers), message }
            }
            429 => {
                let (now, wall) = (Instant::now(), SystemTime::now());
                let mut governor = lock(&self.governor);
                let limit = Limit { kind: call.kind, repository: call.repository, message: &message };
                let retry_after = governor.limited(&limit, &response.headers, now, wall);
                UpstreamError::RateLimited { retry_after, message }
            }
            status => UpstreamError::Failed { status, message },
        })
    }

    /// Whether it was answered by another origin than the registry's own, after a redirect.
    fn is_foreign(&self, response: &Response) -> bool {
        response.url.origin() != self.config().url.origin()
    }

    /// The upstream's own words about an error.
    async fn words(&self, call: &Call<'_>, response: &mut Response, used: &Authorization) -> Option<String> {
        self.said(call, response, used).await.words
    }

    async fn said(&self, call: &Call<'_>, response: &mut Response, used: &Authorization) -> Said {
        match call.kind {
            Kind::ManifestHead | Kind::BlobHead => Said::default(),
            Kind::Manifest | Kind::Blob | Kind::Tags | Kind::Referrers | Kind::Token | Kind::Probe => {
                let signature = if self.is_foreign(response) { signature(&response.url) } else { Vec::new() };
                let mut secrets = self.auth.secrets(used);
                secrets.extend(signature.iter().map(String::as_str));
                words::said(response, &self.wire.counters, &secrets).await
            }
        }
    }
}

/// What of a signed address its server must not be quoted with (S18): the query, and each of its longer values, as they were
/// sent and as they were meant.
fn signature(url: &Url) -> Vec<String> {
    let Some(query) = url.query() else { return Vec::new() };
    let sent = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value.to_owned());
    let meant = url.query_pairs().map(|(_, value)| value.into_owned());
    // Short ones are versions and flags; without them the words would lose theirs.
    std::iter::once(query.to_owned()).chain(sent.chain(meant).filter(|value| value.len() >= 8)).collect()
}

/// lanyard asks for `identity`, and stores what it gets: it never decompresses (S15).
fn refuse_encoding(headers: &HeaderMap) -> Result<(), UpstreamError> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(UpstreamError::untrue("the answer is encoded, which lanyard did not ask for"))
        }
        _ => Ok(()),
    }
}
