//! Leases: they keep the removal of garbage from taking content that a push is about to name.
//!
//! A digest is *leased* for a grace (`hosted.gc_grace`, an hour by default) from the last time that
//! a client was told that it is here: by its upload, a HEAD, a mount. Leases are in memory, with
//! monotonic times; so after a start every digest counts as just touched.
//!
//! Removals and the callers that rely on content meet here, and nowhere else:
//!
//! | caller | takes | and then |
//! |---|---|---|
//! | push, HEAD, mount | [`touch`](Leases::touch) or [`hold`](Leases::hold) | looks for it |
//! | a removal | [`begin_reclaim`](Leases::begin_reclaim) | looks for links, and removes it |
//!
//! A touch and a hold wait while the digest is being reclaimed. A reclaim is refused while the
//! digest is leased, held or being reclaimed.
//!
//! A caller that has looked and found a digest absent lets go of it ([`Hold::forget`]): no client
//! was told that it is here, and a client that names a million absent digests leaves no trace. The
//! number of leases is bounded all the same ([`MOST`]).
//!
//! So either the lease comes first and the removal is refused, or the removal comes first and the
//! other caller looks when it is over: no caller finds a blob that is gone a moment later. A
//! reclaim lasts as long as a look and an unlink.
//!
//! Order of locks: a lease or a reclaim is taken before the permission to write and before a
//! repository's lock. A caller that waits for one holds neither. One thread may hold a digest that
//! it holds already.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::oci::Digest;

/// How long content is protected after a client was told of it, and all content after a start.
const GRACE: Duration = Duration::from_secs(3600);

/// At this many leases those that have run out are first searched for and removed.
const SPARE: usize = 1024;

/// The most leases that are kept: some 9 MB of them. When there are more they are dropped, and
/// every digest is protected for the grace, as after a start.
const MOST: usize = 1 << 17;

/// Which leases a removal respects. What is held now is respected in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Respect {
    /// Every lease that lasts, and the grace after a start.
    All,
    /// Only leases from this moment on: an operator says that no push is under way.
    Since(Instant),
}

/// The leases of one data folder. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug)]
struct State {
    began: Instant,
    grace: Duration,
    /// By the first bytes of the digest: two digests that share them protect each other, which does
    /// no harm.
    touched: HashMap<[u8; 16], Instant>,
    held: HashMap<Digest, usize>,
    reclaiming: HashSet<Digest>,
    /// At this many leases, those that have run out are removed.
    prune_at: usize,
}

/// Keeps these digests, if they are here, while it lives and for the grace from then on.
#[derive(Debug)]
#[must_use = "content that is not held may be removed"]
pub struct Hold {
    digests: Vec<Digest>,
    shared: Arc<Shared>,
}

/// Exclusive right to delete a digest. While it lives, `hold` and `touch` of that digest wait.
#[derive(Debug)]
#[must_use = "a dropped right lets other callers hold the digest again"]
pub(crate) struct Reclaim {
    digest: Digest,
    shared: Arc<Shared>,
}

impl Leases {
    pub(super) fn new() -> Self {
        let state = State {
            began: Instant::now(),
            grace: GRACE,
            touched: HashMap::new(),
            held: HashMap::new(),
            reclaiming: HashSet::new(),
            prune_at: SPARE,
        };
        Leases { shared: Arc::new(Shared { state: Mutex::new(state), released: Condvar::new() }) }
    }

    /// Protects the digest for the grace. Look whether it is here *afterwards*: that answer is good
    /// for the grace.
    ///
    /// Only for content that is probably here: every lease takes some memory until it runs out.
    /// Otherwise [`hold`](Self::hold) it, and [`forget`](Hold::forget) it if it is absent.
    pub(crate) fn touch(&self, digest: &Digest) {
        drop(self.hold([*digest]));
    }

    /// Protects the digests until the hold is dropped, and for the grace from then on, except for
    /// those that are [forgotten](Hold::forget). As [`touch`](Self::touch), look afterwards.
    pub(crate) fn hold(&self, digests: impl IntoIterator<Item = Digest>) -> Hold {
        let digests: Vec<Digest> = digests.into_iter().collect();
        let mut state = self.shared.lock();
        let waits = |state: &mut State| digests.iter().any(|digest| state.reclaiming.contains(digest));
        self.shared.released.wait_while(&mut state, waits);
        for digest in &digests {
            *state.held.entry(*digest).or_default() += 1;
        }
        drop(state);
        Hold { digests, shared: Arc::clone(&self.shared) }
    }

    /// Exclusive right to remove the digest, until it is dropped; `None` while a lease that
    /// `respect` names protects it, or while it is held or being reclaimed. Never waits.
    ///
    /// Look whether the digest is needed *afterwards*. For the removal of blobs that no repository
    /// links, and of links that no manifest names any more: a manifest that is being pushed holds,
    /// or touches, its parts before it looks for their links.
    pub(crate) fn begin_reclaim(&self, digest: &Digest, respect: Respect) -> Option<Reclaim> {
        let mut state = self.shared.lock();
        if state.left(digest, respect).is_some() || !state.reclaiming.insert(*digest) {
            return None;
        }
        Some(Reclaim { digest: *digest, shared: Arc::clone(&self.shared) })
    }

    /// Whether [`begin_reclaim`](Self::begin_reclaim) would be refused now because the digest is
    /// leased or held.
    #[cfg(test)]
    pub(crate) fn protects(&self, digest: &Digest) -> bool {
        self.left(digest, Respect::All).is_some()
    }

    /// For how long [`begin_reclaim`](Self::begin_reclaim) will be refused, if no caller touches
    /// the digest any more; `None` if it would not be refused now.
    pub(crate) fn left(&self, digest: &Digest, respect: Respect) -> Option<Duration> {
        self.shared.lock().left(digest, respect)
    }

    /// Forgets the leases that have run out, and gives their memory back. To be called now and
    /// then: a client that has pushed a lot may not come again.
    pub(crate) fn tidy(&self) {
        let mut state = self.shared.lock();
        state.prune(Instant::now());
    }

    /// The grace: an hour, unless it was set.
    pub(crate) fn grace(&self) -> Duration {
        self.shared.lock().grace
    }

    /// Sets the grace, also for digests that were touched before and for the start.
    pub(crate) fn set_grace(&self, grace: Duration) {
        self.shared.lock().grace = grace;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    fn left(&self, digest: &Digest, respect: Respect) -> Option<Duration> {
        if self.held.contains_key(digest) {
            return Some(self.grace);
        }
        let counts = |at: &Instant| match respect {
            Respect::All => true,
            Respect::Since(moment) => *at >= moment,
        };
        let touched = self.touched.get(&digest.beginning()).copied();
        let last = [Some(self.began), touched].into_iter().flatten().filter(counts).max();
        last.and_then(|last| self.grace.checked_sub(last.elapsed())).filter(|left| !left.is_zero())
    }

    fn release(&mut self, digest: &Digest) {
        if let Some(count) = self.held.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(digest);
            }
        }
    }

    fn touch(&mut self, digest: Digest, now: Instant) {
        self.touched.insert(digest.beginning(), now);
        if self.touched.len() >= self.prune_at {
            self.prune(now);
            if self.touched.len() >= MOST {
                tracing::warn!(leases = MOST, "too many leases to keep: nothing is collected while they last");
                self.began = now;
                self.touched = HashMap::new();
            }
            self.prune_at = (self.touched.len() * 2 + SPARE).min(MOST);
        }
    }

    fn prune(&mut self, now: Instant) {
        let grace = self.grace;
        self.touched.retain(|_, since| now.saturating_duration_since(*since) < grace);
        if self.touched.capacity() > 4 * (self.touched.len() + SPARE) {
            self.touched.shrink_to(2 * self.touched.len());
        }
    }
}

impl Hold {
    /// Lets go of those of its digests that turned out to be absent, without leaving a lease. Call
    /// it after the look, and only for digests that no client was told are here. Other callers that
    /// hold or have touched the same digest protect it as before.
    pub fn forget<'a>(&mut self, absent: impl IntoIterator<Item = &'a Digest>) {
        let absent: HashSet<&Digest> = absent.into_iter().collect();
        let mut state = self.shared.lock();
        self.digests.retain(|digest| {
            let stays = !absent.contains(digest);
            if !stays {
                state.release(digest);
            }
            stays
        });
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let now = Instant::now();
        for digest in &self.digests {
            state.release(digest);
            state.touch(*digest, now);
        }
    }
}

impl Drop for Reclaim {
    fn drop(&mut self) {
        self.shared.lock().reclaiming.remove(&self.digest);
        self.shared.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tests::digest;

    fn leases() -> Leases {
        let leases = Leases::new();
        leases.set_grace(Duration::ZERO);
        leases
    }

    #[test]
    fn everything_is_protected_for_an_hour_after_the_start_and_what_is_touched_from_then_on() {
        let leases = Leases::new();
        let x = digest(b"x");
        assert_eq!(leases.grace(), Duration::from_secs(3600));
        assert!(leases.protects(&x) && leases.begin_reclaim(&x, Respect::All).is_none());
        // As if the start were long ago.
        leases.shared.lock().began = Instant::now().checked_sub(Duration::from_secs(3601)).unwrap();
        assert!(!leases.protects(&x));
        drop(leases.begin_reclaim(&x, Respect::All).unwrap());
        leases.touch(&x);
        assert!(
            leases.begin_reclaim(&x, Respect::All).is_none()
                && leases.begin_reclaim(&digest(b"y"), Respect::All).is_some()
        );
        leases
            .shared
            .lock()
            .touched
            .insert(x.beginning(), Instant::now().checked_sub(Duration::from_secs(3601)).unwrap());
        assert!(leases.begin_reclaim(&x, Respect::All).is_some());
    }

    /// `lanyard gc --now`: answers from before count no more, answers that are given meanwhile do,
    /// and so does a hold.
    #[test]
    fn an_operator_may_end_the_leases_from_before_a_moment() {
        let leases = Leases::new();
        let [before, after, held, never] = [b"b", b"a", b"h", b"n"].map(|name| digest(name));
        leases.touch(&before);
        let hold = leases.hold([held]);
        let now = Respect::Since(Instant::now());
        leases.touch(&after);
        for (digest, stays) in [(before, false), (after, true), (held, true), (never, false)] {
            assert!(leases.begin_reclaim(&digest, Respect::All).is_none(), "an ordinary removal respects all of them");
            assert_eq!(leases.begin_reclaim(&digest, now).is_none(), stays);
            assert_eq!(leases.left(&digest, now).is_some(), stays);
        }
        drop(hold);
        assert!(leases.begin_reclaim(&held, now).is_none(), "a hold leaves a lease");
        // Too many leases protect every digest from then on, and that is not a start.
        leases.shared.lock().began = Instant::now();
        assert!(leases.begin_reclaim(&before, now).is_none());
        let left = leases.left(&never, Respect::All).unwrap();
        assert!(left <= GRACE && left > GRACE / 2);
    }

    #[test]
    fn a_hold_outlasts_any_grace_and_may_be_taken_twice() {
        let leases = leases();
        let x = digest(b"x");
        let first = leases.hold([x, x, digest(b"y")]);
        let second = leases.hold([x]);
        drop(first);
        assert!(
            leases.begin_reclaim(&x, Respect::All).is_none()
                && leases.begin_reclaim(&digest(b"y"), Respect::All).is_some()
        );
        drop(second);
        let right = leases.begin_reclaim(&x, Respect::All).unwrap();
        assert!(leases.begin_reclaim(&x, Respect::All).is_none(), "one removes at a time");
        drop(right);
        assert!(leases.begin_reclaim(&x, Respect::All).is_some());
    }

    #[test]
    fn whoever_counts_on_it_waits_for_the_removal() {
        let leases = leases();
        let x = digest(b"x");
        let gone = std::sync::atomic::AtomicBool::new(false);
        let right = leases.begin_reclaim(&x, Respect::All).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let hold = leases.hold([digest(b"y"), x]);
                assert!(gone.load(std::sync::atomic::Ordering::SeqCst), "it looks when the removal is over");
                hold
            });
            leases.touch(&digest(b"z"));
            assert!(!waiting.is_finished());
            gone.store(true, std::sync::atomic::Ordering::SeqCst);
            drop(right);
            drop(waiting.join().unwrap());
        });
    }

    #[test]
    fn what_is_forgotten_leaves_no_lease() {
        let leases = leases();
        leases.set_grace(GRACE);
        leases.shared.lock().began = Instant::now().checked_sub(2 * GRACE).unwrap();
        let [here, absent, other] = [b"h", b"a", b"o"].map(|name| digest(name));
        let mut hold = leases.hold([here, absent, other, absent]);
        let second = leases.hold([other]);
        hold.forget(&[absent, other, digest(b"never held")]);
        assert!(leases.protects(&here) && leases.protects(&other) && !leases.protects(&absent));
        drop((hold, second));
        assert!(leases.protects(&here) && leases.protects(&other), "a hold of its own leaves a lease");
        assert!(leases.begin_reclaim(&absent, Respect::All).is_some());
        leases.hold([here]).forget(&[here]);
        assert!(leases.protects(&here), "nor does it end one that was there before");
        let state = leases.shared.lock();
        assert!(state.touched.len() == 2 && state.held.is_empty());
    }

    #[test]
    fn too_many_leases_protect_everything_instead() {
        let leases = leases();
        leases.set_grace(GRACE);
        leases.shared.lock().began = Instant::now().checked_sub(2 * GRACE).unwrap();
        let [first, never] = [0, u64::MAX].map(|n: u64| digest(&n.to_le_bytes()));
        for n in 0..MOST as u64 - 1 {
            drop(leases.hold([digest(&n.to_le_bytes())]));
        }
        assert!(leases.protects(&first) && !leases.protects(&never));
        leases.touch(&digest(&u64::MAX.to_be_bytes()[1..]));
        let state = leases.shared.lock();
        let protects = |digest| state.left(digest, Respect::All).is_some();
        assert!(state.touched.is_empty() && protects(&first) && protects(&never));
    }

    #[test]
    fn leases_that_have_run_out_take_no_memory() {
        let leases = leases();
        for n in 0..10_000_u32 {
            leases.touch(&digest(&n.to_le_bytes()));
        }
        assert!(leases.shared.lock().touched.len() < 2 * SPARE);
        // Also where nobody touches anything any more.
        leases.set_grace(GRACE);
        for n in 0..10_000_u32 {
            leases.touch(&digest(&n.to_le_bytes()));
        }
        leases.tidy();
        assert!(leases.shared.lock().touched.len() >= 10_000, "they last for the grace");
        leases.set_grace(Duration::ZERO);
        leases.tidy();
        let state = leases.shared.lock();
        assert!(state.touched.is_empty() && state.touched.capacity() < 4 * SPARE);
    }
}
