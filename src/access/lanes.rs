//! Who has a password checked when: each check takes a tenth of a second or more of a processor.
//!
//! ```text
//!           ┌ ordinary: in the order of coming, at most 256 for 10 s ┐
//! a guess ──┤                                                        ├─► threads
//!           └ its user's, if it would wait: one of each known user ──┘
//! ```
//!
//! Strangers fill the ordinary lane and never the others: a right password waits at most for one
//! check of each user who signs in at this moment. A wrong one is told so in its turn of the
//! ordinary lane, and is checked there once more, so that it takes as long as for a user that is
//! not known (S17). Whoever leaves gives up its place; a check that runs goes on.

use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::bcrypt;
use crate::storage::DiskThreads;

/// Guesses in the ordinary lane.
const PLACES: usize = 256;
/// How long one waits there for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// Users whose lanes are kept when nobody is in them.
const USERS: usize = 1_000;
/// How many checks long an answer takes that is given without a place in the ordinary lane.
const HOLD: u32 = 8;
/// The least and the most of that.
const LEAST_HOLD: Duration = Duration::from_millis(100);
const MOST_HOLD: Duration = Duration::from_secs(10);

pub(super) struct Lanes {
    threads: DiskThreads,
    ordinary: Semaphore,
    places: Semaphore,
    users: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// How long the last check took, in microseconds.
    took: AtomicU64,
}

/// What is checked.
pub(super) struct Guess<'a> {
    pub(super) password: &'a str,
    /// The user, and the hash of its password. None: there is no such user.
    pub(super) known: Option<(&'a str, &'a str)>,
    /// A hash of the highest cost.
    pub(super) dummy: &'a str,
    /// What another client of the same password has learned meanwhile.
    pub(super) settled: &'a (dyn Fn() -> Option<bool> + Send + Sync),
}

/// Why a password was not checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unchecked {
    /// There is no place, or no turn within [`PATIENCE`].
    Full,
    /// The machine stops.
    Lost,
}

impl Lanes {
    /// With as many checks at a time as `threads` has threads.
    pub(super) fn new(threads: DiskThreads) -> Self {
        let ordinary = Semaphore::new(threads.count());
        Lanes { threads, ordinary, places: Semaphore::new(PLACES), users: Mutex::default(), took: AtomicU64::default() }
    }

    /// Whether every place is free.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.places.available_permits() == PLACES
    }

    /// Whether the password is the user's.
    pub(super) async fn check(&self, guess: &Guess<'_>) -> Result<bool, Unchecked> {
        let Ok(_place) = self.places.try_acquire() else {
            return if self.aside(guess).await { Ok(true) } else { Err(Unchecked::Full) };
        };
        if let Ok(_turn) = self.ordinary.try_acquire() {
            return self.run(guess).await;
        }
        tokio::select! {
            biased;
            () = self.right(guess) => Ok(true),
            _turn = self.ordinary.acquire() => match (guess.settled)() {
                Some(right) => Ok(right),
                None => self.run(guess).await,
            },
            () = tokio::time::sleep(PATIENCE) => Err(Unchecked::Full),
        }
    }

    /// The same without the ordinary lane: true where the password is right, and else false after a
    /// time that is the same for all.
    pub(super) async fn aside(&self, guess: &Guess<'_>) -> bool {
        let took = Duration::from_micros(self.took.load(Ordering::Relaxed));
        let hold = (took * HOLD).clamp(LEAST_HOLD, MOST_HOLD);
        tokio::time::timeout(hold, self.right(guess)).await.is_ok()
    }

    /// Ends when the password has been found right, and never where it is wrong.
    async fn right(&self, guess: &Guess<'_>) {
        let Some((user, _)) = guess.known else { return pending().await };
        let right = {
            let lane = self.lane(user);
            let _turn = lane.acquire().await;
            match (guess.settled)() {
                Some(right) => right,
                None => self.run(guess).await == Ok(true),
            }
        };
        if !right {
            pending().await
        }
    }

    fn lane(&self, user: &str) -> Arc<Semaphore> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= USERS {
            users.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        Arc::clone(users.entry(user.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }

    async fn run(&self, guess: &Guess<'_>) -> Result<bool, Unchecked> {
        let hash = guess.known.map_or(guess.dummy, |(_, hash)| hash);
        let (password, hash, dummy) = (guess.password.to_owned(), hash.to_owned(), guess.dummy.to_owned());
        let check = move || {
            let began = Instant::now();
            (bcrypt::matches_or_takes_as_long(&password, &hash, &dummy), began.elapsed())
        };
        let (right, took) = self.threads.run(check).await.map_err(|_| Unchecked::Lost)?;
        self.took.store(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(right && guess.known.is_some())
    }
}
