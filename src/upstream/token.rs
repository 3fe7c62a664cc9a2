//! Bearer tokens and their cache (the distribution project's token specification; RFC 6750).
//!
//! - There is one token for each realm, service, scope and identity. One call gets it for all
//!   callers, also for those that find it stale: 200 requests that get a 401 at once cause one
//!   call.
//! - A token's life counts from before it was asked for, by the monotonic clock. `issued_at` is
//!   ignored, because the clocks of two machines differ.
//! - A failed call fails for all its waiters, and for the callers of the following second.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, header};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::{
    counters::RequestKind,
    error::UpstreamError,
    fetcher::{Request, Response},
    governor,
    identity::Identity,
    transport::{Transport, user_agent},
    words,
};

/// How long the token endpoint may take for its head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer of a token endpoint, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// The life of a token without `expires_in`, in seconds (token specification).
const DEFAULT_LIFE: f64 = 60.0;

/// The last quarter of a token's life is not used, at most so long before its end.
const MARGIN: Duration = Duration::from_secs(15);

/// How long a failure also answers later calls.
const FAILURE_STANDS: Duration = Duration::from_secs(1);

/// Above this number of requests, those without a good token are forgotten.
const MANY: usize = 1024;

/// The question for a token. It is the key of the cache.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct TokenRequest {
    /// The token endpoint, checked (S1).
    pub(super) realm: Url,
    /// The challenge's `service`.
    pub(super) service: Option<String>,
    /// The challenge's scopes, divided by spaces.
    pub(super) scope: String,
    /// The number of the identity that gets it. A new password gets new tokens.
    pub(super) holder: u64,
}

/// A token, as the header that carries it. Its `Debug` does not show it.
#[derive(Clone, Debug)]
pub(super) struct UpstreamToken {
    /// Marked sensitive.
    pub(super) header: HeaderValue,
    serial: u64,
    asked: Instant,
    good_until: Instant,
    opened: Arc<AtomicBool>,
}

impl UpstreamToken {
    /// Tells a token from the next one.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// The token itself, to cut it out of messages.
    pub(super) fn token(&self) -> Option<&str> {
        self.header.to_str().ok()?.strip_prefix("Bearer ")
    }

    /// Whether its life lasts.
    pub(super) fn is_good(&self) -> bool {
        Instant::now() < self.good_until
    }

    /// Notes that a request with it has succeeded.
    pub(super) fn has_opened(&self) {
        self.opened.store(true, Relaxed);
    }

    /// Whether no request with it has succeeded yet.
    pub(super) fn is_unproven(&self) -> bool {
        !self.opened.load(Relaxed)
    }

    /// How long ago it was asked for.
    pub(super) fn age(&self) -> Duration {
        self.asked.elapsed()
    }
}

#[derive(Debug, Default)]
struct TokenSlot {
    bearer: Option<UpstreamToken>,
    failed: Option<(Instant, UpstreamError)>,
}

/// The tokens of one upstream, by the question for them.
#[derive(Debug, Default)]
pub(super) struct TokenCache {
    slots: Mutex<HashMap<TokenRequest, Arc<tokio::sync::Mutex<TokenSlot>>>>,
    serials: AtomicU64,
}

impl TokenCache {
    /// A good token, but not the one with the serial number `stale`. The second value is true if it
    /// was fetched just now. `identity` is shown to the token endpoint.
    pub(super) async fn get(
        &self,
        wanted: &TokenRequest,
        stale: Option<u64>,
        identity: &Identity,
        transport: &Transport,
    ) -> Result<(UpstreamToken, bool), UpstreamError> {
        let asked = Instant::now();
        let slot = self.slot(wanted);
        let mut slot = slot.lock().await;
        if let Some(bearer) = slot.bearer.as_ref().filter(|b| b.is_good() && Some(b.serial) != stale) {
            return Ok((bearer.clone(), false));
        }
        if let Some((_, error)) = slot.failed.as_ref().filter(|(at, _)| *at >= asked || at.elapsed() < FAILURE_STANDS) {
            return Err(error.clone());
        }
        let fetched = self.fetch(wanted, identity, transport).await;
        slot.failed = fetched.as_ref().err().map(|error| (Instant::now(), error.clone()));
        slot.bearer = fetched.as_ref().ok().cloned();
        fetched.map(|bearer| (bearer, true))
    }

    /// Forgets a token that the registry refuses. A later request gets a new one.
    pub(super) async fn forget(&self, wanted: &TokenRequest, serial: u64) {
        let slot = self.slot(wanted);
        let mut slot = slot.lock().await;
        if slot.bearer.as_ref().is_some_and(|b| b.serial == serial) {
            slot.bearer = None;
        }
    }

    fn slot(&self, wanted: &TokenRequest) -> Arc<tokio::sync::Mutex<TokenSlot>> {
        let mut slots = self.slots.lock();
        if slots.len() >= MANY && !slots.contains_key(wanted) {
            // A caller that uses a slot, or waits for it, holds its Arc too. Slots with a good
            // token stay.
            let good = |slot: &TokenSlot| slot.bearer.as_ref().is_some_and(UpstreamToken::is_good);
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|slot| good(&slot)));
        }
        slots.entry(wanted.clone()).or_default().clone()
    }

    async fn fetch(
        &self,
        wanted: &TokenRequest,
        identity: &Identity,
        transport: &Transport,
    ) -> Result<UpstreamToken, UpstreamError> {
        let mut attempts = transport.retries.begin();
        loop {
            let error = match self.fetch_once(wanted, identity, transport).await {
                Ok(bearer) => return Ok(bearer),
                Err(error) => error,
            };
            if !attempts.again(&error).await {
                return Err(error);
            }
            transport.counters.retried();
        }
    }

    async fn fetch_once(
        &self,
        wanted: &TokenRequest,
        identity: &Identity,
        transport: &Transport,
    ) -> Result<UpstreamToken, UpstreamError> {
        let mut headers = HeaderMap::from_iter([user_agent()]);
        headers.extend(identity.basic.clone().map(|basic| (header::AUTHORIZATION, basic)));
        let begun = Instant::now();
        let request = Request { method: Method::GET, url: wanted.url(), headers, head_timeout: HEAD_TIMEOUT };
        let mut response = transport.send(RequestKind::Token, request).await?;
        if response.status != http::StatusCode::OK {
            return Err(refusal(&mut response, identity, transport).await);
        }
        let bytes = words::whole(&mut response, MAX_ANSWER, &transport.counters).await?;
        let (header, life) = read(&bytes)?;
        let good_until = begun + life - (life / 4).min(MARGIN);
        let serial = self.serials.fetch_add(1, Relaxed);
        Ok(UpstreamToken { header, serial, asked: begun, good_until, opened: Arc::default() })
    }
}

impl TokenRequest {
    /// Whether the other asks for the same, for any identity.
    pub(super) fn is_like(&self, other: &TokenRequest) -> bool {
        (&self.realm, &self.service, &self.scope) == (&other.realm, &other.service, &other.scope)
    }

    fn url(&self) -> Url {
        let mut url = self.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &self.service {
                query.append_pair("service", service);
            }
            for scope in self.scope.split_whitespace() {
                query.append_pair("scope", scope);
            }
        }
        url
    }
}

/// The error for a refusal by the token endpoint.
async fn refusal(response: &mut Response, identity: &Identity, transport: &Transport) -> UpstreamError {
    let status = response.status.as_u16();
    let secrets: Vec<&str> = identity.secrets.iter().map(String::as_str).collect();
    let message = words::of_error(response, &transport.counters, &secrets)
        .await
        .unwrap_or_else(|| format!("the token server answered with status {status}"));
    match status {
        401 | 403 => UpstreamError::Denied { status, message },
        429 => UpstreamError::RateLimited { retry_after: governor::retry_after_now(&response.headers), message },
        status => UpstreamError::Failed { status, message },
    }
}

#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

/// The token as a header, and its life.
fn read(bytes: &[u8]) -> Result<(HeaderValue, Duration), UpstreamError> {
    // serde_json's message could quote the token.
    let answer: TokenResponse =
        serde_json::from_slice(bytes).map_err(|_| UpstreamError::untrue("the token server's answer is not a token"))?;
    let token = [answer.token, answer.access_token].into_iter().flatten().find(|token| !token.is_empty());
    let token = token.ok_or_else(|| UpstreamError::untrue("the token server's answer holds no token"))?;
    let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| UpstreamError::untrue("the token server's token does not fit into a header"))?;
    header.set_sensitive(true);
    let life = answer.expires_in.filter(|life| *life > 0.0).unwrap_or(DEFAULT_LIFE).clamp(0.1, 86_400.0);
    Ok((header, Duration::from_secs_f64(life)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_tokens_in_all_spellings() {
        let read = |s: &str| read(s.as_bytes()).map(|(h, life)| (h.to_str().unwrap().to_owned(), life.as_secs()));
        assert_eq!(read(r#"{"token":"a","access_token":"b","expires_in":300}"#).unwrap(), ("Bearer a".into(), 300));
        assert_eq!(read(r#"{"access_token":"b"}"#).unwrap(), ("Bearer b".into(), 60));
        assert_eq!(read(r#"{"token":"","access_token":"b","expires_in":0}"#).unwrap(), ("Bearer b".into(), 60));
        assert_eq!(read(r#"{"token":"a","expires_in":1e300}"#).unwrap().1, 86_400);
        for bad in ["", "{}", "[]", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, r#"{"token":1}"#, "<html>"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn s18_a_token_is_not_shown() {
        let (header, _) = read(br#"{"token":"CANARY"}"#).unwrap();
        let now = Instant::now();
        let bearer = UpstreamToken { header, serial: 0, asked: now, good_until: now, opened: Arc::default() };
        assert!(!format!("{bearer:?}").contains("CANARY"));
        let error = read(br#"{"token":"CANARY","expires_in":"CANARY"}"#).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("CANARY"));
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, life: f64) {
            let _ = read(&bytes);
            let _ = read(format!("{{\"token\":\"a\",\"expires_in\":{life}}}").as_bytes());
        }
    }
}
