//! Room: reservations for downloads, and the counts of what is here.
//!
//! Promises: downloads that begin together never exceed `max_size` together (K1). The verbs that
//! are not `async` answer from memory, or ask the file system at most once a second. Callers: pull
//! reserves; the retention makes room; the app reads the counts.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    oci::Digest,
    storage::{Lack, Reservation, RoomNeed, RoomWaits, Storage, StorageError, Usage},
};

/// How long a reservation waits for the count of what is here, which begins again after a crash.
const COUNTING: Duration = Duration::from_millis(500);

/// The bounds of the step in which downloads reserve room, in bytes.
const LEAST_STEP: u64 = 1 << 20;
const MOST_STEP: u64 = 64 << 20;

/// The time between two looks whether everything is counted.
const GLANCE: Duration = Duration::from_millis(5);

impl Storage {
    /// Room for a download of `digest`, if `bytes` fit; `None` if they are more than `max_size` or
    /// `min_free` allow. Bytes that an earlier download of the digest left are part of it.
    ///
    /// The reservation covers only the bytes on disk, since `bytes` may be no more than a
    /// manifest's claim; [`Download::reserve`](super::Download::reserve) makes it larger. Stored
    /// content, reservations and unfinished downloads count together, so downloads that begin
    /// together never exceed `max_size`. After a crash this waits a moment for the count of stored
    /// content, and is `None` until all is counted.
    ///
    /// # Errors
    /// [`StorageError::Lost`].
    pub async fn reserve(&self, digest: Digest, bytes: u64) -> Result<Option<Reservation>, StorageError> {
        if !self.is_counted().await {
            return Ok(None);
        }
        self.read_with(move |files| {
            let mut room = files.reserve(digest, bytes);
            if let Some(room) = &mut room {
                room.shrink();
            }
            Ok(room)
        })
        .await
    }

    /// The same, where the eviction may make room for it: waits for that in line, two seconds at
    /// most. Cached content goes for the first [step](Self::room_step) of these `bytes`, so they
    /// must not be a manifest's claim alone.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub async fn reserve_by_evicting(&self, digest: Digest, bytes: u64) -> Result<Option<Reservation>, StorageError> {
        if !self.files.could_fit(bytes) {
            return Ok(None);
        }
        let bytes = bytes.min(self.room_step());
        let Some(mut line) = self.files.disk.room_queue.first(RoomNeed::of(bytes)).await else { return Ok(None) };
        loop {
            line.looks();
            if let Some(room) = self.reserve(digest, bytes).await? {
                line.found();
                return Ok(Some(room));
            }
            if !line.again().await {
                return Ok(None);
            }
        }
    }

    /// How many bytes a download reserves ahead of those that have come, at least: a sixteenth of
    /// `max_size`, between 1 and 64 MiB. From memory.
    pub fn room_step(&self) -> u64 {
        let max = self.files.disk.ledger.max().unwrap_or(u64::MAX);
        (max / 16).clamp(LEAST_STEP, MOST_STEP)
    }

    /// Notes how many cached bytes no eviction takes: no other content goes for a download that
    /// could not fit beside them. From memory.
    pub fn note_stays(&self, bytes: u64) {
        self.files.disk.ledger.note_stays(bytes);
    }

    /// Whether cached content makes room: an eviction listens. From memory.
    pub fn evicts(&self) -> bool {
        self.files.disk.room_queue.is_served()
    }

    /// What the first in line for room needs, and each change of it. While the receiver lives,
    /// downloads and pushes wait for the eviction. From memory.
    pub fn room_needs(&self) -> watch::Receiver<RoomNeed> {
        self.files.disk.room_queue.listen()
    }

    /// Whether downloads under way, but for the one that has this need, hold room that they may
    /// give back, or that becomes cached content. From memory.
    pub fn others_hold_room(&self, need: RoomNeed) -> bool {
        self.files.disk.ledger.reserved() > need.own
    }

    /// How waits for room have ended since the start. From memory.
    pub fn room_waits(&self) -> RoomWaits {
        self.files.disk.room_queue.waits()
    }

    /// The bytes that downloads under way have reserved, and those of unfinished downloads that
    /// nobody drives. From memory.
    pub fn promised(&self) -> (u64, u64) {
        self.files.disk.ledger.promised()
    }

    /// The bytes that pushes have got room for since the start. From memory.
    pub fn pushed(&self) -> u64 {
        self.files.disk.space.pushed.load(Ordering::Relaxed)
    }

    /// Whether a hosted repository links it, as far as they are counted since the start. A hint:
    /// only [`evict`](Self::evict) decides. From memory.
    pub fn is_hosted(&self, digest: &Digest) -> bool {
        self.files.disk.census.is_hosted(digest)
    }

    /// Tells whoever waits with this need that nothing is left to evict for it.
    pub fn tell_exhausted(&self, need: RoomNeed) {
        self.files.disk.room_queue.exhausted(need);
    }

    /// How many bytes have to go before `bytes` more fit: within `max_size`, and with `min_free`
    /// left. Asks the file system at most once a second.
    pub fn lack(&self, bytes: u64) -> Lack {
        self.files.lack(bytes)
    }

    /// Whether the count that `max_size` is compared with is complete. Waits for it, for a moment.
    pub(super) async fn is_counted(&self) -> bool {
        let began = Instant::now();
        while !self.files.is_counted() {
            if began.elapsed() >= COUNTING {
                return false;
            }
            sleep(GLANCE).await;
        }
        true
    }

    /// Whether anything may be cached at all. Asks the file system at most once a second.
    pub fn has_room(&self) -> bool {
        self.files.room_for(0)
    }

    /// Whether anything can be stored now, as of at most a second ago.
    pub fn writable(&self) -> bool {
        self.files.writable()
    }

    /// How much is here. From memory.
    pub fn usage(&self) -> Usage {
        self.files.usage()
    }

    /// Whether reads come from the index. Files serve them otherwise, with the same answers.
    pub fn index_is_ready(&self) -> bool {
        self.files.index_is_ready()
    }
    /// Waits until the index has everything that was queued for it: [`residents`](Self::residents)
    /// and [`use_of`](Self::use_of) lag behind by that much.
    #[cfg(test)]
    pub fn index_has_caught_up(&self) {
        self.files.index_has_caught_up();
    }
}
