//! Who the client is, and whether it may: the one call of `authorize`, and the challenges
//! (SECURITY.md S5, S7). Called once for each request, before anything else is done. [`may_push`]
//! is asked after it for a HEAD of a hosted name: it opens nothing, and decides about a lease (K7).
//!
//! - A pull that the peer's address alone allows is done, whatever its `Authorization` says: that
//!   was meant for another registry.
//! - Where users exist, `/v2/` answers with a challenge, because classic docker and podman read one
//!   only there. So does `/v2/_catalog`, because a logged-in client sends its token there only when
//!   challenged.
//! - A pull that is not allowed is refused before any look at what exists, so the answer tells
//!   nothing about that.
//! - A HEAD before a push, with a token that permits nothing, is answered like one for absent
//!   content. A HEAD answer has no body to explain anything, so the POST or PUT that follows is
//!   refused instead.

use actix_web::{
    HttpRequest,
    http::{
        Method,
        header::{ACCEPT, AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    access::{Action, Denied, Principal, ResourceActions, SERVICE, SignInError, VerifiedToken},
    http::{
        answer::errors::HttpError,
        needs::Needs,
        peer::Locality,
        services::{ListenerRole, Services},
        target::Target,
    },
    names::Spelling,
    oci::{Accept, ErrorCode, RegistryError, Repository},
};

/// The scope that lists the catalogue (Docker's token specification).
const CATALOG: &str = "registry:catalog:*";

/// The credentials that a request brings.
pub(crate) enum Presented {
    /// None, or `Basic Og==`, which is what podman sends for none.
    Nothing,
    /// A name and a password.
    Password { user: String, password: String },
    /// A token.
    Token(String),
    /// Neither a password nor a token.
    Foreign,
}

impl Presented {
    /// Reads `Authorization`: RFC 7617, RFC 6750.
    pub(crate) fn of(request: &HttpRequest) -> Presented {
        let mut lines = request.headers().get_all(AUTHORIZATION);
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return if request.headers().contains_key(AUTHORIZATION) { Presented::Foreign } else { Presented::Nothing };
        };
        let Some((scheme, value)) = line.to_str().ok().and_then(|line| line.split_once(' ')) else {
            return Presented::Foreign;
        };
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Presented::Token(value.to_owned());
        }
        let pair = STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match pair.as_deref().and_then(|pair| pair.split_once(':')) {
            Some(("", "")) if scheme.eq_ignore_ascii_case("basic") => Presented::Nothing,
            Some((user, password)) if scheme.eq_ignore_ascii_case("basic") => {
                Presented::Password { user: user.to_owned(), password: password.to_owned() }
            }
            Some(_) | None => Presented::Foreign,
        }
    }
}

/// Lets a request in, or says why not. `place` is the repository that the path means, if it means
/// one.
pub(crate) async fn admit(
    request: &HttpRequest,
    services: &Services,
    target: &Target,
    needs: Needs,
    place: Option<&(&Spelling, Repository)>,
) -> Result<Principal, HttpError> {
    if let (Needs::Right(Action::Pull), Some((_, repository))) = (needs, place)
        && services.access.authorize(&Principal::Anonymous, Action::Pull, repository).is_ok()
    {
        // A pull that everybody may do does not depend on the client.
        return Ok(Principal::Anonymous);
    }
    let authorizer = Authorizer { request, services, target, here: services.peer_principal(request) };
    // On the heap: up to 1,832 bytes that a pull that everybody may do does not need.
    match (needs, place) {
        (Needs::Nothing | Needs::Admin, _) => Ok(authorizer.here),
        (Needs::Greeting, _) => Box::pin(authorizer.greet()).await,
        (Needs::List, _) => Box::pin(authorizer.list()).await,
        (Needs::Right(action), Some((spelling, repository))) => {
            Box::pin(authorizer.pass(action, spelling, repository)).await
        }
        // A right is always a right to a repository; a test walks the whole table.
        (Needs::Right(action), None) => Err(authorizer.denied(action, Denied::Forbidden)),
    }
}

/// Whether a client that was let in as `admitted` may push to a repository, too. A pull that
/// everybody may do was let in unread, so its credentials are read now. Wrong ones give no right,
/// and the pull goes on.
pub(crate) async fn may_push(
    request: &HttpRequest,
    services: &Services,
    admitted: &Principal,
    repository: &Repository,
) -> bool {
    let access = &services.access;
    let may = |principal: &Principal| access.authorize(principal, Action::Push, repository).is_ok();
    if may(admitted) || may(&services.peer_principal(request)) {
        return true;
    }
    if !services.signs_in() {
        return false;
    }
    match Presented::of(request) {
        Presented::Nothing | Presented::Foreign => false,
        Presented::Password { user, password } => {
            let signed_in = access.sign_in(&user, &password, services.site.client(request)).await;
            signed_in.is_ok_and(|principal| may(&principal))
        }
        Presented::Token(token) => {
            access.verify(&token).and_then(|token| token.user).is_some_and(|user| may(&Principal::User(user)))
        }
    }
}

struct Authorizer<'a> {
    request: &'a HttpRequest,
    services: &'a Services,
    target: &'a Target,
    here: Principal,
}

/// A client whose credentials were right, or that brought none.
struct SignedIn {
    principal: Principal,
    token: Option<VerifiedToken>,
}

impl Authorizer<'_> {
    /// `/v2/`: a client without credentials is told where to get a token; an anonymous one will do.
    async fn greet(self) -> Result<Principal, HttpError> {
        let signed_in = self.who(None).await?;
        let brought_nothing = signed_in.token.is_none() && signed_in.principal.user().is_none();
        if self.services.signs_in() && brought_nothing {
            return Err(self.challenge(None, None, "sign in, or ask for an anonymous token"));
        }
        Ok(signed_in.principal)
    }

    /// `/v2/_catalog`: needs a password, or a token for the catalogue. An anonymous token lists
    /// what everybody may pull.
    async fn list(self) -> Result<Principal, HttpError> {
        let signed_in = self.who(Some(CATALOG)).await?;
        let refused = match &signed_in.token {
            _ if !self.services.signs_in() => None,
            None if signed_in.principal.user().is_some() => None,
            None => Some((None, "sign in, or ask for an anonymous token")),
            Some(token) if token.access.contains(&ResourceActions::catalog()) => None,
            Some(_) => Some((Some("insufficient_scope"), "the token does not cover this")),
        };
        match refused {
            Some((error, message)) => Err(self.challenge(Some(CATALOG), error, message)),
            None => Ok(signed_in.principal),
        }
    }

    async fn pass(self, action: Action, spelling: &Spelling, repository: &Repository) -> Result<Principal, HttpError> {
        let access = &self.services.access;
        let here_may = access.authorize(&self.here, action, repository);
        if here_may.is_ok() && (action == Action::Pull || !self.services.signs_in()) {
            return Ok(self.here);
        }
        let scope = scope(repository, action);
        let signed_in = self.who(Some(&scope)).await?;
        match access.authorize(&signed_in.principal, action, repository) {
            Ok(()) if signed_in.token.as_ref().is_none_or(|token| covers(token, spelling, repository, action)) => {
                Ok(signed_in.principal)
            }
            // A user has at least the rights of the address.
            _ if here_may.is_ok() => Ok(self.here),
            Ok(()) => Err(self.challenge(Some(&scope), Some("insufficient_scope"), "the token does not cover this")),
            Err(Denied::SignIn) if signed_in.token.is_some() && self.asks_before_a_push() => {
                Err(self.denied(action, Denied::Unknown))
            }
            Err(Denied::SignIn) if self.services.signs_in() => {
                let message = "this needs a user; sign in first, as with docker login";
                Err(self.challenge(Some(&scope), None, &format!("{message}{}", self.hint())))
            }
            Err(denied) => Err(self.denied(action, denied)),
        }
    }

    /// Whether this is the HEAD of a client that has the content and asks if it must still push it.
    /// A pull asks for a blob by GET only, and for a manifest with all media types.
    fn asks_before_a_push(&self) -> bool {
        let of_one_type = || {
            let lines = self.request.headers().get_all(ACCEPT);
            Accept::from_headers(lines.filter_map(|line| line.to_str().ok())).asks_before_a_push()
        };
        let asks = match self.target {
            Target::Blob(..) => true,
            Target::Manifest(..) => of_one_type(),
            Target::Home
            | Target::Live
            | Target::Ready
            | Target::Metrics
            | Target::Token
            | Target::Ping(_)
            | Target::Catalog
            | Target::Tags(_)
            | Target::Referrers(..)
            | Target::Uploads(_)
            | Target::Upload(..)
            | Target::Admin(_) => false,
        };
        asks && *self.request.method() == Method::HEAD
    }

    /// Checks the credentials. Where there are no users they were meant for another registry.
    async fn who(&self, scope: Option<&str>) -> Result<SignedIn, HttpError> {
        let access = &self.services.access;
        access.refresh().await;
        let nobody = || SignedIn { principal: self.here.clone(), token: None };
        let wrong = |error, message: &str| self.challenge(scope, error, message);
        if !self.services.signs_in() {
            return Ok(nobody());
        }
        match Presented::of(self.request) {
            Presented::Nothing => Ok(nobody()),
            Presented::Foreign => Err(wrong(Some("invalid_request"), "this Authorization is neither Basic nor Bearer")),
            Presented::Password { user, password } => {
                match access.sign_in(&user, &password, self.services.site.client(self.request)).await {
                    Ok(principal) => Ok(SignedIn { principal, token: None }),
                    Err(error @ SignInError::Wrong) => Err(wrong(None, &error.to_string())),
                    Err(error @ (SignInError::TooMany { .. } | SignInError::Full { .. } | SignInError::Lost)) => {
                        Err(not_signed_in(error).into())
                    }
                }
            }
            Presented::Token(token) => {
                let bearer = access
                    .verify(&token)
                    .ok_or_else(|| wrong(Some("invalid_token"), "the token is not one of lanyard's, or too old"))?;
                let principal = bearer.user.clone().map_or_else(|| self.here.clone(), Principal::User);
                Ok(SignedIn { principal, token: Some(bearer) })
            }
        }
    }

    /// 403 for a change; for a read, the same answer as for absent content.
    fn denied(&self, action: Action, denied: Denied) -> HttpError {
        if action == Action::Pull && denied != Denied::Forbidden {
            let code = match self.target {
                Target::Manifest(..) => ErrorCode::ManifestUnknown,
                Target::Blob(..) => ErrorCode::BlobUnknown,
                _ => ErrorCode::NameUnknown,
            };
            return RegistryError::new(code, "there is nothing of that name here").into();
        }
        let message = if self.services.access.has_users() {
            "the rules of [[access]] do not give this user this right"
        } else {
            "only this machine itself may change anything until there are users; see [auth] and `lanyard user add`"
        };
        RegistryError::new(ErrorCode::Denied, format!("{message}{}", self.hint())).into()
    }

    /// A hint for a client on this machine that used a host name which public DNS may point here.
    fn hint(&self) -> String {
        match self.services.site.locality(self.request) {
            Locality::HereByName(name) if self.services.role == ListenerRole::Full => format!(
                "; from this machine, use one of its own addresses: {name:?} counts as one only if `names` in the \
                 configuration has it"
            ),
            Locality::HereByName(_) | Locality::Here | Locality::Elsewhere => String::new(),
        }
    }

    /// 401 that says where to get a token (RFC 6750, section 3). Some clients' parsers need quotes
    /// around each value, and one scheme only.
    fn challenge(&self, scope: Option<&str>, error: Option<&str>, message: &str) -> HttpError {
        let Some(origin) = self.services.site.origin(self.request) else {
            let error = RegistryError::new(
                ErrorCode::Unsupported,
                "the Host header names no host, so there is no address to sign in at",
            );
            return error.with_status(400).into();
        };
        let mut text = format!("Bearer realm=\"{origin}/v2/token\",service=\"{SERVICE}\"");
        for (key, value) in [("scope", scope), ("error", error)] {
            if let Some(value) = value {
                text.push_str(&format!(",{key}=\"{value}\""));
            }
        }
        let error = HttpError::from(RegistryError::new(ErrorCode::Unauthorized, message));
        // Every part is printable ASCII.
        match HeaderValue::from_str(&text) {
            Ok(value) => error.with_header(WWW_AUTHENTICATE, value),
            Err(_) => error,
        }
    }
}

/// The error of a sign-in that was not decided, or was wrong.
pub(crate) fn not_signed_in(error: SignInError) -> RegistryError {
    let (code, retry_after) = match error {
        SignInError::Wrong => (ErrorCode::Unauthorized, None),
        SignInError::TooMany { wait } => (ErrorCode::TooManyRequests, Some(wait)),
        SignInError::Full { wait } => (ErrorCode::Unavailable, Some(wait)),
        SignInError::Lost => (ErrorCode::Unavailable, None),
    };
    RegistryError { retry_after, ..RegistryError::new(code, error.to_string()) }
}

/// The scope that a client is told to ask for. Pushing includes pulling: a client looks first.
fn scope(repository: &Repository, action: Action) -> String {
    let actions = match action {
        Action::Pull => "pull",
        Action::Push => "pull,push",
        Action::Delete | Action::Admin => "delete",
    };
    format!("repository:{repository}:{actions}")
}

/// Whether the token's scope includes this, under the name of the challenge or that of the path;
/// clients make scopes of either.
fn covers(token: &VerifiedToken, spelling: &Spelling, repository: &Repository, action: Action) -> bool {
    let word = word(action);
    let (whole, name) = (repository.to_string(), spelling.name.as_str());
    let gives = |grant: &ResourceActions| {
        grant.kind == "repository"
            && (grant.name == whole || grant.name == name)
            && grant.actions.iter().any(|given| given == word)
    };
    token.access.iter().any(gives)
}

/// An action as scopes and tokens spell it.
pub(crate) fn word(action: Action) -> &'static str {
    match action {
        Action::Pull => "pull",
        Action::Push => "push",
        Action::Delete => "delete",
        Action::Admin => "admin",
    }
}
