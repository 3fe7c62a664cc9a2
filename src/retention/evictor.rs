//! The evictor: cached content makes room for what is downloaded and pushed.
//!
//! It sleeps until a download or a push waits for room ([`Storage::room_needs`]), or for a while,
//! and then evicts until that fits and some headroom is left, so that the next one seldom waits:
//!
//! ```text
//! asleep ─► a need, or a while ─► evicts one by one, in the order of `eviction_queue.rs`
//!   ▲                                │
//!   └── enough room, or nothing left ┘
//! ```
//!
//! A need that fits is not counted again: whoever waits takes the room first, and the headroom
//! comes after that.
//!
//! Promises:
//! - Only content goes that its upstream can give again; [`KeptFor`](crate::storage::KeptFor) says
//!   what stays. Links and tags stay.
//! - Unfinished downloads that nobody drives go first, the oldest first.
//! - Content of upstreams that do not answer goes for the disk's sake alone, and after all else: it
//!   could not be had again (K10).
//! - A disk that others fill costs a bounded part of the cache (K13; `episode.rs`).
//! - A download that cannot be helped is told at once, and is passed through.
//! - A failure to remove content is logged at most once an hour. The next one goes in its place;
//!   where that fails too, nothing is evicted for a while.
//!
//! Callers: the app runs one, unless lanyard is offline; admin asks and trims (`trim.rs`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    KeptSet, RetentionError,
    episode::DiskPressure,
    eviction_queue::{Answers, EvictionQueue, Sake},
    report::{EvictedBytes, EvictionStatus},
    turns::Turn,
};
use crate::{
    runtime::BlockingPool,
    storage::{RoomNeed, Storage},
};

/// How often the headroom is looked at. After errors nothing is evicted for as long.
const EVERY: Duration = Duration::from_secs(10);

/// Whoever waits for room takes it within this time, once there is some.
const TAKEN: Duration = Duration::from_millis(50);

/// The evictor. One per process.
pub struct Evictor {
    pub(super) storage: Storage,
    headroom: u64,
    /// Whoever evicts has it.
    pub(super) queue: Mutex<EvictionQueue>,
    pub(super) counts: Counts,
}

/// Evicted bytes since the start, and what a status shows of the queue.
#[derive(Default)]
pub(super) struct Counts {
    cap: AtomicU64,
    floor: AtomicU64,
    pub(super) trim: AtomicU64,
    rm: AtomicU64,
    /// In milliseconds; 0: unknown.
    turn: AtomicU64,
    /// 1 while a full disk costs no more content.
    stopped: AtomicU64,
    /// 1 if the last need found nothing that may go.
    in_vain: AtomicU64,
}

/// Whether the first in line waits for what others hold: readers, promises, downloads under way.
/// After one that waited in vain the others do not, for a while: whoever holds everything costs
/// them one wait in ten seconds.
#[derive(Default)]
struct Patience {
    /// The waits in vain that are known.
    known: u64,
    /// When one of them ended.
    lost: Option<Instant>,
}

impl Patience {
    /// `in_vain`: how many have waited in vain since the start.
    fn is_lost(&mut self, in_vain: u64) -> bool {
        if in_vain > self.known {
            (self.known, self.lost) = (in_vain, Some(Instant::now()));
        }
        self.lost.is_some_and(|lost| lost.elapsed() < EVERY)
    }
}

/// The outcome of a round.
enum Made {
    /// There is room for whoever waits, who takes it now.
    Room,
    /// There is room, or there will be none.
    Enough,
    /// What could go is read or promised at the moment, or on its way in.
    NotYet,
}

impl Evictor {
    /// Evicts from `storage`, on the threads of `pool`; one is enough. `headroom`: the bytes that
    /// it keeps free of `max_size` in the background.
    pub fn new(
        storage: &Storage,
        pool: BlockingPool,
        headroom: u64,
        answers: Answers,
        kept: &Arc<KeptSet>,
    ) -> Arc<Evictor> {
        let storage = storage.on(pool);
        let queue = Mutex::new(EvictionQueue::new(storage.clone(), answers, Arc::clone(kept)));
        Arc::new(Evictor { storage, headroom, queue, counts: Counts::default() })
    }

    /// Makes room when it is needed, until `stop`. What is evicted at that moment is finished.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut needs = self.storage.room_needs();
        let (mut pressure, mut pause, mut rests) = (DiskPressure::default(), EVERY, Instant::now());
        let mut patience = Patience::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = needs.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
            let need = *needs.borrow_and_update();
            let rest = rests.saturating_duration_since(Instant::now());
            if !rest.is_zero() {
                self.storage.tell_exhausted(need);
                pause = rest;
                continue;
            }
            let made = tokio::select! {
                () = stop.cancelled() => return,
                made = self.make_room(need, &mut pressure, &mut patience) => made,
            };
            pause = match made {
                Ok(Made::Room) => TAKEN,
                Ok(Made::NotYet) => self.queue.lock().await.pause(),
                Ok(Made::Enough) | Err(_) => EVERY,
            };
            if let Err(error) = made {
                self.storage.tell_exhausted(need);
                self.queue.lock().await.tell(&error);
                rests = Instant::now() + EVERY;
            }
        }
    }

    /// Evicts until what is needed and the headroom fit. If they never will, whoever waits is told.
    async fn make_room(
        &self,
        need: RoomNeed,
        pressure: &mut DiskPressure,
        patience: &mut Patience,
    ) -> Result<Made, RetentionError> {
        let mut queue = self.queue.lock().await;
        queue.begin_round();
        let (mut due, mut gone) = (None, 0);
        let made = loop {
            let lack = self.storage.lack(need.bytes);
            // Whoever waits may have taken the room already, and would be counted twice.
            let due = *due.get_or_insert(lack.of_disk.max(if need.push { 0 } else { lack.of_max_size }));
            let (reserved, parked) = self.storage.promised();
            let for_disk = pressure.allows(lack, self.cached() + reserved + parked, self.storage.pushed());
            if need.bytes > 0 && gone >= due {
                break Made::Room;
            }
            let of_max_size = match need {
                RoomNeed { bytes: 0, .. } => self.storage.lack(self.headroom).of_max_size,
                RoomNeed { push: true, .. } => 0,
                RoomNeed { .. } => lack.of_max_size,
            };
            let (sake, count) = match (of_max_size > 0, for_disk) {
                (_, true) => (Sake::Disk, &self.counts.floor),
                (true, false) => (Sake::MaxSize, &self.counts.cap),
                (false, false) => break Made::Enough,
            };
            let Some(bytes) = queue.evict_next(sake).await? else { break Made::Enough };
            gone += bytes;
            count.fetch_add(bytes, Ordering::Relaxed);
        };
        self.note(queue.turn());
        self.counts.stopped.store(pressure.is_stopped().into(), Ordering::Relaxed);
        if gone > 0 {
            self.counts.in_vain.store(0, Ordering::Relaxed);
        }
        if need.bytes == 0 {
            queue.look_at_kept().await?;
        }
        if need.bytes == 0 || matches!(made, Made::Room) {
            return Ok(made);
        }
        let lack = self.storage.lack(need.bytes);
        if lack.of_disk == 0 && (need.push || lack.of_max_size == 0) {
            return Ok(Made::Room);
        }
        let is_held = queue.is_blocked() || self.storage.others_hold_room(need);
        if !is_held || patience.is_lost(self.storage.room_waits().in_vain) {
            self.counts.in_vain.store((gone == 0).into(), Ordering::Relaxed);
            self.storage.tell_exhausted(need);
            return Ok(Made::Enough);
        }
        Ok(Made::NotYet)
    }

    /// The bytes that are cached.
    pub(super) fn cached(&self) -> u64 {
        let usage = self.storage.usage();
        usage.bytes.saturating_sub(usage.hosted)
    }

    pub(super) fn note(&self, turn: Turn) {
        self.counts.turn.store(turn.age().unwrap_or(0.0) as u64, Ordering::Relaxed);
    }

    /// Counts what an operator's `rm` has let go.
    pub fn count_removed(&self, bytes: u64) {
        self.counts.rm.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was evicted since the start, and the turn. From memory.
    pub fn status(&self) -> EvictionStatus {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { cap, floor, trim, rm, turn, stopped, in_vain } = &self.counts;
        EvictionStatus {
            turn: Some(read(turn) / 1000).filter(|seconds| *seconds > 0),
            evicted: EvictedBytes { cap: read(cap), floor: read(floor), trim: read(trim), rm: read(rm) },
            stopped: read(stopped) > 0,
            in_vain: read(in_vain) > 0 || self.storage.room_waits().last_was_hopeless,
        }
    }
}
