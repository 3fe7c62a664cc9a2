//! How often a client may be wrong (S17, S27). Used by `sign_in.rs` alone.
//!
//! | counted by | in a minute | beyond it |
//! |---|---|---|
//! | address, user and password | one guess, however often sent | the first answer, at once |
//! | address and user | [`GUESSES`], 10 | 429, before any memory of a success is asked |
//! | address | [`BY_ADDRESS`], 100, over all names | 429 for a wrong password, a right one is in |
//! | address beyond its 100, and user | [`ASIDE`], 3 | 429 |
//! | addresses | [`ADDRESSES`], 4,096 | a new one is counted with its network (/24, /48), |
//! | networks | as many | a new one with the one around it (/16, /32), and then with all |
//!
//! - A guess counts from its start. A right one is taken back. One whose client leaves stays. So
//!   neither hanging up nor asking many times at once gives more guesses.
//! - A stranger's guesses cost no other user: each user of an address has guesses of its own.
//!   Beyond the 100 of an address, a wrong password, an unknown user and a user without guesses
//!   left get the same answer after the same time ([`Lanes::aside`](super::lanes::Lanes::aside)),
//!   and a user that was not guessed at signs in as always.
//! - An IPv6 /64 is one address, and so are an IPv4 address and its mapped form.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

/// Wrong guesses of an address at one user in each [`WINDOW`].
pub(super) const GUESSES: usize = 10;
/// Wrong guesses of an address at all users.
pub(super) const BY_ADDRESS: usize = 100;
/// Guesses at one user from an address that is beyond [`BY_ADDRESS`], earlier ones included.
pub(super) const ASIDE: usize = 3;
/// How long a guess counts.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// The most addresses that are counted each by itself; the most networks, likewise.
const ADDRESSES: usize = 4_096;
/// The bits of an address by which it is counted, of IPv4 and of IPv6: a host with one IPv6 address
/// has all of its /64.
const PREFIXES: [(u32, u32); 3] = [(32, 64), (24, 48), (16, 32)];
/// How often addresses without a guess in the last [`WINDOW`] are looked for and let go.
const TIDY: Duration = Duration::from_secs(1);

/// Tells one pair of a user and a password from another, without holding either.
pub(super) type Fingerprint = [u8; 32];

/// The guesses of the last minute.
#[derive(Default)]
pub(super) struct Throttle {
    counts: Mutex<GuessCounts>,
    /// Hashes the names of users, which are not kept themselves.
    names: RandomState,
}

#[derive(Default)]
struct GuessCounts {
    /// By address, by network, by the network around it, and all others together.
    tables: [HashMap<IpAddr, VecDeque<Guess>>; PREFIXES.len() + 1],
    tidied: Option<Instant>,
}

struct Guess {
    at: Instant,
    user: u64,
    fingerprint: Fingerprint,
    /// It was checked and is wrong. It counts before that too.
    wrong: bool,
    /// How many requests wait for its check. Once they have left, the same guess counts again.
    waiting: usize,
}

/// The throttle's word on a guess.
pub(super) enum Start<'a> {
    /// It counts from now on, and is to be checked.
    Counted(Attempt<'a>),
    /// This address made the same guess a moment ago, and it was wrong.
    Again,
    /// The address is beyond its limit. There is an attempt if the user has a guess left. The time
    /// is how long until the address has a guess again.
    Aside(Option<Attempt<'a>>, Duration),
    /// The address has no guess left at this user for this time.
    Refused(Duration),
}

impl<'a> Start<'a> {
    /// The attempt, if the guess is to be checked.
    pub(super) fn attempt(&self) -> Option<&Attempt<'a>> {
        match self {
            Start::Counted(attempt) | Start::Aside(Some(attempt), _) => Some(attempt),
            Start::Again | Start::Refused(_) | Start::Aside(None, _) => None,
        }
    }
}

/// A guess that is being checked. Dropped without [`Attempt::right`] or [`Attempt::wrong`] it goes
/// on counting, and the next one like it counts too.
pub(super) struct Attempt<'a> {
    throttle: &'a Throttle,
    counted: CountKey,
    fingerprint: Fingerprint,
    /// How many guesses its address has made in the last minute, this one included.
    pub(super) rank: usize,
}

/// Where an address is counted: the table, and the address or network in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct CountKey {
    table: usize,
    network: IpAddr,
}

impl Throttle {
    /// How long this address has no guess left at this user; `None` if it has one. Asked before any
    /// memory of a success.
    pub(super) fn refused(&self, address: IpAddr, user: &str) -> Option<Duration> {
        let user = self.names.hash_one(user);
        let mut counts = self.lock();
        let guesses = counts.key(address).guesses(&mut counts)?;
        forget(guesses);
        spent(guesses, user)
    }

    /// Counts a guess. `known`: the user exists, and bcrypt reads all of the password.
    pub(super) fn begin(&self, address: IpAddr, user: &str, fingerprint: Fingerprint, known: bool) -> Start<'_> {
        let user = self.names.hash_one(user);
        let mut counts = self.lock();
        let counted = counts.key(address);
        let guesses = counts.tables[counted.table].entry(counted.network).or_default();
        forget(guesses);
        if let Some(wait) = spent(guesses, user) {
            return Start::Refused(wait);
        }
        let attempt = |rank| Attempt { throttle: self, counted, fingerprint, rank };
        let seen = guesses.iter().any(|guess| guess.fingerprint == fingerprint);
        let same = guesses.iter_mut().rfind(|guess| guess.fingerprint == fingerprint);
        let same = same.filter(|guess| guess.wrong || guess.waiting > 0).map(|guess| {
            guess.waiting += usize::from(!guess.wrong);
            guess.wrong
        });
        let guess = Guess { at: Instant::now(), user, fingerprint, wrong: false, waiting: 1 };
        if guesses.len() >= BY_ADDRESS {
            let wait = left(guesses.front());
            // The answer must not depend on whether the user exists. So a guess that was wrong
            // before is not answered at once either.
            let tries = known && same != Some(true);
            let at_user = guesses.iter().filter(|guess| guess.user == user).count();
            if !seen && at_user < ASIDE {
                guesses.push_back(guess);
                return Start::Aside(tries.then(|| attempt(guesses.len())), wait);
            }
            return Start::Aside((tries && seen).then(|| attempt(guesses.len())), wait);
        }
        match same {
            Some(true) => Start::Again,
            Some(false) => Start::Counted(attempt(guesses.len())),
            None => {
                guesses.push_back(guess);
                Start::Counted(attempt(guesses.len()))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, GuessCounts> {
        self.counts.lock()
    }
}

impl GuessCounts {
    /// Where an address is counted: by itself, or with its network if there are too many addresses.
    fn key(&mut self, address: IpAddr) -> CountKey {
        let keys = PREFIXES.iter().enumerate();
        let keys = keys.map(|(table, prefix)| CountKey { table, network: network(address, *prefix) });
        let mut tidied = false;
        for key in keys {
            let known = self.tables[key.table].contains_key(&key.network);
            if known || self.tables[key.table].len() < ADDRESSES {
                return key;
            }
            if !std::mem::replace(&mut tidied, true) && self.tidy() && self.tables[key.table].len() < ADDRESSES {
                return key;
            }
        }
        CountKey { table: PREFIXES.len(), network: IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
    }

    /// Lets go of addresses without a guess in the last [`WINDOW`]. False: that was done within the
    /// last second.
    fn tidy(&mut self) -> bool {
        if self.tidied.is_some_and(|tidied| tidied.elapsed() < TIDY) {
            return false;
        }
        self.tidied = Some(Instant::now());
        for table in &mut self.tables {
            table.retain(|_, guesses| guesses.back().is_some_and(|guess| guess.at.elapsed() < WINDOW));
        }
        true
    }
}

impl CountKey {
    fn guesses(self, counts: &mut GuessCounts) -> Option<&mut VecDeque<Guess>> {
        counts.tables[self.table].get_mut(&self.network)
    }
}

impl Attempt<'_> {
    /// Whether the same guess was found wrong meanwhile.
    pub(super) fn is_wrong(&self) -> bool {
        let mut counts = self.throttle.lock();
        let same = |guess: &Guess| guess.fingerprint == self.fingerprint && guess.wrong;
        self.counted.guesses(&mut counts).is_some_and(|guesses| guesses.iter().any(same))
    }

    /// The password was right: the guess no longer counts.
    pub(super) fn right(&self) {
        if let Some(guesses) = self.counted.guesses(&mut self.throttle.lock()) {
            guesses.retain(|guess| guess.fingerprint != self.fingerprint);
        }
    }

    /// The password was wrong: the guess counts, and the same one is answered at once.
    pub(super) fn wrong(&self) {
        let mut counts = self.throttle.lock();
        let guesses = self.counted.guesses(&mut counts);
        for guess in guesses.into_iter().flatten().filter(|guess| guess.fingerprint == self.fingerprint) {
            guess.wrong = true;
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut counts = self.throttle.lock();
        let guesses = self.counted.guesses(&mut counts);
        if let Some(guess) = guesses.and_then(|all| all.iter_mut().rfind(|guess| guess.fingerprint == self.fingerprint))
        {
            guess.waiting = guess.waiting.saturating_sub(1);
        }
    }
}

/// Lets go of guesses that are older than [`WINDOW`].
fn forget(guesses: &mut VecDeque<Guess>) {
    while guesses.front().is_some_and(|guess| guess.at.elapsed() >= WINDOW) {
        guesses.pop_front();
    }
}

/// How long there is no guess left at this user; `None` if there is one.
fn spent(guesses: &VecDeque<Guess>, user: u64) -> Option<Duration> {
    let mut at_user = guesses.iter().filter(|guess| guess.user == user);
    let oldest = at_user.next();
    (at_user.count() + 1 >= GUESSES).then(|| left(oldest))
}

/// How long this guess still counts; at least a second.
fn left(guess: Option<&Guess>) -> Duration {
    let age = guess.map_or(Duration::ZERO, |guess| guess.at.elapsed());
    WINDOW.saturating_sub(age).max(Duration::from_secs(1))
}

/// The network that an address is in, of `v4` or `v6` bits.
fn network(address: IpAddr, (v4, v6): (u32, u32)) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => (address & Ipv4Addr::from_bits(u32::MAX << (32 - v4))).into(),
        IpAddr::V6(address) => (address & Ipv6Addr::from_bits(u128::MAX << (128 - v6))).into(),
    }
}

#[cfg(test)]
#[path = "throttle_tests.rs"]
mod tests;
