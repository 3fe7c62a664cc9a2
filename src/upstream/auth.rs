//! What lanyard shows a registry of itself: nothing, a user name and password, or a token.
//!
//! The first request to a registry is anonymous. lanyard remembers the challenge, so that a later
//! request, also for another repository, brings its token along and saves a round trip. With
//! credentials, lanyard first asks `/v2/` for the challenge: a registry may hide from anonymous
//! clients that it has a sign-in.
//!
//! Credentials go to the registry itself and to its token endpoint, which [`realm`] must have
//! allowed (S1). The target of a redirect gets a token of its own if `token_hosts` names it, and
//! never a password.
//!
//! `answering.rs` answers a 401. Nothing that a fault taught outlives the fault: lanyard drops a
//! remembered challenge that opens nothing any more and asks the registry anew, and replaces a
//! refused token once. All of this is limited by [`DOUBT`], and a request is sent a few times at
//! most (`attempt.rs`).

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use tokio::time::Instant;
use url::Url;

use super::{
    challenge::{self, Challenge},
    counters::RequestKind,
    error::UpstreamError,
    fetcher::{Request, Response},
    identity::{Identities, Identity},
    realm,
    scheme::{AuthScheme, LearnedScheme, ScopeRule},
    token::{TokenCache, TokenRequest, UpstreamToken},
    transport::{Transport, user_agent},
};
use crate::config;

/// A refusal does not renew what came less than this ago: the renewal would come out the same.
const DOUBT: Duration = Duration::from_secs(1);

/// How long the answer to `/v2/` may take.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How one upstream is asked.
pub(super) struct RegistryAuth {
    pub(super) upstream: Url,
    ping: Url,
    pub(super) token_hosts: Vec<String>,
    pub(super) identities: Identities,
    pub(super) learned: LearnedScheme,
    /// The last question to `/v2/`. The lock is held during the question, so that many requests ask
    /// once.
    greeting: tokio::sync::Mutex<Option<Greeting>>,
    /// The last time that a refusal made a request leave out the password.
    doubted: Mutex<Option<Instant>>,
    pub(super) tokens: TokenCache,
}

/// The time of a question to `/v2/`, and the error if it taught nothing.
struct Greeting {
    at: Instant,
    trouble: Option<UpstreamError>,
}

/// What a request carries.
#[derive(Clone)]
pub(super) enum Authorization {
    /// Nothing.
    Anonymous,
    /// User name and password.
    Basic(Arc<Identity>),
    /// A token.
    Bearer(Box<Carried>),
}

/// A token and its history.
#[derive(Clone)]
pub(super) struct Carried {
    /// The key under which the cache has it.
    pub(super) wanted: TokenRequest,
    pub(super) bearer: UpstreamToken,
    /// The token was got for this request. If it is refused, another one would be refused too.
    pub(super) fresh: bool,
    /// The identity that the token was given to.
    pub(super) identity: Arc<Identity>,
}

/// The credentials of a request's first attempt.
pub(super) struct Prepared {
    pub(super) authorization: Authorization,
    /// Why the credentials are missing, if they are. A refusal then proves nothing.
    pub(super) trouble: Option<UpstreamError>,
}

impl RegistryAuth {
    pub(super) fn new(config: &config::Upstream, ping: Url, runtime: tokio::runtime::Handle) -> Self {
        RegistryAuth {
            upstream: config.url.clone(),
            ping,
            token_hosts: config.token_hosts.clone(),
            identities: Identities::new(config, runtime),
            learned: LearnedScheme::default(),
            greeting: tokio::sync::Mutex::default(),
            doubted: Mutex::default(),
            tokens: TokenCache::default(),
        }
    }

    /// The `Authorization` header of a request.
    pub(super) fn header(&self, authorization: &Authorization) -> Option<HeaderValue> {
        match authorization {
            Authorization::Anonymous => None,
            Authorization::Basic(identity) => identity.basic.clone(),
            Authorization::Bearer(carried) => Some(carried.bearer.header.clone()),
        }
    }

    /// The credentials for a request to this repository, as far as lanyard knows.
    pub(super) async fn prepare(&self, transport: &Transport, repository: &str) -> Prepared {
        let mut trouble = None;
        if self.learned.get().is_none() && self.identities.has_credentials() {
            trouble = self.greet(transport, None).await;
        }
        let authorization = match self.remembered(transport, repository).await {
            Ok(authorization) => authorization.unwrap_or(Authorization::Anonymous),
            // Ask the registry without a token: it may have another token server now, or want no
            // token here.
            Err(error) => {
                trouble = Some(error).filter(UpstreamError::is_outage);
                if trouble.is_some() && self.learned.get().is_none() {
                    *self.greeting.lock().await = Some(Greeting { at: Instant::now(), trouble: trouble.clone() });
                }
                Authorization::Anonymous
            }
        };
        Prepared { authorization, trouble }
    }

    /// The credentials that the learned scheme asks for. A scheme that leads to no token is
    /// forgotten.
    async fn remembered(
        &self,
        transport: &Transport,
        repository: &str,
    ) -> Result<Option<Authorization>, UpstreamError> {
        let scheme = self.learned.get();
        let (realm, service, rule) = match &scheme {
            None => return Ok(None),
            Some(AuthScheme::Basic) => return Ok(Some(Authorization::Basic(self.identities.current().await))),
            Some(AuthScheme::Bearer { realm, service, rule }) => (realm.clone(), service.clone(), rule),
        };
        let wanted = TokenRequest { realm, service, scope: rule.scope(repository), holder: 0 };
        let carried = self.token(transport, wanted, None).await;
        if let (Some(scheme), Err(error)) = (&scheme, &carried) {
            match error {
                // The token server answered about this repository's name. Its scheme is right.
                UpstreamError::Denied { .. } | UpstreamError::RateLimited { .. } => {}
                UpstreamError::NotFound { .. }
                | UpstreamError::Failed { .. }
                | UpstreamError::Unreachable(_)
                | UpstreamError::CircuitOpen { .. }
                | UpstreamError::Untrue { .. }
                | UpstreamError::RangeNotSatisfiable
                | UpstreamError::Blocked
                | UpstreamError::Offline => self.learned.forget(scheme),
            }
        }
        carried.map(|carried| Some(Authorization::Bearer(carried)))
    }

    /// Asks `/v2/` for the registry's challenge, and learns from it. A question that failed is
    /// asked again after [`DOUBT`]. With `older`, one that succeeded is asked again when it is at
    /// least so old. Returns the error if the answer taught nothing.
    async fn greet(&self, transport: &Transport, older: Option<Duration>) -> Option<UpstreamError> {
        let mut greeting = self.greeting.lock().await;
        if self.learned.get().is_some() {
            return None;
        }
        if let Some(last) = &*greeting {
            let due = if last.trouble.is_some() { Some(DOUBT) } else { older };
            if due.is_none_or(|due| last.at.elapsed() < due) {
                return last.trouble.clone();
            }
        }
        let headers = HeaderMap::from_iter([user_agent()]);
        let url = self.ping.clone();
        let request = Request { method: Method::GET, url, headers, head_timeout: PING_TIMEOUT };
        let trouble = match transport.send(RequestKind::Greeting, request).await {
            Ok(response) => self.learn(&response),
            Err(error) => Some(error),
        };
        *greeting = Some(Greeting { at: Instant::now(), trouble: trouble.clone() });
        trouble
    }

    fn learn(&self, response: &Response) -> Option<UpstreamError> {
        let status = response.status.as_u16();
        if status >= 500 || status == 429 {
            return Some(UpstreamError::Failed { status, message: format!("/v2/ was answered with status {status}") });
        }
        if status != 401 || response.url.origin() != self.upstream.origin() {
            return None;
        }
        let challenges = parsed(&response.headers);
        let mut refused = None;
        for bearer in bearers(&challenges) {
            match realm::check(bearer.param("realm").unwrap_or_default(), &self.upstream, &self.token_hosts) {
                Ok(realm) => {
                    // The scope of this challenge, if it has one, is for `/v2/` itself.
                    let service = bearer.param("service").map(str::to_owned);
                    self.learned.remember(AuthScheme::Bearer { realm, service, rule: ScopeRule::usual() });
                    return None;
                }
                Err(why) => refused = Some(why),
            }
        }
        if challenges.iter().any(Challenge::is_basic) {
            self.learned.remember(AuthScheme::Basic);
            return None;
        }
        refused.map(|message| UpstreamError::Denied { status, message })
    }

    /// Returns other credentials after a refusal that was no 401, if they may have another result.
    /// The refused request carried `used`.
    pub(super) async fn instead(
        &self,
        transport: &Transport,
        repository: &str,
        status: StatusCode,
        used: &Authorization,
    ) -> Result<Option<Authorization>, UpstreamError> {
        match used {
            // The registry may hide its content from anonymous clients.
            Authorization::Anonymous => self.signed_in(transport, repository).await,
            // Another server than the registry may have asked for the password.
            Authorization::Basic(_) if self.doubts() => {
                self.learned.forget(&AuthScheme::Basic);
                match self.signed_in(transport, repository).await? {
                    Some(Authorization::Basic(_)) => Ok(None),
                    other => Ok(Some(other.unwrap_or(Authorization::Anonymous))),
                }
            }
            Authorization::Basic(_) => Ok(None),
            Authorization::Bearer(carried) => {
                // A token that has opened something is good, so the content is not there. A token
                // that was got with credentials may still be an anonymous one.
                let doubted = status == StatusCode::FORBIDDEN
                    || carried.bearer.is_unproven() && self.identities.has_credentials();
                if carried.fresh || !doubted || carried.bearer.age() < DOUBT {
                    return Ok(None);
                }
                if let Some(other) = self.signed_in_anew(transport, repository, carried).await {
                    return Ok(Some(other));
                }
                // Without another token, the refusal is the answer.
                let stale = Some(carried.bearer.serial());
                let Ok(mut another) = self.token(transport, carried.wanted.clone(), stale).await else {
                    return Ok(None);
                };
                another.fresh = true;
                Ok(Some(Authorization::Bearer(another)))
            }
        }
    }

    /// A fault may have caused the challenge behind this token. Returns the credentials that `/v2/`
    /// asks for now, if they differ.
    async fn signed_in_anew(
        &self,
        transport: &Transport,
        repository: &str,
        carried: &Carried,
    ) -> Option<Authorization> {
        let scheme = self.learned.get().filter(|_| carried.bearer.is_unproven());
        scheme.iter().for_each(|scheme| self.learned.forget(scheme));
        let signed_in = self.signed_in(transport, repository).await;
        if let Some(scheme) = scheme
            && self.learned.get().is_none()
        {
            // `/v2/` taught nothing better.
            self.learned.remember(scheme);
        }
        match signed_in.ok()?? {
            Authorization::Bearer(another) if another.wanted.is_like(&carried.wanted) => None,
            other => Some(other),
        }
    }

    /// Whether to ask without a password. It is true for one caller, and not again within
    /// [`DOUBT`].
    fn doubts(&self) -> bool {
        let mut doubted = self.doubted.lock();
        let due = doubted.is_none_or(|at| at.elapsed() >= DOUBT);
        if due {
            *doubted = Some(Instant::now());
        }
        due
    }

    /// The credentials for a registry that has sent no challenge, if there are any.
    pub(super) async fn signed_in(
        &self,
        transport: &Transport,
        repository: &str,
    ) -> Result<Option<Authorization>, UpstreamError> {
        if !self.identities.has_credentials() {
            return Ok(None);
        }
        match self.greet(transport, Some(DOUBT)).await {
            Some(trouble) => Err(trouble),
            None => self.remembered(transport, repository).await,
        }
    }

    /// A token for the credentials of now. If they are refused, the password file is read again.
    pub(super) async fn token(
        &self,
        transport: &Transport,
        mut wanted: TokenRequest,
        stale: Option<u64>,
    ) -> Result<Box<Carried>, UpstreamError> {
        let mut identity = self.identities.current().await;
        wanted.holder = identity.number;
        let mut got = self.tokens.get(&wanted, stale, &identity, transport).await;
        if got.as_ref().is_err_and(|error| !error.is_outage())
            && let Some(renewed) = self.identities.instead_of(&identity).await
        {
            (wanted.holder, identity) = (renewed.number, renewed);
            got = self.tokens.get(&wanted, None, &identity, transport).await;
        }
        got.map(|(bearer, fresh)| Box::new(Carried { wanted, bearer, fresh, identity }))
    }

    /// Records that a request with `used` succeeded.
    pub(super) fn opened(&self, used: &Authorization) {
        if let Authorization::Bearer(carried) = used {
            carried.bearer.has_opened();
        }
    }

    /// The strings that a message must not hold if the upstream echoes them (S18).
    pub(super) fn secrets(&self, used: &Authorization) -> Vec<String> {
        let mut secrets = self.identities.now().secrets.clone();
        match used {
            Authorization::Anonymous => {}
            Authorization::Basic(identity) => secrets.extend(identity.secrets.iter().cloned()),
            Authorization::Bearer(carried) => {
                secrets.extend(carried.identity.secrets.iter().cloned());
                secrets.extend(carried.bearer.token().map(str::to_owned));
            }
        }
        secrets
    }
}

pub(super) fn parsed(headers: &HeaderMap) -> Vec<Challenge> {
    challenge::parse(headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|line| line.to_str().ok()))
}

/// The Bearer challenges that have a realm.
pub(super) fn bearers(challenges: &[Challenge]) -> impl Iterator<Item = &Challenge> {
    challenges.iter().filter(|challenge| challenge.is_bearer() && challenge.param("realm").is_some())
}
