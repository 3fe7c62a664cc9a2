//! One attempt of a call: the request, what a challenge asks for, and what the answer's status
//! means. Called by `admission.rs`.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use tokio::time::Instant;
use url::Url;

use super::{
    answering::Challenged,
    auth::{Authorization, Prepared},
    call::{Call, Success},
    counters::RequestKind,
    error::UpstreamError,
    fetcher::Response,
    governor::{self, Limit},
    registry::Registry,
    words::{self, ErrorWords},
};

/// How often one request may be challenged. A token can expire while its request waits for a connection, so two is not
/// enough; a registry that never has enough is not asked for ever.
const MAX_CHALLENGES: u32 = 4;

/// Why an attempt gave nothing.
pub(super) struct Miss {
    pub(super) error: UpstreamError,
    /// It was not the registry that refused, but a content network that it had redirected to.
    pub(super) elsewhere: bool,
}

impl From<UpstreamError> for Miss {
    fn from(error: UpstreamError) -> Self {
        Miss { error, elsewhere: false }
    }
}

impl Registry {
    /// Sends the request, and again with what the registry asks for.
    pub(super) async fn attempt(&self, call: &Call<'_>) -> Result<Success, Miss> {
        let name = self.name_there(call.repository);
        let Prepared { authorization: mut used, trouble } = self.auth.prepare(&self.transport, &name).await;
        // Where a redirect led, once a token was got for that place: it would not survive another
        // redirect (S3).
        let mut there: Option<Url> = None;
        for round in 0..MAX_CHALLENGES {
            let mut request = call.request(self.auth.header(&used));
            if let Some(url) = &there {
                request.url = url.clone();
            }
            let response = self.transport.send(call.kind, request).await?;
            let foreign = self.is_foreign(&response);
            let status = response.status;
            let hidden = matches!(status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) && !foreign;
            if status == StatusCode::UNAUTHORIZED {
                (used, there) = match self.challenged(call, &name, response, &used, round == 0).await {
                    Err(Miss { error: UpstreamError::Denied { .. }, .. }) if trouble.is_some() => break,
                    other => other?,
                };
                continue;
            }
            // The body is let go first.
            let judged = self.judge(call, response, &used).await;
            if !hidden {
                return judged;
            }
            match self.auth.instead(&self.transport, &name, status, &used).await? {
                Some(other) => used = other,
                None if trouble.is_some() && matches!(used, Authorization::Anonymous) => break,
                None => return judged,
            }
        }
        let exhausted =
            || UpstreamError::Denied { status: 401, message: "the registry takes none of its own tokens".into() };
        // Strangers were refused, and why lanyard was one says more.
        Err(trouble.unwrap_or_else(exhausted).into())
    }

    /// What to carry after a 401, and where to, if a redirect had led elsewhere.
    async fn challenged(
        &self,
        call: &Call<'_>,
        name: &str,
        mut response: Response,
        used: &Authorization,
        from_memory: bool,
    ) -> Result<(Authorization, Option<Url>), Miss> {
        let foreign = self.is_foreign(&response);
        let registry = is_registry(&call.url, &response);
        let words = self.words(call, &mut response, used).await;
        if foreign && !registry && !response.headers.contains_key(header::WWW_AUTHENTICATE) {
            return Err(self.refused_elsewhere(call, &response, words));
        }
        // The body is let go before the token is asked for: it holds a connection, and the token
        // needs one.
        let Response { headers, url, body, .. } = response;
        drop(body);
        let elsewhere = foreign.then_some(&url);
        let challenged = Challenged { headers: &headers, words, elsewhere, from_memory };
        match self.auth.answer(&self.transport, name, challenged, used).await {
            Ok(authorization) => Ok((authorization, foreign.then_some(url))),
            // A registry's refusal, wherever it stands: it is not the silence of an address that is
            // signed for GET.
            Err(UpstreamError::Failed { status: 401, message }) if registry => {
                Err(UpstreamError::Denied { status: 401, message }.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What the answer means.
    async fn judge(&self, call: &Call<'_>, mut response: Response, used: &Authorization) -> Result<Success, Miss> {
        let foreign = self.is_foreign(&response);
        if !foreign {
            let (mut governor, now) = (self.governor.lock(), Instant::now());
            governor.observe(&response.headers, now);
            if response.status != StatusCode::TOO_MANY_REQUESTS {
                governor.passed(call.kind, call.repository, now);
            }
        }
        if response.status.is_success() {
            refuse_encoding(&response.headers)?;
            let bytes = match call.whole {
                Some(cap) => words::whole(&mut response, cap, &self.transport.counters).await?,
                None => Bytes::new(),
            };
            self.auth.opened(used);
            let Response { status, headers, url: _, body } = response;
            return Ok(Success { status, headers, bytes, body });
        }
        let status = response.status.as_u16();
        let ErrorWords { words, listed } = self.said(call, &mut response, used).await;
        if matches!(status, 400 | 401 | 403 | 404 | 410) && foreign && !is_registry(&call.url, &response) {
            return Err(self.refused_elsewhere(call, &response, words));
        }
        let message = words.unwrap_or_else(|| match status {
            404 => "not found".into(),
            403 => "access denied".into(),
            429 => "too many requests".into(),
            status => format!("status {status}"),
        });
        Err(Miss::from(match status {
            404 | 410 => UpstreamError::NotFound { message, told: listed },
            401 | 403 => UpstreamError::Denied { status, message },
            416 => UpstreamError::RangeNotSatisfiable,
            // That of a content network says nothing about the registry's other repositories.
            429 if foreign => {
                UpstreamError::RateLimited { retry_after: governor::retry_after_now(&response.headers), message }
            }
            429 => {
                let (now, wall) = (Instant::now(), SystemTime::now());
                let mut governor = self.governor.lock();
                let limit = Limit { kind: call.kind, repository: call.repository, message: &message };
                let retry_after = governor.limited(&limit, &response.headers, now, wall);
                UpstreamError::RateLimited { retry_after, message }
            }
            status => UpstreamError::Failed { status, message },
        }))
    }

    /// A content network that has not what it was asked for, or refuses a signed address, says
    /// nothing about the registry.
    fn refused_elsewhere(&self, call: &Call<'_>, response: &Response, words: Option<String>) -> Miss {
        let status = response.status.as_u16();
        let host = response.url.host_str().unwrap_or_default();
        let words = words.map(|words| format!(": {words}")).unwrap_or_default();
        let message = format!("{host}, where the registry redirects to, answered with status {status}{words}");
        // Addresses that are signed for GET refuse a HEAD, however fresh they are.
        let signed = call.kind == RequestKind::BlobHead && matches!(status, 401 | 403);
        Miss { error: UpstreamError::Failed { status, message }, elsewhere: !signed }
    }

    /// Whether it was answered by another origin than the registry's own, after a redirect.
    fn is_foreign(&self, response: &Response) -> bool {
        response.url.origin() != self.config().url.origin()
    }

    /// The upstream's own words about an error.
    async fn words(&self, call: &Call<'_>, response: &mut Response, used: &Authorization) -> Option<String> {
        self.said(call, response, used).await.words
    }

    async fn said(&self, call: &Call<'_>, response: &mut Response, used: &Authorization) -> ErrorWords {
        match call.kind {
            RequestKind::ManifestHead | RequestKind::BlobHead => ErrorWords::default(),
            RequestKind::Manifest
            | RequestKind::Blob
            | RequestKind::Tags
            | RequestKind::Referrers
            | RequestKind::Token
            | RequestKind::Greeting
            | RequestKind::Probe => {
                let signature = if self.is_foreign(response) { signature(&response.url) } else { Vec::new() };
                let mut secrets = self.auth.secrets(used);
                secrets.extend(signature);
                let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
                words::said(response, &self.transport.counters, &secrets).await
            }
        }
    }
}

/// Whether a foreign answer is a registry's nevertheless: registry.k8s.io and registries under a
/// vanity name redirect their whole API, so that the last answer is the only one there is. Such a
/// place says that it is a registry, or is asked for the same thing under a `/v2/` of its own. The
/// paths of content networks are others, and their 404 is the loss of an object.
fn is_registry(asked: &Url, response: &Response) -> bool {
    let thing = |url: &Url| url.path().rsplit('/').take(2).map(str::to_owned).collect::<Vec<_>>();
    let same = response.url.path().contains("/v2/") && thing(asked) == thing(&response.url);
    same || response.headers.contains_key("docker-distribution-api-version")
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
