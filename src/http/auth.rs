//! Who asks, and whether they may: the one call of `authorize`, and the challenges (SECURITY.md S5, S7).
//!
//! - A pull that the peer's address alone may do is done, whatever its `Authorization` says: it was meant for somebody else.
//! - Where users exist, `/v2/` is a challenge, because classic docker and podman read it only there.
//! - What may not be pulled is answered without a look at what exists, so the answer tells nothing about that.

use std::net::{IpAddr, Ipv4Addr};

use actix_web::{
    HttpRequest,
    http::header::{AUTHORIZATION, FORWARDED, HOST, HeaderName, HeaderValue, ORIGIN, VIA, WWW_AUTHENTICATE},
};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Face, connection::Secured, errors::Refusal, routes::Needs, target::Target};
use crate::{
    access::{Action, Bearer, Denied, Grant, Principal, SERVICE, SignInError},
    names::Spelling,
    oci::{ErrorCode, RegistryError, Repository},
};

/// What a request brings to say who sends it.
pub(super) enum Presented {
    /// Nothing, or `Basic Og==`, which is how podman says nothing.
    Nothing,
    /// A name and a password.
    Password { user: String, password: String },
    /// A token.
    Token(String),
    /// Something that is neither.
    Foreign,
}

impl Presented {
    /// Reads `Authorization`: RFC 7617, RFC 6750.
    pub(super) fn of(request: &HttpRequest) -> Presented {
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

/// Whoever is at the other end of the connection. Loopback is this machine itself: not a proxy on it, which says whom it
/// speaks for, and not a browser on it, which speaks for whoever wrote the page.
pub(super) fn peer(request: &HttpRequest) -> Principal {
    let speaks_for_another = |name: &HeaderName| {
        [FORWARDED, VIA, ORIGIN].contains(name)
            || name.as_str() == "x-real-ip"
            || name.as_str().starts_with("x-forwarded-")
    };
    let here = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    if here && !request.headers().keys().any(speaks_for_another) { Principal::Loopback } else { Principal::Anonymous }
}

/// The address whose wrong passwords are counted.
pub(super) fn address(request: &HttpRequest) -> IpAddr {
    request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip())
}

/// The one gate that every request passes before anything else: who it is, or why not. `place` is what the path means, where
/// it means a repository.
pub(super) async fn admit(
    request: &HttpRequest,
    face: &Face,
    target: &Target,
    needs: Needs,
    place: Option<&(&Spelling, Repository)>,
) -> Result<Principal, Refusal> {
    let gate = Gate { request, face, target, here: face.peer(request) };
    match (needs, place) {
        (Needs::Nothing, _) => Ok(gate.here),
        (Needs::Greeting, _) => gate.greet().await,
        (Needs::List, _) => Ok(gate.who(None).await.map_or(gate.here, |known| known.principal)),
        (Needs::Right(action), Some((spelling, repository))) => gate.pass(action, spelling, repository).await,
        // A right is always one to a repository; a test goes through the table.
        (Needs::Right(action), None) => Err(gate.denied(action, Denied::Forbidden)),
    }
}

struct Gate<'a> {
    request: &'a HttpRequest,
    face: &'a Face,
    target: &'a Target,
    here: Principal,
}

/// Somebody whose `Authorization` was right, or who brought none.
struct Known {
    principal: Principal,
    token: Option<Bearer>,
}

impl Gate<'_> {
    /// `/v2/`: whoever brings nothing is told where to get a token; an anonymous one will do.
    async fn greet(self) -> Result<Principal, Refusal> {
        let known = self.who(None).await?;
        let brought_nothing = known.token.is_none() && known.principal.user().is_none();
        if self.face.signs_in() && brought_nothing {
            return Err(challenge(self.request, None, None, "sign in, or ask for an anonymous token"));
        }
        Ok(known.principal)
    }

    async fn pass(self, action: Action, spelling: &Spelling, repository: &Repository) -> Result<Principal, Refusal> {
        let access = &self.face.access;
        let here_may = access.authorize(&self.here, action, repository);
        if here_may.is_ok() && (action == Action::Pull || !self.face.signs_in()) {
            return Ok(self.here);
        }
        let scope = scope(repository, action);
        let known = self.who(Some(&scope)).await?;
        match access.authorize(&known.principal, action, repository) {
            Ok(()) if known.token.as_ref().is_none_or(|token| covers(token, spelling, repository, action)) => {
                Ok(known.principal)
            }
            // Signing in takes nothing away.
            _ if here_may.is_ok() => Ok(self.here),
            Ok(()) => {
                let message = "the token is for something else";
                Err(challenge(self.request, Some(&scope), Some("insufficient_scope"), message))
            }
            Err(Denied::SignIn) if self.face.signs_in() => Err(challenge(
                self.request,
                Some(&scope),
                None,
                "this needs a user; sign in first, as with docker login",
            )),
            Err(denied) => Err(self.denied(action, denied)),
        }
    }

    /// What is brought, checked. Where nobody can sign in, it was meant for somebody else.
    async fn who(&self, scope: Option<&str>) -> Result<Known, Refusal> {
        let access = &self.face.access;
        access.refresh().await;
        let nobody = || Known { principal: self.here.clone(), token: None };
        let wrong = |error, message: &str| challenge(self.request, scope, error, message);
        if !self.face.signs_in() {
            return Ok(nobody());
        }
        match Presented::of(self.request) {
            Presented::Nothing => Ok(nobody()),
            Presented::Foreign => Err(wrong(Some("invalid_request"), "this Authorization is neither Basic nor Bearer")),
            Presented::Password { user, password } => {
                match access.sign_in(&user, &password, address(self.request)).await {
                    Ok(principal) => Ok(Known { principal, token: None }),
                    Err(error @ SignInError::Wrong) => Err(wrong(None, &error.to_string())),
                    Err(error @ (SignInError::TooMany { .. } | SignInError::Lost)) => Err(not_signed_in(error).into()),
                }
            }
            Presented::Token(token) => {
                let bearer = access
                    .verify(&token)
                    .ok_or_else(|| wrong(Some("invalid_token"), "the token is not one of lanyard's, or too old"))?;
                let principal = bearer.user.clone().map_or_else(|| self.here.clone(), Principal::User);
                Ok(Known { principal, token: Some(bearer) })
            }
        }
    }

    /// What may not be read is as if it were not there; what may not be changed is said.
    fn denied(&self, action: Action, denied: Denied) -> Refusal {
        if action == Action::Pull && denied != Denied::Forbidden {
            let code = match self.target {
                Target::Manifest(..) => ErrorCode::ManifestUnknown,
                Target::Blob(..) => ErrorCode::BlobUnknown,
                _ => ErrorCode::NameUnknown,
            };
            return RegistryError::new(code, "there is nothing of that name here").into();
        }
        let message = if self.face.access.has_users() {
            "the rules of [[access]] do not give this user this right"
        } else {
            "only this machine itself may change anything until there are users; see [auth] and `lanyard user add`"
        };
        RegistryError::new(ErrorCode::Denied, message).into()
    }
}

/// Why a name and a password were not even found wrong.
pub(super) fn not_signed_in(error: SignInError) -> RegistryError {
    let (code, retry_after) = match error {
        SignInError::Wrong => (ErrorCode::Unauthorized, None),
        SignInError::TooMany { wait } => (ErrorCode::TooManyRequests, Some(wait)),
        SignInError::Lost => (ErrorCode::Unavailable, None),
    };
    RegistryError { retry_after, ..RegistryError::new(code, error.to_string()) }
}

/// 401 with the way to a token (RFC 6750, section 3). Parsers of clients want quotes around each value and one scheme.
fn challenge(request: &HttpRequest, scope: Option<&str>, error: Option<&str>, message: &str) -> Refusal {
    let Some(origin) = origin(request) else {
        let error = RegistryError::new(ErrorCode::Unsupported, "Host names no host, so there is nowhere to sign in");
        return error.with_status(400).into();
    };
    let mut text = format!("Bearer realm=\"{origin}/token\",service=\"{SERVICE}\"");
    for (key, value) in [("scope", scope), ("error", error)] {
        if let Some(value) = value {
            text.push_str(&format!(",{key}=\"{value}\""));
        }
    }
    let refusal = Refusal::from(RegistryError::new(ErrorCode::Unauthorized, message));
    // Every part is printable ASCII.
    match HeaderValue::from_str(&text) {
        Ok(value) => refusal.with_header(WWW_AUTHENTICATE, value),
        Err(_) => refusal,
    }
}

/// Scheme and host as the client asked for them. None: its `Host` is none, and would not stand between quotes.
fn origin(request: &HttpRequest) -> Option<String> {
    let headers = request.headers();
    // A proxy in front that speaks TLS says so; whoever lies about it lies to himself.
    let secure = request.conn_data::<Secured>().is_some()
        || headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes() == b"https");
    let part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    let host = headers.get(HOST)?.to_str().ok().filter(|host| !host.is_empty() && host.bytes().all(part))?;
    Some(format!("{}://{host}", if secure { "https" } else { "http" }))
}

/// What a client is told to ask for. Pushing includes looking whether a thing is there.
fn scope(repository: &Repository, action: Action) -> String {
    let actions = match action {
        Action::Pull => "pull",
        Action::Push => "pull,push",
        Action::Delete | Action::Admin => "delete",
    };
    format!("repository:{repository}:{actions}")
}

/// Whether a token was asked for for this, under the name of the challenge or that of the path, which clients make scopes of.
fn covers(token: &Bearer, spelling: &Spelling, repository: &Repository, action: Action) -> bool {
    let word = word(action);
    let (whole, name) = (repository.to_string(), spelling.name.as_str());
    let gives = |grant: &Grant| {
        grant.kind == "repository"
            && (grant.name == whole || grant.name == name)
            && grant.actions.iter().any(|given| given == word)
    };
    token.access.iter().any(gives)
}

/// An action as scopes and tokens spell it.
pub(super) fn word(action: Action) -> &'static str {
    match action {
        Action::Pull => "pull",
        Action::Push => "push",
        Action::Delete => "delete",
        Action::Admin => "admin",
    }
}
