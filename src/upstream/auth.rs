//! What lanyard shows a registry of itself: nothing, a user name and password, or a token.
//!
//! The first request to a registry is anonymous. What it challenges with is remembered, so that a
//! later request, for another repository as well, brings its token along and saves a round trip.
//! With credentials, `/v2/` is asked first what it wants to see: a registry may hide from strangers
//! that there is anything to sign in for.
//!
//! Credentials go to the registry itself and to its token endpoint, which [`realm`] must have
//! allowed (S1). A place that a redirect led to is shown a token of its own where `token_hosts`
//! says so, and never a password.
//!
//! A 401 is answered in `answering.rs`. Nothing that a fault taught outlives it: a remembered
//! challenge that no longer opens anything is dropped, and the registry is asked anew without it; a
//! token that is refused is replaced once. All of it within [`DOUBT`], and each request is sent a
//! few times at most (`call.rs`).

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

/// What came less than this ago is not asked for again because of a refusal: it would come out the
/// same.
const DOUBT: Duration = Duration::from_secs(1);

/// How long `/v2/` may take to say what it wants to see.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// One upstream's way of being asked.
pub(super) struct RegistryAuth {
    pub(super) upstream: Url,
    ping: Url,
    pub(super) token_hosts: Vec<String>,
    pub(super) identities: Identities,
    pub(super) learned: LearnedScheme,
    /// The last look at `/v2/`. Held while it is asked, so that it is asked once for all.
    greeting: tokio::sync::Mutex<Option<Greeting>>,
    /// When a password was last left out because of a refusal.
    doubted: Mutex<Option<Instant>>,
    pub(super) tokens: TokenCache,
}

/// When `/v2/` was asked, and why that led to nothing, where it did not.
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

/// A token and what is known of it.
#[derive(Clone)]
pub(super) struct Carried {
    /// What it is for.
    pub(super) wanted: TokenRequest,
    pub(super) bearer: UpstreamToken,
    /// It was got for this very request: when it is refused, another would be refused as well.
    pub(super) fresh: bool,
    /// Whom it was given to.
    pub(super) identity: Arc<Identity>,
}

/// What a request should carry at first.
pub(super) struct Prepared {
    pub(super) authorization: Authorization,
    /// Why it does not carry what it should. A refusal then tells nothing.
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

    /// The header of a request.
    pub(super) fn header(&self, authorization: &Authorization) -> Option<HeaderValue> {
        match authorization {
            Authorization::Anonymous => None,
            Authorization::Basic(identity) => identity.basic.clone(),
            Authorization::Bearer(carried) => Some(carried.bearer.header.clone()),
        }
    }

    /// What a request for this repository should carry, as far as is known.
    pub(super) async fn prepare(&self, transport: &Transport, repository: &str) -> Prepared {
        let mut trouble = None;
        if self.learned.get().is_none() && self.identities.is_somebody() {
            trouble = self.greet(transport, None).await;
        }
        let authorization = match self.remembered(transport, repository).await {
            Ok(authorization) => authorization.unwrap_or(Authorization::Anonymous),
            // The registry is asked without: it may have another token server by now, or want no
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

    /// What memory says to carry. A challenge that leads to no token is forgotten.
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
                // An answer of the token server, to this repository's name.
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

    /// Asks `/v2/` what the registry wants to see, and remembers it. `older`: also where it was
    /// asked before, so long ago at least; without it, only a failure is asked for again. Why that
    /// told nothing, where it did not.
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
                    // Its scope, where it has one, is that of `/v2/` itself.
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

    /// The registry refused, in another way than by 401, a request that carried `used`: what to
    /// carry instead, where that may come out otherwise.
    pub(super) async fn instead(
        &self,
        transport: &Transport,
        repository: &str,
        status: StatusCode,
        used: &Authorization,
    ) -> Result<Option<Authorization>, UpstreamError> {
        match used {
            // It may hide what is there from strangers.
            Authorization::Anonymous => self.signed_in(transport, repository).await,
            // Whoever asked for a password may not have been the registry.
            Authorization::Basic(_) if self.doubts() => {
                self.learned.forget(&AuthScheme::Basic);
                match self.signed_in(transport, repository).await? {
                    Some(Authorization::Basic(_)) => Ok(None),
                    other => Ok(Some(other.unwrap_or(Authorization::Anonymous))),
                }
            }
            Authorization::Basic(_) => Ok(None),
            Authorization::Bearer(carried) => {
                // A token that has opened something is good: then it is the content that is not
                // there. One that was got with credentials may be a stranger's all the same.
                let doubted =
                    status == StatusCode::FORBIDDEN || carried.bearer.is_unproven() && self.identities.is_somebody();
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

    /// The challenge that a token was got for may have been a fault's: what `/v2/` says to carry by
    /// now, if that is something else.
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
            // Nothing better was learned.
            self.learned.remember(scheme);
        }
        match signed_in.ok()?? {
            Authorization::Bearer(another) if another.wanted.is_like(&carried.wanted) => None,
            other => Some(other),
        }
    }

    /// Whether to ask without a password. True for one caller, and not again for a while.
    fn doubts(&self) -> bool {
        let mut doubted = self.doubted.lock();
        let due = doubted.is_none_or(|at| at.elapsed() >= DOUBT);
        if due {
            *doubted = Some(Instant::now());
        }
        due
    }

    /// What to carry to a registry that has not said by itself what it wants, with credentials.
    pub(super) async fn signed_in(
        &self,
        transport: &Transport,
        repository: &str,
    ) -> Result<Option<Authorization>, UpstreamError> {
        if !self.identities.is_somebody() {
            return Ok(None);
        }
        match self.greet(transport, Some(DOUBT)).await {
            Some(trouble) => Err(trouble),
            None => self.remembered(transport, repository).await,
        }
    }

    /// A token, with the credentials as of now; where those are refused, with those that the file
    /// holds by now.
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

    /// The registry answered a request that carried `used` with success.
    pub(super) fn opened(&self, used: &Authorization) {
        if let Authorization::Bearer(carried) = used {
            carried.bearer.has_opened();
        }
    }

    /// What must not be passed on where the upstream echoes it (S18).
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

/// The Bearer challenges that can be answered.
pub(super) fn bearers(challenges: &[Challenge]) -> impl Iterator<Item = &Challenge> {
    challenges.iter().filter(|challenge| challenge.is_bearer() && challenge.param("realm").is_some())
}
