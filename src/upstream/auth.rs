//! What lanyard shows a registry of itself: nothing, a user name and password, or a token.
//!
//! The first request to a registry is anonymous. What it challenges with is remembered, so that a later request, for
//! another repository as well, brings its token along and saves a round trip. Credentials go to the registry itself and to
//! its token endpoint, which [`realm`] must have allowed (S1).

use std::sync::Mutex;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, header};
use url::Url;

use super::{
    challenge::{self, Challenge},
    error::UpstreamError,
    lock, realm,
    token::{Bearer, Grant, Identity, Tokens},
    wire::Wire,
};
use crate::{config, oci::RepositoryName};

/// One upstream's way of being asked.
pub(super) struct Auth {
    upstream: Url,
    token_hosts: Vec<String>,
    identity: Identity,
    known: Mutex<Option<Known>>,
    tokens: Tokens,
}

/// What the last challenge taught.
#[derive(Clone)]
enum Known {
    Basic,
    Bearer { realm: Url, service: Option<String>, shape: Shape },
}

/// How scopes follow from repository names.
#[derive(Clone)]
enum Shape {
    /// The same for all, such as `aws` at public.ecr.aws.
    Fixed(String),
    /// The name between two strings, such as `repository:` and `:pull`.
    Around(String, String),
}

/// What a request carries.
#[derive(Clone)]
pub(super) enum Authorization {
    /// Nothing.
    Anonymous,
    /// User name and password.
    Basic,
    /// A token.
    Bearer(Box<Carried>),
}

/// A token and what is known of it.
#[derive(Clone)]
pub(super) struct Carried {
    /// What it is for.
    grant: Grant,
    bearer: Bearer,
    /// It was got for this very request: when it is refused, another would be refused as well.
    fresh: bool,
}

impl Authorization {
    fn bearer(grant: Grant, bearer: Bearer, fresh: bool) -> Self {
        Authorization::Bearer(Box::new(Carried { grant, bearer, fresh }))
    }
}

impl Auth {
    pub(super) fn new(config: &config::Upstream) -> Self {
        let mut identity = Identity::default();
        if let Some(credentials) = &config.credentials {
            let encoded = STANDARD.encode(format!("{}:{}", credentials.username, credentials.password));
            // Base64 always fits into a header.
            identity.basic = HeaderValue::from_str(&format!("Basic {encoded}")).ok().map(|mut basic| {
                basic.set_sensitive(true);
                basic
            });
            identity.secrets = vec![credentials.password.clone(), encoded];
        }
        Auth {
            upstream: config.url.clone(),
            token_hosts: config.token_hosts.clone(),
            identity,
            known: Mutex::default(),
            tokens: Tokens::default(),
        }
    }

    /// The header of a request.
    pub(super) fn header(&self, authorization: &Authorization) -> Option<HeaderValue> {
        match authorization {
            Authorization::Anonymous => None,
            Authorization::Basic => self.identity.basic.clone(),
            Authorization::Bearer(carried) => Some(carried.bearer.header.clone()),
        }
    }

    /// What a request for this repository should carry, as far as is known.
    pub(super) async fn ready(&self, wire: &Wire, repository: &RepositoryName) -> Result<Authorization, UpstreamError> {
        let known = lock(&self.known).clone();
        let grant = match known {
            None => return Ok(Authorization::Anonymous),
            Some(Known::Basic) => return Ok(Authorization::Basic),
            Some(Known::Bearer { realm, service, shape }) => {
                let scope = match shape {
                    Shape::Fixed(scope) => scope,
                    Shape::Around(before, after) => format!("{before}{repository}{after}"),
                };
                Grant { realm, service, scope }
            }
        };
        match self.tokens.get(&grant, None, &self.identity, wire).await {
            Ok((bearer, fresh)) => Ok(Authorization::bearer(grant, bearer, fresh)),
            Err(error) if error.is_outage() => Err(error),
            // The registry's own answer says more; it may not even want a token here.
            Err(_) => Ok(Authorization::Anonymous),
        }
    }

    /// The registry answered 401 to a request that carried `used`: what to carry instead. The error is
    /// [`UpstreamError::Denied`] when nothing would help; `words` are the registry's.
    pub(super) async fn answer(
        &self,
        wire: &Wire,
        repository: &RepositoryName,
        headers: &HeaderMap,
        used: &Authorization,
        words: Option<String>,
    ) -> Result<Authorization, UpstreamError> {
        let denied = |why: Option<String>| UpstreamError::Denied {
            status: 401,
            message: why.or(words.clone()).unwrap_or_else(|| "authentication required".into()),
        };
        let lines = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|line| line.to_str().ok());
        let challenges = challenge::parse(lines);
        let Some(bearer) = challenges.iter().find(|c| c.is_bearer() && c.param("realm").is_some()) else {
            let wants_basic = challenges.iter().any(Challenge::is_basic);
            return match used {
                Authorization::Anonymous | Authorization::Bearer(_) if wants_basic && self.identity.basic.is_some() => {
                    *lock(&self.known) = Some(Known::Basic);
                    Ok(Authorization::Basic)
                }
                Authorization::Anonymous | Authorization::Basic | Authorization::Bearer(_) => Err(denied(None)),
            };
        };
        let grant = self.grant(bearer, repository).map_err(|why| denied(Some(why)))?;
        let stale = match used {
            Authorization::Bearer(carried) if carried.grant == grant => {
                if carried.fresh && carried.bearer.is_good() {
                    self.tokens.forget(&grant, carried.bearer.serial()).await;
                    return Err(denied(None));
                }
                Some(carried.bearer.serial())
            }
            Authorization::Anonymous | Authorization::Basic | Authorization::Bearer(_) => None,
        };
        let (bearer, fetched) = self.tokens.get(&grant, stale, &self.identity, wire).await?;
        Ok(Authorization::bearer(grant, bearer, fetched || stale.is_some()))
    }

    /// Reads a Bearer challenge, and remembers it. The error is a sentence for the operator.
    fn grant(&self, challenge: &Challenge, repository: &RepositoryName) -> Result<Grant, String> {
        let realm = realm::check(challenge.param("realm").unwrap_or_default(), &self.upstream, &self.token_hosts)?;
        let service = challenge.param("service").map(str::to_owned);
        let usual = || format!("repository:{repository}:pull");
        let scope = challenge.param("scope").map_or_else(usual, str::to_owned);
        let shape = Shape::of(&scope, repository);
        *lock(&self.known) = Some(Known::Bearer { realm: realm.clone(), service: service.clone(), shape });
        Ok(Grant { realm, service, scope })
    }

    /// What must not be passed on where the upstream echoes it (S18).
    pub(super) fn secrets<'a>(&'a self, used: &'a Authorization) -> Vec<&'a str> {
        let token = match used {
            Authorization::Bearer(carried) => carried.bearer.token(),
            Authorization::Anonymous | Authorization::Basic => None,
        };
        self.identity.secrets.iter().map(String::as_str).chain(token).collect()
    }
}

impl Shape {
    fn of(scope: &str, repository: &RepositoryName) -> Self {
        let found = scope.match_indices(repository.as_str()).find_map(|(at, name)| {
            let (before, after) = (&scope[..at], &scope[at + name.len()..]);
            let whole = before.ends_with([':', '/']) && after.starts_with(':');
            whole.then(|| Shape::Around(before.into(), after.into()))
        });
        found.unwrap_or_else(|| Shape::Fixed(scope.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_how_scopes_are_made() {
        let around = |scope: &str, name: &str| match Shape::of(scope, &name.parse().unwrap()) {
            Shape::Around(before, after) => Some((before, after)),
            Shape::Fixed(_) => None,
        };
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(around("repository:library/x:pull", "library/x"), pair("repository:", ":pull"));
        assert_eq!(around("repository:a:pull", "a"), pair("repository:", ":pull"));
        assert_eq!(around("repository:virtual/library/x:pull", "library/x"), pair("repository:virtual/", ":pull"));
        assert_eq!(around("aws", "library/x"), None);
        assert_eq!(around("aws", "a"), None);
    }
}
