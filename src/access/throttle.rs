//! How often a client may be wrong (S17, S27).
//!
//! | counted by | in a minute | beyond it |
//! |---|---|---|
//! | address, user and password | one guess, however often sent | the answer to the first, at once |
//! | address and user | [`GUESSES`], 10 | 429, before any memory of a success is asked |
//! | address | [`BY_ADDRESS`], 100, over all names | 429 for a wrong password, a right one is in |
//! | address beyond its 100, and user | [`ASIDE`], 3 | 429 |
//! | addresses | [`ADDRESSES`], 4,096 | a new one is counted with its network (/24, /48), |
//! | networks | as many | a new one with the one around it (/16, /32), and then with all |
//!
//! - A guess counts when it starts. A right one is taken back; one whose client leaves stays. So
//!   neither hanging up nor asking many times at once gives more guesses.
//! - Nobody pays for a stranger: another user of the same address has guesses of its own. Where an
//!   address is beyond its 100, a wrong password, an unknown user and a user without guesses left
//!   get the same answer after the same time ([`Lanes::aside`](super::lanes::Lanes::aside)), and a
//!   user who was not guessed at signs in as always.
//! - An IPv6 /64 is one address, and so are an IPv4 address and its mapped form.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Wrong guesses of an address at one user in each [`WINDOW`].
pub(super) const GUESSES: usize = 10;
/// Wrong guesses of an address at all users.
pub(super) const BY_ADDRESS: usize = 100;
/// Guesses at one user of an address that is beyond [`BY_ADDRESS`], those before included.
pub(super) const ASIDE: usize = 3;
/// How long a guess counts.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are counted each by itself, and networks.
const ADDRESSES: usize = 4_096;
/// The bits of an address by which it is counted, of IPv4 and of IPv6: who has one IPv6 address has
/// all of its /64.
const PREFIXES: [(u32, u32); 3] = [(32, 64), (24, 48), (16, 32)];
/// How often those are let go of that have not guessed for a [`WINDOW`].
const TIDY: Duration = Duration::from_secs(1);

/// What tells one pair of a user and a password from another, without holding either.
pub(super) type Mark = [u8; 32];

/// The guesses of the last minute.
#[derive(Default)]
pub(super) struct Throttle {
    counts: Mutex<Counts>,
    /// Names are kept as their hashes.
    names: RandomState,
}

#[derive(Default)]
struct Counts {
    /// By address, by network, by the network around that, and the rest.
    tables: [HashMap<IpAddr, VecDeque<Guess>>; PREFIXES.len() + 1],
    tidied: Option<Instant>,
}

struct Guess {
    at: Instant,
    user: u64,
    mark: Mark,
    /// It was checked. Until then it counts all the same.
    wrong: bool,
    /// So many requests wait for its check. Once they have left, the same guess is another one.
    waiting: usize,
}

/// What becomes of a guess.
pub(super) enum Start<'a> {
    /// It counts from now on, and is to be checked.
    Counted(Attempt<'a>),
    /// This address had the same guess a moment ago, and it was wrong.
    Again,
    /// The address is beyond its limit. The attempt is there where the user has a guess left.
    Aside(Option<Attempt<'a>>, Duration),
    /// The address has no guess left at this user: when it has.
    Refused(Duration),
}

impl<'a> Start<'a> {
    /// The guess, where it is one.
    pub(super) fn attempt(&self) -> Option<&Attempt<'a>> {
        match self {
            Start::Counted(attempt) | Start::Aside(Some(attempt), _) => Some(attempt),
            Start::Again | Start::Refused(_) | Start::Aside(None, _) => None,
        }
    }
}

/// A guess that counts. Dropped without a word it goes on counting, and the next one like it counts
/// too.
pub(super) struct Attempt<'a> {
    throttle: &'a Throttle,
    place: Place,
    mark: Mark,
    /// How many guesses its address has made in the last minute, this one included.
    pub(super) rank: usize,
}

/// Where an address is counted: in which table, and under which name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    table: usize,
    network: IpAddr,
}

impl Throttle {
    /// How long this address has no guess left at this user. It is asked before any memory of a
    /// success.
    pub(super) fn refused(&self, address: IpAddr, user: &str) -> Option<Duration> {
        let user = self.names.hash_one(user);
        let mut counts = self.lock();
        let guesses = counts.place(address).of(&mut counts)?;
        forget(guesses);
        spent(guesses, user)
    }

    /// Counts a guess. `known`: the user may have a right password.
    pub(super) fn begin(&self, address: IpAddr, user: &str, mark: Mark, known: bool) -> Start<'_> {
        let user = self.names.hash_one(user);
        let mut counts = self.lock();
        let place = counts.place(address);
        let guesses = counts.tables[place.table].entry(place.network).or_default();
        forget(guesses);
        if let Some(wait) = spent(guesses, user) {
            return Start::Refused(wait);
        }
        let attempt = |rank| Attempt { throttle: self, place, mark, rank };
        let seen = guesses.iter().any(|guess| guess.mark == mark);
        let same = guesses.iter_mut().rfind(|guess| guess.mark == mark);
        let same = same.filter(|guess| guess.wrong || guess.waiting > 0).map(|guess| {
            guess.waiting += usize::from(!guess.wrong);
            guess.wrong
        });
        let guess = Guess { at: Instant::now(), user, mark, wrong: false, waiting: 1 };
        if guesses.len() >= BY_ADDRESS {
            let wait = left(guesses.front());
            // What is told must not depend on whether the user is known, so what was wrong before
            // is not told either.
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

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Where an address is counted: by itself, or where there are too many, with its neighbours.
    fn place(&mut self, address: IpAddr) -> Place {
        let places = PREFIXES.iter().enumerate();
        let places = places.map(|(table, prefix)| Place { table, network: network(address, *prefix) });
        let mut tidied = false;
        for place in places {
            let known = self.tables[place.table].contains_key(&place.network);
            if known || self.tables[place.table].len() < ADDRESSES {
                return place;
            }
            if !std::mem::replace(&mut tidied, true) && self.tidy() && self.tables[place.table].len() < ADDRESSES {
                return place;
            }
        }
        Place { table: PREFIXES.len(), network: IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
    }

    /// Forgets who has not guessed for a [`WINDOW`]. False: that was done a moment ago.
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

impl Place {
    fn of(self, counts: &mut Counts) -> Option<&mut VecDeque<Guess>> {
        counts.tables[self.table].get_mut(&self.network)
    }
}

impl Attempt<'_> {
    /// Whether the same guess was found wrong meanwhile.
    pub(super) fn is_wrong(&self) -> bool {
        let mut counts = self.throttle.lock();
        let same = |guess: &Guess| guess.mark == self.mark && guess.wrong;
        self.place.of(&mut counts).is_some_and(|guesses| guesses.iter().any(same))
    }

    /// The password was right: nothing is counted.
    pub(super) fn right(&self) {
        if let Some(guesses) = self.place.of(&mut self.throttle.lock()) {
            guesses.retain(|guess| guess.mark != self.mark);
        }
    }

    /// The password was wrong.
    pub(super) fn wrong(&self) {
        let mut counts = self.throttle.lock();
        let guesses = self.place.of(&mut counts);
        for guess in guesses.into_iter().flatten().filter(|guess| guess.mark == self.mark) {
            guess.wrong = true;
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut counts = self.throttle.lock();
        let guesses = self.place.of(&mut counts);
        if let Some(guess) = guesses.and_then(|all| all.iter_mut().rfind(|guess| guess.mark == self.mark)) {
            guess.waiting = guess.waiting.saturating_sub(1);
        }
    }
}

fn forget(guesses: &mut VecDeque<Guess>) {
    while guesses.front().is_some_and(|guess| guess.at.elapsed() >= WINDOW) {
        guesses.pop_front();
    }
}

/// How long there is no guess left at this user.
fn spent(guesses: &VecDeque<Guess>, user: u64) -> Option<Duration> {
    let mut at_user = guesses.iter().filter(|guess| guess.user == user);
    let oldest = at_user.next();
    (at_user.count() + 1 >= GUESSES).then(|| left(oldest))
}

/// How long this guess still counts, and a second at least.
fn left(guess: Option<&Guess>) -> Duration {
    let age = guess.map_or(Duration::ZERO, |guess| guess.at.elapsed());
    WINDOW.saturating_sub(age).max(Duration::from_secs(1))
}

/// The network of so many bits that an address is in.
fn network(address: IpAddr, (v4, v6): (u32, u32)) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => (address & Ipv4Addr::from_bits(u32::MAX << (32 - v4))).into(),
        IpAddr::V6(address) => (address & Ipv6Addr::from_bits(u128::MAX << (128 - v6))).into(),
    }
}

#[cfg(test)]
#[path = "throttle_tests.rs"]
mod tests;
