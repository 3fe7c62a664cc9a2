//! A name and a password become a user, or not (S17, S27). Called by [`super::Access`] alone.
//!
//! ```text
//! refused? ─► remembered? ─► counted ─► a turn in its lane ─► bcrypt ─► remembered, or wrong
//! ```
//!
//! - A right password is remembered for a minute under a keyed HMAC of name, password and hash, so
//!   that Basic on every request costs one check. The password itself is kept nowhere, and a
//!   changed hash is another entry.
//! - `throttle.rs` says how often a client may be wrong, and refuses before this memory is asked.
//!   `lanes.rs` says in which order passwords are checked.
//! - Every wrong answer takes the time of the dearest hash: for an unknown name, for a cheaper
//!   hash, and for a password that bcrypt would cut short.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use aws_lc_rs::hmac;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    bcrypt,
    key::SecretKey,
    lanes::{Lanes, PasswordCheck, Unchecked},
    principal::Principal,
    throttle::{Attempt, Fingerprint, Start, Throttle},
    users::Users,
};
use crate::runtime::BlockingPool;

/// How long a right password is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The most passwords that are remembered.
const MOST_REMEMBERED: usize = 10_000;
/// How long a client that found no place is told to wait.
const FULL: Duration = Duration::from_secs(2);

/// Where a password comes from: the address whose wrong guesses are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientAddress {
    /// The client's address.
    pub address: IpAddr,
    /// A second address that may be the client's. A guess counts for both.
    pub perhaps: Option<IpAddr>,
}

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        ClientAddress { address, perhaps: None }
    }
}

/// The users and all that their passwords go through.
pub(super) struct SignIn {
    pub(super) users: Users,
    lanes: Lanes,
    throttle: Throttle,
    key: hmac::Key,
    right: Mutex<HashMap<Fingerprint, Instant>>,
}

/// The client is not signed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignInError {
    /// There is no such user, or the user has another password. Which of the two is not told.
    #[error("the user or the password is wrong")]
    Wrong,
    /// This address has been wrong too often.
    #[error("there were too many wrong passwords from this address; wait a minute")]
    TooMany {
        /// How long until it may try again.
        wait: Duration,
    },
    /// Too many others sign in at this moment.
    #[error("too many passwords are being checked; try again in a moment")]
    Full {
        /// How long until it may try again.
        wait: Duration,
    },
    /// The check did not end: lanyard is stopping.
    #[error("the password could not be checked")]
    Lost,
}

impl SignIn {
    pub(super) fn new(users: Users, threads: BlockingPool) -> Self {
        let key = SecretKey::fresh().hmac();
        SignIn { users, lanes: Lanes::new(threads), throttle: Throttle::default(), key, right: Mutex::default() }
    }

    pub(super) async fn sign_in(
        &self,
        user: &str,
        password: &str,
        from: ClientAddress,
    ) -> Result<Principal, SignInError> {
        self.users.refresh().await;
        let list = self.users.list();
        let Some(dummy) = list.dummy() else { return Err(SignInError::Wrong) };
        let known = list.hash(user).filter(|_| bcrypt::reads(password)).map(|hash| (user, hash));
        let fingerprint = self.fingerprint(user, password, known.map_or("", |(_, hash)| hash));
        let addresses = || [Some(from.address), from.perhaps].into_iter().flatten();
        if let Some(wait) = addresses().find_map(|address| self.throttle.refused(address, user)) {
            return Err(SignInError::TooMany { wait });
        }
        let signed_in = || Ok(Principal::User(user.to_owned()));
        if known.is_some() && self.remembers(&fingerprint) {
            return signed_in();
        }
        let begin = |address| self.throttle.begin(address, user, fingerprint, known.is_some());
        let (start, perhaps) = (begin(from.address), from.perhaps.map(begin));
        let perhaps = perhaps.as_ref().and_then(Start::attempt);
        let attempt = start.attempt();
        let settled = || self.settled(&fingerprint, attempt);
        // A guess that is not tried takes as long as one at an unknown user.
        let known = known.filter(|_| attempt.is_some());
        let rank = attempt.map_or(0, |attempt| attempt.rank);
        let check = PasswordCheck { password, known, rank, dummy, settled: &settled };
        let checked = match &start {
            Start::Again => return Err(SignInError::Wrong),
            Start::Refused(wait) => return Err(SignInError::TooMany { wait: *wait }),
            Start::Aside(_, wait) => match self.lanes.aside(&check).await {
                true => Ok(true),
                false => Err(SignInError::TooMany { wait: *wait }),
            },
            Start::Counted(_) => self.lanes.check(&check).await.map_err(SignInError::from),
        };
        let attempts = [attempt, perhaps].into_iter().flatten();
        match checked {
            Ok(true) => {
                self.remember(fingerprint);
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

    /// How many guesses are being checked or wait for a check.
    #[cfg(test)]
    pub(super) fn places_taken(&self) -> usize {
        self.lanes.places_taken()
    }

    /// The result, if another request with the same password has got one while this one waited.
    fn settled(&self, fingerprint: &Fingerprint, attempt: Option<&Attempt<'_>>) -> Option<bool> {
        if self.remembers(fingerprint) {
            return Some(true);
        }
        attempt.is_some_and(Attempt::is_wrong).then_some(false)
    }

    /// The HMAC of the three texts, each after its length: `ab`, `c` and `a`, `bc` differ.
    fn fingerprint(&self, user: &str, password: &str, hash: &str) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user, password, hash] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(context.sign().as_ref());
        fingerprint
    }

    fn remembers(&self, fingerprint: &Fingerprint) -> bool {
        let right = self.right.lock();
        right.get(fingerprint).is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    fn remember(&self, fingerprint: Fingerprint) {
        let mut right = self.right.lock();
        if right.len() >= MOST_REMEMBERED {
            right.retain(|_, since| since.elapsed() < REMEMBERED);
        }
        if right.len() < MOST_REMEMBERED {
            right.insert(fingerprint, Instant::now());
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
