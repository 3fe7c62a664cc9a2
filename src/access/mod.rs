//! Who asks, and what they may do.
//!
//! ```text
//! http ── who is it? ─► peer address (Loopback, Anonymous) ─┐
//!           │           Basic ─► sign_in ─► User            ├─► authorize(principal, action, repository) ─► Ok | Denied
//!           │           Bearer ─► verify ─► User            ┘
//! /token ── sign_in ─► issue ─► a token that names what it may be used for
//! ```
//!
//! [`Access::authorize`] is the one place that says yes or no (SECURITY.md S7): it knows names and rules and never what
//! exists, so its answer tells nothing about that (S5). Rules only give. A token narrows what its user may do to the repository
//! of a path, and nothing else: where a blob is mounted from, and what the catalogue lists, goes by what the user may pull,
//! whatever the token was asked for. Docker and the conformance program mount with a token for the target alone. A
//! password is checked on threads of its own, is never kept in the clear and never logged (S17, S18). Called by
//! [`crate::http`]; `lanyard user` edits the file of users through [`edit`].

mod bcrypt;
pub mod edit;
mod htpasswd;
mod key;
mod lanes;
mod principal;
mod rules;
mod sign_in;
#[cfg(test)]
mod tests;
mod throttle;
mod token;
mod turns;
mod users;

use std::{net::IpAddr, path::PathBuf, time::SystemTime};

pub use self::{
    htpasswd::{ListError, check},
    principal::{Denied, Principal},
    sign_in::SignInError,
    token::{Bearer, Grant, SERVICE, Token, TooMuch},
};
pub use crate::config::Action;

use self::{key::Key, rules::Rules, sign_in::SignIn, token::Tokens, users::Users};
use crate::{config::Config, oci::Repository, runtime::BlockingPool};

/// The file of the key that signs tokens, in the data folder.
const KEY_FILE: &str = "token.key";

/// The rules, the users and the tokens. One per process, shared by all workers.
pub struct Access {
    rules: Rules,
    sign_in: SignIn,
    tokens: Tokens,
}

/// Where a password comes from: whose wrong guesses are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// Another that it may have. What counts for the one counts for the other, too.
    pub perhaps: Option<IpAddr>,
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        Client { address, perhaps: None }
    }
}

/// Why lanyard does not start with these users. One line that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", .path.display())]
pub struct AccessError {
    path: PathBuf,
    error: ListError,
}

impl Access {
    /// Reads the users. `threads` check passwords, so they should be fewer than the machine's cores and nobody else's. The
    /// key of tokens is made and kept only where there can be users.
    ///
    /// # Errors
    /// A file of users that is there and is none. One that is missing is an empty one.
    pub fn new(config: &Config, threads: BlockingPool) -> Result<Access, AccessError> {
        let path = config.auth.htpasswd.clone();
        let key = path.as_ref().map_or_else(Key::fresh, |_| Key::kept(&config.data_dir.join(KEY_FILE)));
        let users = Users::open(path.clone(), threads.apart(1))
            .map_err(|error| AccessError { path: path.unwrap_or_default(), error })?;
        Ok(Access {
            rules: Rules(config.access.clone()),
            sign_in: SignIn::new(users, threads),
            tokens: Tokens::new(&key),
        })
    }

    /// Whether the principal may do this with the repository. Says nothing about whether the repository exists.
    pub fn authorize(&self, principal: &Principal, action: Action, repository: &Repository) -> Result<(), Denied> {
        if self.rules.allow(principal, action, repository) {
            return Ok(());
        }
        let could_sign_in = self.has_users() && !matches!(principal, Principal::User(_));
        Err(match action {
            _ if could_sign_in => Denied::SignIn,
            Action::Pull => Denied::Unknown,
            Action::Push | Action::Delete | Action::Admin => Denied::Forbidden,
        })
    }

    /// Whether anybody can sign in, as far as was known at the last [`Access::refresh`].
    pub fn has_users(&self) -> bool {
        !self.sign_in.users.list().is_empty()
    }

    /// Looks whether the file of users has changed, at most once a second, and waits at most a second for the answer.
    pub async fn refresh(&self) {
        self.sign_in.users.refresh().await;
    }

    /// The user with this name and password. `from` is the client, whose failures are counted.
    ///
    /// # Errors
    /// The name or the password is wrong (which, is not told), or the address has been wrong too often.
    pub async fn sign_in(&self, user: &str, password: &str, from: impl Into<Client>) -> Result<Principal, SignInError> {
        self.sign_in.sign_in(user, password, from.into()).await
    }

    /// A token for what is in `access`, good for five minutes from now. No user: a token that says only that nobody signed in.
    ///
    /// # Errors
    /// More was asked for than a token holds.
    pub fn issue(&self, user: Option<&str>, access: Vec<Grant>) -> Result<Token, TooMuch> {
        self.tokens.issue(user, access, SystemTime::now())
    }

    /// What a token says, if it is one of ours, in its time, and its user still is one.
    pub fn verify(&self, token: &str) -> Option<Bearer> {
        let bearer = self.tokens.verify(token, SystemTime::now())?;
        let known = bearer.user.as_ref().is_none_or(|user| self.sign_in.users.list().has(user));
        known.then_some(bearer)
    }
}
