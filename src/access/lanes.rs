//! The order in which passwords are checked. Each check takes a tenth of a second or more of a
//! processor.
//!
//! ```text
//!           ┌ ordinary: as many at a time as there are threads; 256 may wait for 10 s ┐
//! a guess ──┤                                                                         ├─► threads
//!           └ its user's, if it would wait: one at a time of each known user ─────────┘
//! ```
//!
//! - Strangers fill the ordinary lane and never the others: a right password waits at most for one
//!   check of each user who signs in at this moment.
//! - A wrong password is answered at its turn of the ordinary lane, and that turn takes as long as
//!   a check. So the answer takes as long as for an unknown user (S17). Each guess is checked once,
//!   in the lane where its turn comes first.
//! - In both lanes the first guess of an address goes before the second of any other, and so on, so
//!   that many guesses of one address delay no other. In a user's lane the newest of equals is
//!   next: a crowd that guesses at a user from many addresses does not stand before the next
//!   client.
//! - A client that leaves gives up its place. A check that runs goes on.
//!
//! Used by `sign_in.rs` alone.

use std::{
    collections::HashMap,
    future::pending,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    bcrypt,
    turns::{QueueOrder, Turns},
};
use crate::runtime::BlockingPool;

/// The most guesses in the ordinary lane, those that are checked included.
const PLACES: usize = 256;
/// How long a guess waits there for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// From this many lanes of users on, those without a guess are let go.
const USERS: usize = 1_000;
/// An answer without a place in the ordinary lane takes as long as so many checks.
const HOLD: u32 = 8;
/// The shortest and the longest time that it takes.
const LEAST_HOLD: Duration = Duration::from_millis(100);
const MOST_HOLD: Duration = Duration::from_secs(10);

/// All lanes, and the threads that they lead to.
pub(super) struct Lanes {
    threads: BlockingPool,
    ordinary: Arc<Turns>,
    places: Semaphore,
    users: Mutex<HashMap<String, Arc<Turns>>>,
    /// How long the last check took, in microseconds.
    took: AtomicU64,
}

/// A password to check.
pub(super) struct PasswordCheck<'a> {
    pub(super) password: &'a str,
    /// The user and the hash of its password. `None`: no such user.
    pub(super) known: Option<(&'a str, &'a str)>,
    /// Which guess of its address it is, in the last minute; from 1.
    pub(super) rank: usize,
    /// A hash of the highest cost in the file.
    pub(super) dummy: &'a str,
    /// The result, if another request with the same password has got one meanwhile.
    pub(super) settled: &'a (dyn Fn() -> Option<bool> + Send + Sync),
}

/// A password was not checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unchecked {
    /// There is no place, or no turn within [`PATIENCE`].
    Full,
    /// lanyard is stopping, or the check failed by an error of lanyard's own.
    Lost,
}

impl Lanes {
    /// Lanes onto `threads`. As many checks run at a time as there are threads.
    pub(super) fn new(threads: BlockingPool) -> Self {
        let ordinary = Turns::new(threads.count(), QueueOrder::OldestFirst);
        Lanes { threads, ordinary, places: Semaphore::new(PLACES), users: Mutex::default(), took: AtomicU64::default() }
    }

    /// How many guesses are in the ordinary lane.
    #[cfg(test)]
    pub(super) fn places_taken(&self) -> usize {
        PLACES - self.places.available_permits()
    }

    /// Whether the password is the user's.
    ///
    /// # Errors
    /// The password was not checked.
    pub(super) async fn check(&self, check: &PasswordCheck<'_>) -> Result<bool, Unchecked> {
        let Ok(_place) = self.places.try_acquire() else {
            return if self.aside(check).await { Ok(true) } else { Err(Unchecked::Full) };
        };
        if let Some(_turn) = self.ordinary.try_take() {
            return self.run(check).await;
        }
        let begun = AtomicBool::new(false);
        let mut own = Box::pin(self.own(check, &begun));
        let mut turn = pin!(self.ordinary.take(check.rank));
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
        if let Some(right) = (check.settled)() {
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
        // Leaves the user's lane, so that the guess is not checked twice.
        drop(own);
        self.run(check).await
    }

    /// As [`Lanes::check`], without the ordinary lane. True as soon as the password is found right.
    /// False after a time that is the same for every other guess.
    pub(super) async fn aside(&self, check: &PasswordCheck<'_>) -> bool {
        let hold = (self.took() * HOLD).clamp(LEAST_HOLD, MOST_HOLD);
        tokio::time::timeout(hold, self.right(check)).await.is_ok()
    }

    /// Ends when the password has been found right. Never ends if it is wrong.
    async fn right(&self, check: &PasswordCheck<'_>) {
        if self.own(check, &AtomicBool::new(false)).await != Ok(true) {
            pending().await
        }
    }

    /// Whether the password is right, checked in its user's lane. Never ends if there is no such
    /// user. Sets `begun` when the check begins.
    async fn own(&self, check: &PasswordCheck<'_>, begun: &AtomicBool) -> Result<bool, Unchecked> {
        let Some((user, _)) = check.known else { return pending().await };
        let _turn = self.lane(user).take(check.rank).await;
        if let Some(right) = (check.settled)() {
            return Ok(right);
        }
        begun.store(true, Ordering::Relaxed);
        self.run(check).await
    }

    /// How long the last check took.
    fn took(&self) -> Duration {
        Duration::from_micros(self.took.load(Ordering::Relaxed))
    }

    fn lane(&self, user: &str) -> Arc<Turns> {
        let mut users = self.users.lock();
        if users.len() >= USERS {
            users.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        Arc::clone(users.entry(user.to_owned()).or_insert_with(|| Turns::new(1, QueueOrder::NewestFirst)))
    }

    async fn run(&self, check: &PasswordCheck<'_>) -> Result<bool, Unchecked> {
        let hash = check.known.map_or(check.dummy, |(_, hash)| hash);
        let (password, hash, dummy) = (check.password.to_owned(), hash.to_owned(), check.dummy.to_owned());
        let work = move || {
            let began = Instant::now();
            (bcrypt::matches_or_takes_as_long(&password, &hash, &dummy), began.elapsed())
        };
        let (right, took) = self.threads.run(work).await.map_err(|_| Unchecked::Lost)?;
        self.took.store(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(right && check.known.is_some())
    }
}
