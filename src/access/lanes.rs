//! Who has a password checked when: each check takes a tenth of a second or more of a processor.
//!
//! ```text
//!           ┌ ordinary: as many at a time as there are threads; 256 may wait for 10 s ┐
//! a guess ──┤                                                                         ├─► threads
//!           └ its user's, if it would wait: one at a time of each known user ─────────┘
//! ```
//!
//! Strangers fill the ordinary lane and never the others: a right password waits at most for one
//! check of each user who signs in at this moment. A wrong one is told so in its turn of the
//! ordinary lane, which takes as long as a check, so that it takes as long as for a user that is
//! not known (S17): each guess is checked once, in whichever lane its turn comes first.
//!
//! In both lanes the first guess of an address goes before the second of any other, and so on, so
//! that many guesses of one address delay no other. In a user's lane the newest of equals is next:
//! a crowd that guesses at a user from many addresses does not stand before the next one. Whoever
//! leaves gives up its place; a check that runs goes on.

use std::{
    collections::HashMap,
    future::pending,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{
    bcrypt,
    turns::{Order, Turns},
};
use crate::runtime::BlockingPool;

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
    threads: BlockingPool,
    ordinary: Arc<Turns>,
    places: Semaphore,
    users: Mutex<HashMap<String, Arc<Turns>>>,
    /// How long the last check took, in microseconds.
    took: AtomicU64,
}

/// What is checked.
pub(super) struct Guess<'a> {
    pub(super) password: &'a str,
    /// The user, and the hash of its password. None: there is no such user.
    pub(super) known: Option<(&'a str, &'a str)>,
    /// Which guess of its address it is, in the last minute.
    pub(super) rank: usize,
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
    pub(super) fn new(threads: BlockingPool) -> Self {
        let ordinary = Turns::new(threads.count(), Order::Oldest);
        Lanes { threads, ordinary, places: Semaphore::new(PLACES), users: Mutex::default(), took: AtomicU64::default() }
    }

    /// How many guesses are there.
    #[cfg(test)]
    pub(super) fn places_taken(&self) -> usize {
        PLACES - self.places.available_permits()
    }

    /// Whether the password is the user's.
    pub(super) async fn check(&self, guess: &Guess<'_>) -> Result<bool, Unchecked> {
        let Ok(_place) = self.places.try_acquire() else {
            return if self.aside(guess).await { Ok(true) } else { Err(Unchecked::Full) };
        };
        if let Some(_turn) = self.ordinary.try_take() {
            return self.run(guess).await;
        }
        let begun = AtomicBool::new(false);
        let mut own = Box::pin(self.own(guess, &begun));
        let mut turn = pin!(self.ordinary.take(guess.rank));
        let mut patience = pin!(tokio::time::sleep(PATIENCE));
        let mut wrong = false;
        let _turn = loop {
            tokio::select! {
                biased;
                found = &mut own, if !wrong => match found {
                    Ok(false) => wrong = true,
                    Ok(true) | Err(_) => return found,
                },
                turn = &mut turn => break turn,
                () = &mut patience => return Err(Unchecked::Full),
            }
        };
        if let Some(right) = (guess.settled)() {
            return Ok(right);
        }
        if wrong {
            // The turn is as long as for a guess that is checked in it.
            tokio::time::sleep(self.took()).await;
            return Ok(false);
        }
        if begun.load(Ordering::Relaxed) {
            return own.await;
        }
        // It waits in the user's lane no more.
        drop(own);
        self.run(guess).await
    }

    /// The same without the ordinary lane: true where the password is right, and else false after a
    /// time that is the same for all.
    pub(super) async fn aside(&self, guess: &Guess<'_>) -> bool {
        let hold = (self.took() * HOLD).clamp(LEAST_HOLD, MOST_HOLD);
        tokio::time::timeout(hold, self.right(guess)).await.is_ok()
    }

    /// Ends when the password has been found right, and never where it is wrong.
    async fn right(&self, guess: &Guess<'_>) {
        if self.own(guess, &AtomicBool::new(false)).await != Ok(true) {
            pending().await
        }
    }

    /// Whether the password is right, in its user's lane. Where there is no such user that is never
    /// known. `begun`: it is being checked.
    async fn own(&self, guess: &Guess<'_>, begun: &AtomicBool) -> Result<bool, Unchecked> {
        let Some((user, _)) = guess.known else { return pending().await };
        let _turn = self.lane(user).take(guess.rank).await;
        if let Some(right) = (guess.settled)() {
            return Ok(right);
        }
        begun.store(true, Ordering::Relaxed);
        self.run(guess).await
    }

    /// How long the last check took.
    fn took(&self) -> Duration {
        Duration::from_micros(self.took.load(Ordering::Relaxed))
    }

    fn lane(&self, user: &str) -> Arc<Turns> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= USERS {
            users.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        Arc::clone(users.entry(user.to_owned()).or_insert_with(|| Turns::new(1, Order::Newest)))
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
