//! A name and a password become a user, or not (S17).
//!
//! What was right is remembered for a minute under a keyed HMAC of name, password and hash, so that Basic on every request
//! costs one check; the password itself is kept nowhere, and a changed hash is another entry. Whatever is wrong takes the time of
//! the dearest hash there is: a name that is not there, and one whose own hash is cheaper.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::hmac;
use tokio::time::Instant;

use super::{bcrypt, key::Key, principal::Principal, throttle::Throttle, users::Users};
use crate::storage::DiskThreads;

/// How long a right password is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many are.
const MOST_REMEMBERED: usize = 10_000;

type Mark = [u8; 32];

pub(super) struct SignIn {
    pub(super) users: Users,
    threads: DiskThreads,
    throttle: Throttle,
    key: hmac::Key,
    right: Mutex<HashMap<Mark, Instant>>,
}

/// Why nobody is signed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignInError {
    /// There is no such user, or it has another password; which, is not told.
    #[error("the user or the password is wrong")]
    Wrong,
    /// This address has been wrong too often.
    #[error("there were too many wrong passwords from this address; wait a minute")]
    TooMany {
        /// When it may try again.
        wait: Duration,
    },
    /// The check did not end: lanyard is stopping.
    #[error("the password could not be checked")]
    Lost,
}

impl SignIn {
    pub(super) fn new(users: Users, threads: DiskThreads) -> Self {
        let key = Key::fresh().hmac();
        SignIn { users, threads, throttle: Throttle::default(), key, right: Mutex::default() }
    }

    pub(super) async fn sign_in(&self, user: &str, password: &str, from: IpAddr) -> Result<Principal, SignInError> {
        self.users.refresh().await;
        let list = self.users.list();
        let Some(dummy) = list.dummy() else { return Err(SignInError::Wrong) };
        let known = list.hash(user);
        let mark = self.mark(user, password, known.unwrap_or_default());
        let signed_in = || Ok(Principal::User(user.to_owned()));
        if known.is_some() && self.remembers(&mark) {
            return signed_in();
        }
        let attempt = self.throttle.turn(from).await.map_err(|wait| SignInError::TooMany { wait })?;
        // Whoever had the turn before may have brought the same.
        if known.is_some() && self.remembers(&mark) {
            return signed_in();
        }
        let (password, hash, dummy) = (password.to_owned(), known.unwrap_or(dummy).to_owned(), dummy.to_owned());
        let check = move || bcrypt::matches_or_takes_as_long(&password, &hash, &dummy);
        let right = self.threads.run(check).await.map_err(|_| SignInError::Lost)?;
        if right && known.is_some() {
            self.remember(mark);
            return signed_in();
        }
        attempt.failed();
        Err(SignInError::Wrong)
    }

    /// The lengths keep `ab`+`c` and `a`+`bc` apart.
    fn mark(&self, user: &str, password: &str, hash: &str) -> Mark {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user, password, hash] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut mark = Mark::default();
        mark.copy_from_slice(context.sign().as_ref());
        mark
    }

    fn remembers(&self, mark: &Mark) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.get(mark).is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    fn remember(&self, mark: Mark) {
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= MOST_REMEMBERED {
            right.retain(|_, since| since.elapsed() < REMEMBERED);
        }
        if right.len() < MOST_REMEMBERED {
            right.insert(mark, Instant::now());
        }
    }
}
