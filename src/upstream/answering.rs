//! How lanyard answers a 401: with a token, with user name and password, or not at all (S1).
//!
//! Only `attempt.rs` calls it, through [`RegistryAuth::answer`]. It changes what [`RegistryAuth`]
//! has learned about the registry (`scheme.rs`) and the cache of tokens (`token.rs`).

use http::HeaderMap;
use url::Url;

use super::{
    auth::{Authorization, RegistryAuth, bearers, parsed},
    challenge::Challenge,
    error::UpstreamError,
    fetcher::FetchError,
    realm,
    scheme::{AuthScheme, ScopeRule},
    token::TokenRequest,
    transport::Transport,
};

/// A 401 and how the request came to it.
pub(super) struct Challenged<'a> {
    pub(super) headers: &'a HeaderMap,
    /// The registry's own words.
    pub(super) words: Option<String>,
    /// The URL that answered, if a redirect led to another origin.
    pub(super) elsewhere: Option<&'a Url>,
    /// The request carried what an earlier request taught, not the answer to a challenge of its
    /// own.
    pub(super) from_memory: bool,
}

impl RegistryAuth {
    /// Returns what to carry after a 401 to a request that carried `used`. The error is
    /// [`UpstreamError::Denied`] if nothing helps.
    pub(super) async fn answer(
        &self,
        transport: &Transport,
        repository: &str,
        challenged: Challenged<'_>,
        used: &Authorization,
    ) -> Result<Authorization, UpstreamError> {
        let challenges = parsed(challenged.headers);
        let mut refused = None;
        for bearer in bearers(&challenges) {
            match self.token_request(bearer, repository, challenged.elsewhere) {
                Ok((wanted, scheme)) => {
                    let authorization = self.by_token(transport, wanted, used, &challenged).await?;
                    if challenged.elsewhere.is_none() && scheme.is_general() {
                        self.learned.remember(scheme);
                    }
                    return Ok(authorization);
                }
                Err(why) => refused = Some(why),
            }
        }
        if challenged.elsewhere.is_some() {
            return Err(self.turned_away(challenged, refused));
        }
        if challenges.iter().any(Challenge::is_basic) && self.identities.has_credentials() {
            return self.by_password(used, challenged).await;
        }
        match refused {
            Some(why) => Err(denied(&challenged, Some(why))),
            None => self.without_a_word(transport, repository, challenged, used).await,
        }
    }

    /// Gets a token for a Bearer challenge.
    async fn by_token(
        &self,
        transport: &Transport,
        wanted: TokenRequest,
        used: &Authorization,
        challenged: &Challenged<'_>,
    ) -> Result<Authorization, UpstreamError> {
        let mut stale = None;
        if let Authorization::Bearer(carried) = used
            && carried.wanted.is_like(&wanted)
        {
            if carried.fresh && carried.bearer.is_good() {
                self.tokens.forget(&carried.wanted, carried.bearer.serial()).await;
                if self.identities.instead_of(&carried.identity).await.is_none() {
                    return Err(denied(challenged, None));
                }
            }
            stale = Some(carried.bearer.serial());
        }
        let mut carried = self.token(transport, wanted, stale).await?;
        carried.fresh |= stale.is_some();
        Ok(Authorization::Bearer(carried))
    }

    /// Gets user name and password for a Basic challenge.
    async fn by_password(
        &self,
        used: &Authorization,
        challenged: Challenged<'_>,
    ) -> Result<Authorization, UpstreamError> {
        let identity = match used {
            Authorization::Basic(refused) => self.identities.instead_of(refused).await,
            Authorization::Anonymous | Authorization::Bearer(_) => Some(self.identities.current().await),
        };
        let identity = identity.ok_or_else(|| denied(&challenged, None))?;
        self.learned.remember(AuthScheme::Basic);
        Ok(Authorization::Basic(identity))
    }

    /// Handles a 401 without a usable challenge.
    async fn without_a_word(
        &self,
        transport: &Transport,
        repository: &str,
        challenged: Challenged<'_>,
        used: &Authorization,
    ) -> Result<Authorization, UpstreamError> {
        match used {
            Authorization::Basic(_) | Authorization::Bearer(_) if challenged.from_memory => {
                if let Some(scheme) = self.learned.get() {
                    self.learned.forget(&scheme);
                }
                if let Authorization::Bearer(carried) = used {
                    self.tokens.forget(&carried.wanted, carried.bearer.serial()).await;
                }
                Ok(Authorization::Anonymous)
            }
            Authorization::Anonymous => {
                self.signed_in(transport, repository).await?.ok_or_else(|| denied(&challenged, None))
            }
            Authorization::Basic(_) | Authorization::Bearer(_) => Err(denied(&challenged, None)),
        }
    }

    /// Reads a Bearer challenge. The error is a sentence for the operator.
    fn token_request(
        &self,
        challenge: &Challenge,
        repository: &str,
        elsewhere: Option<&Url>,
    ) -> Result<(TokenRequest, AuthScheme), String> {
        let realm = realm::check(challenge.param("realm").unwrap_or_default(), &self.upstream, &self.token_hosts)?;
        // A token that was got with credentials opens private content. It is shown only to hosts
        // that the operator has named.
        if let Some(there) = elsewhere
            && self.identities.has_credentials()
            && !realm::is_listed(there, &self.token_hosts)
        {
            let host = there.host_str().unwrap_or_default();
            return Err(format!("it redirects to {host}, which asks for a token; `token_hosts` would allow it"));
        }
        let service = challenge.param("service").map(str::to_owned);
        let scope = challenge.param("scope").map_or_else(|| ScopeRule::usual().scope(repository), str::to_owned);
        let scheme = AuthScheme::Bearer {
            realm: realm.clone(),
            service: service.clone(),
            rule: ScopeRule::of(&scope, repository),
        };
        Ok((TokenRequest { realm, service, scope, holder: 0 }, scheme))
    }

    /// The error for a 401 from a redirect's target that gets no answer.
    fn turned_away(&self, challenged: Challenged<'_>, refused: Option<String>) -> UpstreamError {
        match refused {
            Some(reason) => {
                let host = self.upstream.host_str().unwrap_or_default().to_owned();
                FetchError::Redirect { host, reason }.into()
            }
            None => UpstreamError::Failed { status: 401, message: challenged.words.unwrap_or_else(unauthenticated) },
        }
    }
}

fn denied(challenged: &Challenged<'_>, why: Option<String>) -> UpstreamError {
    let message = why.or_else(|| challenged.words.clone()).unwrap_or_else(unauthenticated);
    UpstreamError::Denied { status: 401, message }
}

fn unauthenticated() -> String {
    "authentication required".into()
}
