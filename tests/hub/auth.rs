//! Authorization: the challenge, the token endpoint and the tokens.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::content::Content;
use super::reply::Reply;
use super::request::{Request, Target};

/// The credentials that the registry asks for.
#[derive(Clone, Debug)]
pub enum Access {
    /// Nothing.
    Open,
    /// A token, which any client gets (Docker Hub).
    AnonymousToken,
    /// A token, which only this account gets.
    AccountToken(String, String),
    /// Basic authentication on every request.
    Basic(String, String),
}

/// How tokens are given out. [`Tokens::default`] does it as Docker Hub does.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// How long a token is valid.
    pub ttl: Duration,
    /// How many requests a token is good for.
    pub uses: Option<u32>,
    /// The value of `expires_in`, in seconds; `None` leaves the field out.
    pub expires_in: Option<u64>,
    /// Whether the answer has the field `token`.
    pub token: bool,
    /// Whether the answer has the field `access_token`.
    pub access_token: bool,
    /// The service that the challenge names; `None` leaves it out.
    pub service: Option<String>,
    /// The scope that the challenge names instead of `repository:NAME:pull`.
    pub scope: Option<String>,
    /// The realm that the challenge names instead of the stand-in's own endpoint.
    pub realm: Option<String>,
    /// An account that gets tokens beside anonymous callers, and may read private repositories.
    pub account: Option<(String, String)>,
}

impl Default for Tokens {
    fn default() -> Tokens {
        Tokens {
            ttl: Duration::from_secs(300),
            uses: None,
            expires_in: Some(300),
            token: true,
            access_token: true,
            service: Some("registry.docker.io".into()),
            scope: None,
            realm: None,
            account: None,
        }
    }
}

/// Checks the credentials of requests and gives out tokens.
pub(super) struct Door {
    pub(super) access: Access,
    pub(super) tokens: Tokens,
    issued: Mutex<HashMap<String, Issued>>,
    serial: AtomicU64,
}

struct Issued {
    scopes: Vec<String>,
    until: Instant,
    uses: Option<u32>,
}

impl Door {
    pub(super) fn new(access: Access, tokens: Tokens) -> Door {
        Door { access, tokens, issued: Mutex::default(), serial: AtomicU64::new(1) }
    }

    /// Makes every token invalid.
    pub(super) fn revoke(&self) {
        self.issued.lock().unwrap().clear();
    }

    /// Admits a registry request, or returns the 401.
    pub(super) fn check(&self, request: &Request, target: &Target, own_realm: &str) -> Result<(), Box<Reply>> {
        match &self.access {
            Access::Open => Ok(()),
            Access::Basic(user, password) => match request.basic() {
                Some((u, p)) if u == *user && p == *password => Ok(()),
                _ => Err(Box::new(unauthorized("Basic realm=\"stand-in\""))),
            },
            Access::AnonymousToken | Access::AccountToken(..) => match self.spend(request, target) {
                Ok(()) => Ok(()),
                Err(problem) => Err(Box::new(unauthorized(&self.challenge(target, own_realm, problem)))),
            },
        }
    }

    fn challenge(&self, target: &Target, own_realm: &str, problem: Option<&str>) -> String {
        let realm = self.tokens.realm.as_deref().unwrap_or(own_realm);
        let mut challenge = format!("Bearer realm=\"{realm}\"");
        if let Some(service) = &self.tokens.service {
            challenge.push_str(&format!(",service=\"{service}\""));
        }
        let scope = target.repo().map(|repo| self.scope(repo));
        if let Some(scope) = scope {
            challenge.push_str(&format!(",scope=\"{scope}\""));
        }
        if let Some(problem) = problem {
            challenge.push_str(&format!(",error=\"{problem}\""));
        }
        challenge
    }

    fn scope(&self, repo: &str) -> String {
        self.tokens.scope.clone().unwrap_or_else(|| format!("repository:{repo}:pull"))
    }

    /// Uses a token; the error is the challenge's `error` field.
    fn spend(&self, request: &Request, target: &Target) -> Result<(), Option<&'static str>> {
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).ok_or(None)?;
        let mut issued = self.issued.lock().unwrap();
        let known = issued.get_mut(token).ok_or(Some("invalid_token"))?;
        if known.until <= Instant::now() || known.uses == Some(0) {
            return Err(Some("invalid_token"));
        }
        if let Some(repo) = target.repo()
            && !known.scopes.contains(&self.scope(repo))
        {
            return Err(Some("insufficient_scope"));
        }
        if let Some(uses) = &mut known.uses {
            *uses -= 1;
        }
        Ok(())
    }

    /// Answers a token request. As at Docker Hub, a token is given for any name, but it opens only
    /// the repositories that exist and may be read.
    pub(super) fn token(&self, request: &Request, content: &Content) -> Reply {
        let login = request.basic().or_else(|| {
            let user = request.form_all("username").pop()?;
            Some((user, request.form_all("password").pop()?))
        });
        // Clients without an account send an empty user; that is anonymous.
        let login = login.filter(|(user, _)| !user.is_empty());
        let account = match &self.access {
            Access::AccountToken(user, password) => Some((user, password, true)),
            Access::AnonymousToken | Access::Open | Access::Basic(..) => {
                self.tokens.account.as_ref().map(|(user, password)| (user, password, false))
            }
        };
        let logged_in = match (&login, account) {
            (Some((u, p)), Some((user, password, _))) if u == user && p == password => true,
            (Some(_), _) => return Reply::error(401, "UNAUTHORIZED", "incorrect username or password"),
            (None, Some((_, _, true))) => return Reply::error(401, "UNAUTHORIZED", "authentication required"),
            (None, _) => false,
        };
        let asked = request.query_all("scope").into_iter().chain(request.form_all("scope"));
        let asked: Vec<String> =
            asked.flat_map(|line| line.split(' ').map(str::to_string).collect::<Vec<_>>()).collect();
        let granted =
            asked.into_iter().filter(|scope| self.tokens.scope.is_some() || open_to(scope, content, logged_in));
        Reply::json(200, &self.issue(granted.collect()))
    }

    fn issue(&self, scopes: Vec<String>) -> Value {
        let number = self.serial.fetch_add(1, Ordering::Relaxed);
        let token = format!("stand-in.token.{number:08}");
        let until = Instant::now() + self.tokens.ttl;
        self.issued.lock().unwrap().insert(token.clone(), Issued { scopes, until, uses: self.tokens.uses });
        let mut answer = json!({"issued_at": rfc3339(SystemTime::now())});
        if let Some(seconds) = self.tokens.expires_in {
            answer["expires_in"] = json!(seconds);
        }
        if self.tokens.token {
            answer["token"] = json!(token);
        }
        if self.tokens.access_token {
            answer["access_token"] = json!(token);
        }
        answer
    }
}

fn open_to(scope: &str, content: &Content, logged_in: bool) -> bool {
    scope
        .strip_prefix("repository:")
        .and_then(|rest| rest.split_once(':'))
        .is_some_and(|(repo, actions)| actions.split(',').any(|a| a == "pull") && content.readable(repo, logged_in))
}

fn unauthorized(challenge: &str) -> Reply {
    Reply::error(401, "UNAUTHORIZED", "authentication required").with("Www-Authenticate", challenge)
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}
