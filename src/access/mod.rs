//! Who asks, and what they may do.
//!
//! ```text
//! http ── who is it? ─► peer address (Loopback, Anonymous) ─┐
//!           │           Basic ─► sign_in ─► User            ├─► authorize ─► Ok | Denied
//!           │           Bearer ─► verify ─► User            ┘
//! /token ── sign_in ─► issue ─► a token that names what it may be used for
//! ```
//!
//! [`Access::authorize`] is the one place that says yes or no (SECURITY.md S7). It knows names and
//! rules and never what exists, so its answer tells nothing about that (S5). Rules only give.
//!
//! A token narrows what its user may do to the repository of a path, and nothing else. Where a blob
//! is mounted from, and what the catalogue lists, goes by what the user may pull, whatever the
//! token was asked for: Docker and the conformance program mount with a token for the target alone.
//!
//! A password is checked on threads of its own, is never kept in the clear and never logged (S17,
//! S18). Called by [`crate::http`]. `lanyard user` edits the file of users through [`edit`].

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

use std::{path::PathBuf, time::SystemTime};

pub use self::{
    htpasswd::{ListError, check},
    principal::{Denied, Principal},
    sign_in::{ClientAddress, SignInError},
    token::{ResourceActions, SERVICE, Token, TooLarge, VerifiedToken},
};
pub use crate::config::Action;

use self::{key::SecretKey, rules::Rules, sign_in::SignIn, token::TokenIssuer, users::Users};
use crate::{config::Config, oci::Repository, runtime::BlockingPool};

/// The file of the key that signs tokens, in the data folder.
const KEY_FILE: &str = "token.key";

/// The rules, the users and the tokens. One per process, shared by all workers.
pub struct Access {
    rules: Rules,
    sign_in: SignIn,
    tokens: TokenIssuer,
}

/// The file of users keeps lanyard from starting. Shown as one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", .path.display())]
pub struct AccessError {
    path: PathBuf,
    error: ListError,
}

impl Access {
    /// Reads the users. `threads` check passwords: give them to this room alone, and fewer of them
    /// than the machine has cores. The key of tokens is made and kept only if `auth.htpasswd` is
    /// set.
    ///
    /// # Errors
    /// The file of users exists and is not one. A missing file counts as an empty one.
    pub fn new(config: &Config, threads: BlockingPool) -> Result<Access, AccessError> {
        let path = config.auth.htpasswd.clone();
        let key = path.as_ref().map_or_else(SecretKey::fresh, |_| SecretKey::kept(&config.data_dir.join(KEY_FILE)));
        let users = Users::open(path.clone(), threads.apart(1))
            .map_err(|error| AccessError { path: path.unwrap_or_default(), error })?;
        Ok(Access {
            rules: Rules(config.access.clone()),
            sign_in: SignIn::new(users, threads),
            tokens: TokenIssuer::new(&key),
        })
    }

    /// Whether the principal may do this with the repository. Says nothing about whether the
    /// repository exists.
    ///
    /// # Errors
    /// No rule gives it. The error says how HTTP refuses.
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

    /// Whether there is a user to sign in as, as of the last [`Access::refresh`].
    pub fn has_users(&self) -> bool {
        !self.sign_in.users.list().is_empty()
    }

    /// Looks whether the file of users has changed, at most once a second. Waits at most a second
    /// for the answer.
    pub async fn refresh(&self) {
        self.sign_in.users.refresh().await;
    }

    /// The user with this name and password. `from` is the client, whose failures are counted.
    ///
    /// # Errors
    /// The name or the password is wrong (which of the two is not told), the address has been wrong
    /// too often, or too many passwords are being checked.
    pub async fn sign_in(
        &self,
        user: &str,
        password: &str,
        from: impl Into<ClientAddress>,
    ) -> Result<Principal, SignInError> {
        self.sign_in.sign_in(user, password, from.into()).await
    }

    /// A token for the resources in `access`, valid for five minutes from now. `user` is `None` for
    /// a client that has not signed in.
    ///
    /// # Errors
    /// The token would be too large.
    pub fn issue(&self, user: Option<&str>, access: Vec<ResourceActions>) -> Result<Token, TooLarge> {
        self.tokens.issue(user, access, SystemTime::now())
    }

    /// What a token says. `None` if this lanyard did not issue it, if it is not valid now, or if
    /// its user has been removed.
    pub fn verify(&self, text: &str) -> Option<VerifiedToken> {
        let token = self.tokens.verify(text, SystemTime::now())?;
        let known = token.user.as_ref().is_none_or(|user| self.sign_in.users.list().has(user));
        known.then_some(token)
    }
}
