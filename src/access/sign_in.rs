//! A name and a password become a user, or not (S17, S27).
//!
//! ```text
//! refused? ─► remembered? ─► counted ─► a turn in its lane ─► bcrypt ─► remembered, or wrong
//! ```
//!
//! - A right password is remembered for a minute under a keyed HMAC of name, password and hash, so
//!   that Basic on every request costs one check. The password itself is kept nowhere, and a
//!   changed hash is another entry.
//! - `throttle.rs` says how often a client may be wrong, and refuses before this memory is asked.
//!   `lanes.rs` says who waits.
//! - Every wrong answer takes the time of the dearest hash: for a name that is not there, for a
//!   cheaper hash, and for a password that bcrypt would cut short.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::hmac;
use tokio::time::Instant;

use super::{
    Client, bcrypt,
    key::Key,
    lanes::{Guess, Lanes, Unchecked},
    principal::Principal,
    throttle::{Attempt, Mark, Start, Throttle},
    users::Users,
};
use crate::runtime::BlockingPool;

/// How long a right password is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many are.
const MOST_REMEMBERED: usize = 10_000;
/// When a client may ask again that found no place.
const FULL: Duration = Duration::from_secs(2);

pub(super) struct SignIn {
    pub(super) users: Users,
    lanes: Lanes,
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
    /// Too many others sign in at this moment.
    #[error("too many passwords are being checked; try again in a moment")]
    Full {
        /// When it may try again.
        wait: Duration,
    },
    /// The check did not end: lanyard is stopping.
    #[error("the password could not be checked")]
    Lost,
}

impl SignIn {
    pub(super) fn new(users: Users, threads: BlockingPool) -> Self {
        let key = Key::fresh().hmac();
        SignIn { users, lanes: Lanes::new(threads), throttle: Throttle::default(), key, right: Mutex::default() }
    }

    pub(super) async fn sign_in(&self, user: &str, password: &str, from: Client) -> Result<Principal, SignInError> {
        self.users.refresh().await;
        let list = self.users.list();
        let Some(dummy) = list.dummy() else { return Err(SignInError::Wrong) };
        let known = list.hash(user).filter(|_| bcrypt::reads(password)).map(|hash| (user, hash));
        let mark = self.mark(user, password, known.map_or("", |(_, hash)| hash));
        let addresses = || [Some(from.address), from.perhaps].into_iter().flatten();
        if let Some(wait) = addresses().find_map(|address| self.throttle.refused(address, user)) {
            return Err(SignInError::TooMany { wait });
        }
        let signed_in = || Ok(Principal::User(user.to_owned()));
        if known.is_some() && self.remembers(&mark) {
            return signed_in();
        }
        let begin = |address| self.throttle.begin(address, user, mark, known.is_some());
        let (start, perhaps) = (begin(from.address), from.perhaps.map(begin));
        let perhaps = perhaps.as_ref().and_then(Start::attempt);
        let attempt = start.attempt();
        let settled = || self.settled(&mark, attempt);
        // A guess that is not tried takes the time of one of a user that is not known.
        let known = known.filter(|_| attempt.is_some());
        let rank = attempt.map_or(0, |attempt| attempt.rank);
        let guess = Guess { password, known, rank, dummy, settled: &settled };
        let checked = match &start {
            Start::Again => return Err(SignInError::Wrong),
            Start::Refused(wait) => return Err(SignInError::TooMany { wait: *wait }),
            Start::Aside(_, wait) => match self.lanes.aside(&guess).await {
                true => Ok(true),
                false => Err(SignInError::TooMany { wait: *wait }),
            },
            Start::Counted(_) => self.lanes.check(&guess).await.map_err(SignInError::from),
        };
        let attempts = [attempt, perhaps].into_iter().flatten();
        match checked {
            Ok(true) => {
                self.remember(mark);
                attempts.for_each(Attempt::right);
                signed_in()
            }
            Ok(false) => {
                attempts.for_each(Attempt::wrong);
                Err(SignInError::Wrong)
            }
            Err(error) => Err(error),
        }
    }

    /// How many guesses are checked, or wait for it.
    #[cfg(test)]
    pub(super) fn places_taken(&self) -> usize {
        self.lanes.places_taken()
    }

    /// What another request with the same password has learned while this one waited.
    fn settled(&self, mark: &Mark, attempt: Option<&Attempt<'_>>) -> Option<bool> {
        if self.remembers(mark) {
            return Some(true);
        }
        attempt.is_some_and(Attempt::is_wrong).then_some(false)
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

impl From<Unchecked> for SignInError {
    fn from(unchecked: Unchecked) -> Self {
        match unchecked {
            Unchecked::Full => SignInError::Full { wait: FULL },
            Unchecked::Lost => SignInError::Lost,
        }
    }
}
