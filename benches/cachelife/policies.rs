//! The caches that are compared. Each holds whole blobs in at most `capacity` bytes, and takes no
//! blob that is larger.
//!
//! [`Turns`] is a shell around the code that lanyard runs. The others are short forms of what their
//! authors published, in bytes instead of objects.

use std::collections::BinaryHeap;

use lanyard::retention::{Harvest, Resident, Turn};

use crate::{queue::Queue, trace::Sizes};

/// A cache that is asked for one blob after the other.
pub(crate) trait Cache {
    /// Whether the blob is here. If not, it is fetched and kept, if it can be. `now`: the number of
    /// the request.
    fn ask(&mut self, blob: u32, now: u32) -> bool;
}

/// The bytes that are taken, and how many there may be.
pub(crate) struct Room<'a> {
    sizes: &'a Sizes,
    capacity: u64,
    used: u64,
}

impl<'a> Room<'a> {
    pub(crate) fn new(sizes: &'a Sizes, capacity: u64) -> Room<'a> {
        Room { sizes, capacity, used: 0 }
    }

    fn size(&self, blob: u32) -> u64 {
        self.sizes[blob as usize]
    }

    fn can_ever_hold(&self, blob: u32) -> bool {
        self.size(blob) <= self.capacity
    }

    fn is_short_for(&self, blob: u32) -> bool {
        self.used + self.size(blob) > self.capacity
    }

    fn take(&mut self, blob: u32) {
        self.used += self.size(blob);
    }

    fn give_back(&mut self, blob: u32) {
        self.used -= self.size(blob);
    }
}

/// Least recently used.
pub(crate) struct Lru<'a> {
    room: Room<'a>,
    queue: Queue,
}

impl<'a> Lru<'a> {
    pub(crate) fn new(room: Room<'a>) -> Self {
        Lru { queue: Queue::new(room.sizes.len()), room }
    }

    /// Whether the blob is here. It is no use of it.
    pub(crate) fn has(&self, blob: u32) -> bool {
        self.queue.has(blob)
    }
}

impl Cache for Lru<'_> {
    fn ask(&mut self, blob: u32, _: u32) -> bool {
        if self.queue.remove(blob) {
            self.queue.push(blob);
            return true;
        }
        if !self.room.can_ever_hold(blob) {
            return false;
        }
        while self.room.is_short_for(blob) {
            self.queue.pop().into_iter().for_each(|gone| self.room.give_back(gone));
        }
        self.queue.push(blob);
        self.room.take(blob);
        false
    }
}

/// SIEVE: a queue in the order of arrival; a hand passes over what was used and takes the rest.
pub(crate) struct Sieve<'a> {
    room: Room<'a>,
    queue: Queue,
    used: Vec<bool>,
    hand: Option<u32>,
}

impl<'a> Sieve<'a> {
    pub(crate) fn new(room: Room<'a>) -> Self {
        Sieve { queue: Queue::new(room.sizes.len()), used: vec![false; room.sizes.len()], hand: None, room }
    }

    fn evict(&mut self) {
        let mut at = self.hand.or(self.queue.oldest());
        while let Some(blob) = at.filter(|blob| std::mem::take(&mut self.used[*blob as usize])) {
            at = self.queue.younger(blob).or(self.queue.oldest());
        }
        let Some(gone) = at else { return };
        self.hand = self.queue.younger(gone);
        self.queue.remove(gone);
        self.room.give_back(gone);
    }
}

impl Cache for Sieve<'_> {
    fn ask(&mut self, blob: u32, _: u32) -> bool {
        if self.queue.has(blob) {
            self.used[blob as usize] = true;
            return true;
        }
        if !self.room.can_ever_hold(blob) {
            return false;
        }
        while self.room.is_short_for(blob) {
            self.evict();
        }
        self.queue.push(blob);
        self.used[blob as usize] = false;
        self.room.take(blob);
        false
    }
}

/// S3-FIFO: a small queue of a tenth that lets go what is not used again, a main queue, and a list
/// of names that were let go, for as many bytes as the main queue has.
pub(crate) struct S3Fifo<'a> {
    room: Room<'a>,
    small: Queue,
    main: Queue,
    gone: Queue,
    small_bytes: u64,
    gone_bytes: u64,
    uses: Vec<u8>,
}

impl<'a> S3Fifo<'a> {
    pub(crate) fn new(room: Room<'a>) -> Self {
        let blobs = room.sizes.len();
        let [small, main, gone] = [(); 3].map(|()| Queue::new(blobs));
        S3Fifo { room, small, main, gone, small_bytes: 0, gone_bytes: 0, uses: vec![0; blobs] }
    }

    fn evict(&mut self) {
        let tenth = self.room.capacity / 10;
        if self.small_bytes > tenth || self.main.oldest().is_none() {
            let Some(blob) = self.small.pop() else { return };
            let size = self.room.size(blob);
            self.small_bytes -= size;
            if std::mem::take(&mut self.uses[blob as usize]) > 0 {
                self.main.push(blob);
                return;
            }
            self.room.give_back(blob);
            self.gone.push(blob);
            self.gone_bytes += size;
            while self.gone_bytes > self.room.capacity - tenth {
                self.gone.pop().into_iter().for_each(|old| self.gone_bytes -= self.room.size(old));
            }
        } else {
            while let Some(blob) = self.main.pop() {
                let uses = &mut self.uses[blob as usize];
                if *uses == 0 {
                    return self.room.give_back(blob);
                }
                *uses -= 1;
                self.main.push(blob);
            }
        }
    }
}

impl Cache for S3Fifo<'_> {
    fn ask(&mut self, blob: u32, _: u32) -> bool {
        if self.small.has(blob) || self.main.has(blob) {
            let uses = &mut self.uses[blob as usize];
            *uses = (*uses + 1).min(3);
            return true;
        }
        if !self.room.can_ever_hold(blob) {
            return false;
        }
        while self.room.is_short_for(blob) {
            self.evict();
        }
        self.uses[blob as usize] = 0;
        self.room.take(blob);
        if self.gone.remove(blob) {
            self.gone_bytes -= self.room.size(blob);
            self.main.push(blob);
        } else {
            self.small.push(blob);
            self.small_bytes += self.room.size(blob);
        }
        false
    }
}

/// Belady: knows the future. The blob whose next use is the farthest goes, and what is never used
/// again is not kept.
pub(crate) struct Belady<'a> {
    room: Room<'a>,
    next_uses: &'a [Option<u32>],
    /// The next use of each blob that is here.
    next: Vec<Option<u32>>,
    /// Next uses and blobs; an entry that [`next`](Self::next) does not have is out of date.
    farthest: BinaryHeap<(u32, u32)>,
}

impl<'a> Belady<'a> {
    pub(crate) fn new(room: Room<'a>, next_uses: &'a [Option<u32>]) -> Self {
        Belady { next: vec![None; room.sizes.len()], farthest: BinaryHeap::new(), next_uses, room }
    }
}

impl Cache for Belady<'_> {
    fn ask(&mut self, blob: u32, now: u32) -> bool {
        let hit = self.next[blob as usize].take().is_some();
        if hit {
            self.room.give_back(blob);
        }
        let Some(next) = self.next_uses[now as usize].filter(|_| self.room.can_ever_hold(blob)) else { return hit };
        while self.room.is_short_for(blob) {
            let Some((use_at, gone)) = self.farthest.pop() else { break };
            if self.next[gone as usize] == Some(use_at) {
                self.next[gone as usize] = None;
                self.room.give_back(gone);
            }
        }
        self.next[blob as usize] = Some(next);
        self.farthest.push((next, blob));
        self.room.take(blob);
        hit
    }
}

/// Whether a blob that comes back has the uses of its time before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// It begins anew.
    None,
    /// It has them if it was evicted within the last four turns.
    FourTurns,
}

/// Turns, with a harvest that is used up before the next scan. A request is a minute.
pub(crate) struct Turns<'a> {
    room: Room<'a>,
    memory: Memory,
    /// When each blob was evicted, and how often it had been used.
    evicted: Vec<Option<(u32, u16)>>,
    here: Residents,
    harvest: Option<Harvest<u32>>,
    turn: Turn,
}

impl<'a> Turns<'a> {
    pub(crate) fn new(room: Room<'a>, memory: Memory) -> Self {
        let blobs = room.sizes.len();
        let here = Residents { all: Vec::new(), places: vec![None; blobs] };
        Turns { here, harvest: None, turn: Turn::default(), evicted: vec![None; blobs], memory, room }
    }

    /// Whether the blob is here. It is no use of it.
    pub(crate) fn has(&self, blob: u32) -> bool {
        self.here.get(blob).is_some()
    }

    /// The turn in minutes, once it is known.
    pub(crate) fn turn(&self) -> Option<f64> {
        self.turn.age()
    }

    /// A manifest that names the blob is given out: if it is here, its last use is the minute
    /// before.
    pub(crate) fn named(&mut self, blob: u32, now: u32) {
        if let Some(resident) = self.here.get_mut(blob) {
            resident.last = resident.last.max(u64::from(now.saturating_sub(1)));
        }
    }

    /// The process is killed. Of each blob that is here, its file shows a last use and a number of
    /// uses (`shown`); all else is forgotten.
    pub(crate) fn killed(&mut self, shown: impl Fn(u32) -> (u32, u16)) {
        for resident in &mut self.here.all {
            let (last, uses) = shown(resident.key);
            (resident.last, resident.uses) = (last.into(), uses);
        }
        (self.harvest, self.turn) = (None, Turn::default());
        self.evicted.fill(None);
    }

    /// How often a blob that comes now was used before.
    fn uses_before(&self, blob: u32, now: u32) -> u16 {
        let known = self.evicted[blob as usize].filter(|_| self.memory == Memory::FourTurns);
        let turn = self.turn.age().unwrap_or_default();
        known.filter(|(at, _)| f64::from(now - at) < 4.0 * turn).map_or(0, |(_, uses)| uses)
    }

    fn evict(&mut self, now: u32) {
        let here = &self.here;
        let taken = self.harvest.as_mut().and_then(|harvest| harvest.take(|blob| here.get(*blob)));
        let Some(gone) = taken else {
            self.harvest = Some(Harvest::of(here.all.iter().copied(), here.all.len(), self.turn, now.into()));
            return;
        };
        self.turn.evicted(&gone, now.into());
        self.evicted[gone.key as usize] = Some((now, gone.uses));
        self.here.remove(gone.key);
        self.room.give_back(gone.key);
    }
}

impl Cache for Turns<'_> {
    fn ask(&mut self, blob: u32, now: u32) -> bool {
        if let Some(resident) = self.here.get_mut(blob) {
            resident.last = now.into();
            resident.uses = resident.uses.saturating_add(1);
            return true;
        }
        if !self.room.can_ever_hold(blob) {
            return false;
        }
        while self.room.is_short_for(blob) {
            self.evict(now);
        }
        let uses = self.uses_before(blob, now).saturating_add(1);
        self.here.add(Resident { key: blob, size: self.room.size(blob), last: now.into(), uses });
        self.room.take(blob);
        false
    }
}

/// The blobs that are here, and the place of each among them.
struct Residents {
    all: Vec<Resident<u32>>,
    places: Vec<Option<usize>>,
}

impl Residents {
    fn get(&self, blob: u32) -> Option<Resident<u32>> {
        self.places[blob as usize].map(|place| self.all[place])
    }

    fn get_mut(&mut self, blob: u32) -> Option<&mut Resident<u32>> {
        self.places[blob as usize].map(|place| &mut self.all[place])
    }

    fn add(&mut self, resident: Resident<u32>) {
        self.places[resident.key as usize] = Some(self.all.len());
        self.all.push(resident);
    }

    fn remove(&mut self, blob: u32) {
        let Some(place) = self.places[blob as usize].take() else { return };
        self.all.swap_remove(place);
        if let Some(moved) = self.all.get(place) {
            self.places[moved.key as usize] = Some(place);
        }
    }
}
