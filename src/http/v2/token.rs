//! GET and POST of `/v2/token` and `/token` (Docker's token specification and its OAuth 2 form): a
//! name and a password become a token with the scopes it is valid for. A challenge names the path
//! below `/v2/`, so that a proxy in front needs to pass on one path.
//!
//! - A client that only asks for pulls which its address allows gets a token without a check of its
//!   password. dockerd sends Docker Hub passwords to mirrors; those are neither checked nor counted
//!   as wrong.
//! - Any other request with a wrong password is 401, so that `docker login` and a push report it.
//! - `account`, `client_id`, `offline_token` and `access_type` change nothing; there are no refresh
//!   tokens.

use actix_web::http::{
    Method, StatusCode,
    header::{CACHE_CONTROL, HeaderValue, WWW_AUTHENTICATE},
};
use bytes::Bytes;
use serde_json::json;
use url::form_urlencoded;

use crate::{
    access::{Action, Principal, ResourceActions, SignInError},
    http::{
        answer::{errors::HttpError, reply, reply::Reply},
        authorizer::{self, Presented},
        request::{RequestContext, resolve},
        request_body::RequestBody,
        services::Services,
        target,
    },
    oci::{ErrorCode, RegistryError, Repository},
};

/// The longest form, in bytes.
const LONGEST: usize = 64 << 10;

/// The request for a token, from query and form.
#[derive(Default, Debug)]
struct TokenForm {
    scopes: Vec<TokenScope>,
    user: Option<String>,
    password: Option<String>,
    refresh: bool,
}

/// `TYPE:NAME:ACTION,ACTION`
#[derive(PartialEq, Eq, Debug)]
struct TokenScope {
    kind: String,
    name: String,
    actions: Vec<String>,
}

/// Issues a token.
pub(crate) async fn get(context: RequestContext<'_>) -> Result<Reply, HttpError> {
    let RequestContext { request, services, body, principal: here, .. } = context;
    services.access.refresh().await;
    if !services.signs_in() {
        let error = RegistryError::new(ErrorCode::Unsupported, "there are no users here").with_status(404);
        return Err(error.into());
    }
    let mut wish = TokenForm::default();
    wish.read(request.uri().query().unwrap_or_default().as_bytes());
    if *request.method() == Method::POST {
        wish.read(&form(body).await?);
    }
    let wanted: Vec<WantedScope> =
        std::mem::take(&mut wish.scopes).into_iter().map(|scope| WantedScope::of(scope, services)).collect();
    let asks_little = !wanted.is_empty() && wanted.iter().all(|wanted| wanted.is_a_pull_that(&here, services));
    let who = if asks_little { here.clone() } else { sign_in(wish, services, request, &here).await? };
    let mut grants: Vec<ResourceActions> = Vec::new();
    for wanted in wanted {
        wanted.give(&mut grants, |right, repository| {
            [&who, &here].iter().any(|who| services.access.authorize(who, right, repository).is_ok())
        });
    }
    let token = services
        .access
        .issue(who.user(), grants)
        .map_err(|error| RegistryError::new(ErrorCode::Unsupported, error.to_string()).with_status(400))?;
    let answer = json!({
        "token": token.text,
        "access_token": token.text,
        "token_type": "Bearer",
        "expires_in": token.lifetime.as_secs(),
        "issued_at": humantime::format_rfc3339_seconds(token.issued_at).to_string(),
    });
    let mut reply = Reply::bytes(StatusCode::OK, reply::JSON, answer.to_string().into());
    reply.header(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}

/// The user whose name and password the request brings; without them, the principal of its address.
async fn sign_in(
    wish: TokenForm,
    services: &Services,
    request: &actix_web::HttpRequest,
    here: &Principal,
) -> Result<Principal, HttpError> {
    let wrong = || {
        let error = HttpError::from(RegistryError::new(ErrorCode::Unauthorized, SignInError::Wrong.to_string()));
        error.with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"lanyard\""))
    };
    let (user, password) = match (Presented::of(request), wish.user) {
        _ if wish.refresh => return Err(wrong()),
        (Presented::Password { user, password }, _) => (user, password),
        (Presented::Foreign, _) => return Err(wrong()),
        (Presented::Nothing | Presented::Token(_), Some(user)) => (user, wish.password.unwrap_or_default()),
        (Presented::Nothing | Presented::Token(_), None) => return Ok(here.clone()),
    };
    services.access.sign_in(&user, &password, services.site.client(request)).await.map_err(|error| match error {
        SignInError::Wrong => wrong(),
        SignInError::TooMany { .. } | SignInError::Full { .. } | SignInError::Lost => {
            authorizer::not_signed_in(error).into()
        }
    })
}

async fn form(mut body: RequestBody) -> Result<Bytes, HttpError> {
    body.whole(None, LONGEST)
        .await?
        .ok_or_else(|| RegistryError::new(ErrorCode::Unsupported, "the form is too long").with_status(413).into())
}

impl TokenForm {
    /// A request may repeat `scope`, and one may hold several, divided by spaces. All of them
    /// count.
    fn read(&mut self, text: &[u8]) {
        for (key, value) in form_urlencoded::parse(text) {
            match key.as_ref() {
                "scope" => self.scopes.extend(value.split_whitespace().filter_map(TokenScope::read)),
                // RFC 6749, section 4.3. An empty name is no user's.
                "username" if !value.is_empty() => self.user = Some(value.into_owned()),
                "password" => self.password = Some(value.into_owned()),
                "grant_type" => self.refresh = value == "refresh_token",
                _ => {}
            }
        }
    }
}

impl TokenScope {
    /// A name may contain the colon of a port.
    fn read(text: &str) -> Option<TokenScope> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let actions = actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned).collect();
        Some(TokenScope { kind: kind.to_owned(), name: name.to_owned(), actions })
    }
}

/// A scope, and the repositories it means: one for pulls, one for changes, which go to hosted
/// repositories. The catalogue's scope is given to every client: its list depends on the principal.
struct WantedScope {
    scope: TokenScope,
    rights: Vec<(Action, Repository)>,
}

impl WantedScope {
    fn of(scope: TokenScope, services: &Services) -> Self {
        let spelling =
            Some(&scope.name).filter(|_| scope.kind == "repository").and_then(|name| target::scope_name(name));
        let asks = |right| scope.actions.iter().any(|action| action == authorizer::word(right) || action == "*");
        let rights = [Action::Pull, Action::Push, Action::Delete].into_iter().filter(|right| asks(*right));
        let rights =
            rights.filter_map(|right| Some((right, resolve(services, spelling.as_ref()?, None, right, None).ok()?)));
        WantedScope { rights: rights.collect(), scope }
    }

    /// Whether it is only a pull that this principal may do without signing in.
    fn is_a_pull_that(&self, who: &Principal, services: &Services) -> bool {
        self.scope.actions == ["pull"]
            && self.rights.iter().any(|(right, repository)| services.access.authorize(who, *right, repository).is_ok())
    }

    /// Adds the allowed part of it to the grants.
    fn give(self, grants: &mut Vec<ResourceActions>, allowed: impl Fn(Action, &Repository) -> bool) {
        let lists = self.scope.kind == "registry" && self.scope.name == "catalog" && self.scope.actions == ["*"];
        let listing = lists.then(ResourceActions::catalog);
        grants.extend(listing.filter(|listing| !grants.contains(listing)));
        for (right, repository) in self.rights {
            if !allowed(right, &repository) {
                continue;
            }
            let action = authorizer::word(right).to_owned();
            let same = |grant: &&mut ResourceActions| grant.kind == self.scope.kind && grant.name == self.scope.name;
            match grants.iter_mut().find(same) {
                Some(grant) if grant.actions.contains(&action) => {}
                Some(grant) => grant.actions.push(action),
                None => grants.push(ResourceActions {
                    kind: self.scope.kind.clone(),
                    name: self.scope.name.clone(),
                    actions: vec![action],
                }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_as_clients_write_them() {
        let scope = |name: &str, actions: &[&str]| TokenScope {
            kind: "repository".to_owned(),
            name: name.to_owned(),
            actions: actions.iter().map(|action| (*action).to_owned()).collect(),
        };
        let catalog =
            || TokenScope { kind: "registry".to_owned(), name: "catalog".to_owned(), actions: vec!["*".to_owned()] };
        // docker, oras, docker-cs, podman.
        for (text, scopes, user) in [
            ("account=ann&client_id=docker&offline_token=true&service=lanyard", vec![], None),
            (
                "account=ann&scope=repository%3Ateam%2Fapp%3Apush%2Cpull&service=lanyard",
                vec![scope("team/app", &["push", "pull"])],
                None,
            ),
            ("scope=registry%3Acatalog%3A%2A", vec![catalog()], None),
            (
                "grant_type=password&service=lanyard&client_id=buildkit-client&scope=repository%3Aa%3Apull+repository%3Ab%3Apull%2Cpush&username=ann&password=p%26w",
                vec![scope("a", &["pull"]), scope("b", &["pull", "push"])],
                Some("ann"),
            ),
            (
                "scope=repository:a:pull&scope=repository:h.lan:5000/a:pull&scope=x&scope=",
                vec![scope("a", &["pull"]), scope("h.lan:5000/a", &["pull"])],
                None,
            ),
        ] {
            let mut wish = TokenForm::default();
            wish.read(text.as_bytes());
            assert_eq!((wish.scopes, wish.user.as_deref()), (scopes, user), "{text}");
        }
    }
}
