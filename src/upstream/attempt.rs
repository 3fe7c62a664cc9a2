//! One attempt of a call: the request, the answers to challenges, and the meaning of the status.
//!
//! `admission.rs` calls [`Registry::attempt`] and decides about the next one. An attempt sends at
//! most [`MAX_CHALLENGES`] requests.

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

/// The most challenges that one request answers. A token can expire while its request waits for a
/// connection, so two are not enough. A registry that challenges for ever is given up.
const MAX_CHALLENGES: u32 = 4;

/// The reason why an attempt failed.
pub(super) struct Miss {
    pub(super) error: UpstreamError,
    /// A content network refused that the registry had redirected to, not the registry.
    pub(super) elsewhere: bool,
}

impl From<UpstreamError> for Miss {
    fn from(error: UpstreamError) -> Self {
        Miss { error, elsewhere: false }
    }
}

impl Registry {
    /// Sends the request, and sends it again with the credentials that the registry asks for.
    pub(super) async fn attempt(&self, call: &Call<'_>) -> Result<Success, Miss> {
        let name = self.name_there(call.repository);
        let Prepared { authorization: mut used, trouble } = self.auth.prepare(&self.transport, &name).await;
        // The URL that a redirect led to, if a token was got for it. The token would not survive
        // another redirect (S3), so the request goes there directly.
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
            // This lets go of the body, and so of its connection.
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
        let exhausted = || UpstreamError::Denied { status: 401, message: "the registry refuses its own tokens".into() };
        // Requests without credentials were refused. The reason why there were none says more.
        Err(trouble.unwrap_or_else(exhausted).into())
    }

    /// Returns what to carry after a 401, and the URL to send it to if a redirect led elsewhere.
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
        // Drop the body before asking for the token: the body holds a connection, and the token
        // needs one.
        let Response { headers, url, body, .. } = response;
        drop(body);
        let elsewhere = foreign.then_some(&url);
        let challenged = Challenged { headers: &headers, words, elsewhere, from_memory };
        match self.auth.answer(&self.transport, name, challenged, used).await {
            Ok(authorization) => Ok((authorization, foreign.then_some(url))),
            // A registry refused, at whatever host. `head_blob` must not take this for an address
            // that is signed for GET only.
            Err(UpstreamError::Failed { status: 401, message }) if registry => {
                Err(UpstreamError::Denied { status: 401, message }.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Turns the answer into a success or an error.
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
            // A content network's 429 says nothing about the registry's other repositories.
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

    /// The error for a content network that lacks the content or refuses a signed address. It says
    /// nothing about the registry.
    fn refused_elsewhere(&self, call: &Call<'_>, response: &Response, words: Option<String>) -> Miss {
        let status = response.status.as_u16();
        let host = response.url.host_str().unwrap_or_default();
        let words = words.map(|words| format!(": {words}")).unwrap_or_default();
        let message = format!("{host}, where the registry redirects to, answered with status {status}{words}");
        // An address that is signed for GET refuses a HEAD. A fresh address does too.
        let signed = call.kind == RequestKind::BlobHead && matches!(status, 401 | 403);
        Miss { error: UpstreamError::Failed { status, message }, elsewhere: !signed }
    }

    /// Whether another origin than the registry's own answered, after a redirect.
    fn is_foreign(&self, response: &Response) -> bool {
        response.url.origin() != self.config().url.origin()
    }

    /// The upstream's own words in an error.
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

/// Whether an answer from another origin is a registry's nevertheless. registry.k8s.io and
/// registries under a vanity name redirect their whole API, so that only the last answer exists.
/// Such a host says that it is a registry, or is asked for the same content under a `/v2/` path of
/// its own. The paths of content networks differ, and their 404 means that an object is lost.
fn is_registry(asked: &Url, response: &Response) -> bool {
    let thing = |url: &Url| url.path().rsplit('/').take(2).map(str::to_owned).collect::<Vec<_>>();
    let same = response.url.path().contains("/v2/") && thing(asked) == thing(&response.url);
    same || response.headers.contains_key("docker-distribution-api-version")
}

/// The parts of a signed address that must not appear in a message (S18): the query, and each of
/// its longer values, both as sent and percent-decoded.
fn signature(url: &Url) -> Vec<String> {
    let Some(query) = url.query() else { return Vec::new() };
    let sent = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value.to_owned());
    let meant = url.query_pairs().map(|(_, value)| value.into_owned());
    // Short values are versions and flags. To cut them out would mutilate the message.
    std::iter::once(query.to_owned()).chain(sent.chain(meant).filter(|value| value.len() >= 8)).collect()
}

/// Refuses an encoded body. lanyard asks for `identity`, stores bytes as they come, and never
/// decompresses (S15).
fn refuse_encoding(headers: &HeaderMap) -> Result<(), UpstreamError> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(UpstreamError::untrue("the answer has an encoding that lanyard did not ask for"))
        }
        _ => Ok(()),
    }
}
