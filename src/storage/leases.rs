//! Leases: they keep the removal of garbage from taking content that a push is about to name.
//!
//! A digest is *leased* for a grace (`hosted.gc_grace`, an hour by default) from the last time that
//! a client that may push was told that the hosted repository has it: by its upload, a HEAD, a
//! mount. An answer of another kind leases nothing, nor does any answer to a client that may not
//! push. Leases are in memory, with monotonic times; so after a start every digest counts as just
//! touched.
//!
//! A download that was just kept is leased too ([`Leases::hold_cached`]), until a repository links
//! it. No client was told that it stays. The collector respects such a lease, and the grace after a
//! start. The eviction respects neither: a full cache must go on caching.
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
//! number of leases is bounded all the same ([`MOST`]). If there are more, all are dropped: then
//! the collector removes nothing for the grace, and the eviction nothing until the grace of the
//! last dropped promise is over. Leases of cached content promise nothing, so a full cache goes on
//! caching.
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

/// The most leases that are kept: some 9 MB of them. When there are more all are dropped, and the
/// collector removes nothing for the grace, as after a start.
const MOST: usize = 1 << 17;

/// Which leases a removal respects. What is held now is respected in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Respect {
    /// Every lease that lasts, and the grace after a start.
    All,
    /// Only leases from this moment on: an operator says that no push is under way.
    Since(Instant),
    /// Only what a client was told: for content that upstream can give again.
    Promises,
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
    touched: HashMap<[u8; 16], Touched>,
    /// When leases were dropped because they were too many, and when such as were promises.
    dropped: Option<Instant>,
    dropped_promises: Option<Instant>,
    held: HashMap<Digest, usize>,
    reclaiming: HashSet<Digest>,
    /// At this many leases, those that have run out are removed.
    prune_at: usize,
}

/// When a digest was last protected, and when a client was last told that it is here.
#[derive(Clone, Copy, Debug)]
struct Touched {
    at: Instant,
    promised: Option<Instant>,
}

/// Keeps these digests, if they are here, while it lives and for the grace from then on.
#[derive(Debug)]
#[must_use = "content that is not held may be removed"]
pub struct Hold {
    digests: Vec<Digest>,
    promises: bool,
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
            dropped: None,
            dropped_promises: None,
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
        self.hold_as(digests, true)
    }

    /// The same for content that no client was told of. Once the hold is dropped it may be evicted.
    pub(crate) fn hold_cached(&self, digests: impl IntoIterator<Item = Digest>) -> Hold {
        self.hold_as(digests, false)
    }

    fn hold_as(&self, digests: impl IntoIterator<Item = Digest>, promises: bool) -> Hold {
        let digests: Vec<Digest> = digests.into_iter().collect();
        let mut state = self.shared.lock();
        let waits = |state: &mut State| digests.iter().any(|digest| state.reclaiming.contains(digest));
        self.shared.released.wait_while(&mut state, waits);
        for digest in &digests {
            *state.held.entry(*digest).or_default() += 1;
        }
        drop(state);
        Hold { digests, promises, shared: Arc::clone(&self.shared) }
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

    /// For how long the digest is leased because a client was told that it is here. `None` also
    /// while it is held: then that is not known.
    pub(super) fn promised(&self, digest: &Digest) -> Option<Duration> {
        let state = self.shared.lock();
        if state.held.contains_key(digest) { None } else { state.left(digest, Respect::Promises) }
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
        let touched = self.touched.get(&digest.beginning());
        let (began, dropped, touched) = match respect {
            Respect::All | Respect::Since(_) => (Some(self.began), self.dropped, touched.map(|touched| touched.at)),
            Respect::Promises => (None, self.dropped_promises, touched.and_then(|touched| touched.promised)),
        };
        let counts = |at: &Instant| match respect {
            Respect::All | Respect::Promises => true,
            Respect::Since(moment) => *at >= moment,
        };
        let last = [began, dropped, touched].into_iter().flatten().filter(counts).max();
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

    fn touch(&mut self, digest: Digest, now: Instant, promises: bool) {
        let touched = self.touched.entry(digest.beginning()).or_insert(Touched { at: now, promised: None });
        touched.at = now;
        if promises {
            touched.promised = Some(now);
        }
        if self.touched.len() >= self.prune_at {
            self.prune(now);
            if self.touched.len() >= MOST {
                tracing::warn!(leases = MOST, "too many leases to keep: nothing is collected while they last");
                self.dropped = Some(now);
                let last = self.touched.values().filter_map(|touched| touched.promised).max();
                self.dropped_promises = self.dropped_promises.max(last);
                self.touched = HashMap::new();
            }
            self.prune_at = (self.touched.len() * 2 + SPARE).min(MOST);
        }
    }

    fn prune(&mut self, now: Instant) {
        let grace = self.grace;
        self.touched.retain(|_, touched| now.saturating_duration_since(touched.at) < grace);
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
            state.touch(*digest, now, self.promises);
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
#[path = "leases_tests.rs"]
mod tests;
