//! Room: reservations for downloads, and the counts of what is here.
//!
//! Promises: downloads that begin together never exceed `max_size` together (K1). The verbs that
//! are not `async` answer from memory, or ask the file system at most once a second. Callers: pull
//! reserves; the retention and the app read the counts.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    oci::Digest,
    storage::{Lack, Reservation, Storage, StorageError, Usage},
};

/// How long a reservation waits for the count of what is here, which begins again after a crash.
const COUNTING: Duration = Duration::from_millis(500);

/// The time between two looks whether everything is counted.
const GLANCE: Duration = Duration::from_millis(5);

impl Storage {
    /// Room for a download of `digest`, if `bytes` fit; `None` if they are more than `max_size` or
    /// `min_free` allow. Bytes that an earlier download of the digest left are part of it. Where
    /// they do not fit now, and the eviction listens, this waits for it in line, two seconds at
    /// most.
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
        let Some(mut line) = self.files.disk.room_queue.first().await else { return Ok(None) };
        loop {
            line.looks();
            let reserve = self.read_with(move |files| {
                let mut room = files.reserve(digest, bytes);
                if let Some(room) = &mut room {
                    room.shrink();
                }
                Ok(room)
            });
            if let Some(room) = reserve.await? {
                return Ok(Some(room));
            }
            if !self.files.could_fit(bytes) || !line.again(bytes).await {
                return Ok(None);
            }
        }
    }

    /// The bytes that the first download in line for room needs, and each change of them; 0: none
    /// waits. While the receiver lives, downloads wait for the eviction. From memory.
    pub fn room_needs(&self) -> watch::Receiver<u64> {
        self.files.disk.room_queue.listen()
    }

    /// Tells the downloads that wait for room that nothing is left to evict.
    pub fn tell_exhausted(&self) {
        self.files.disk.room_queue.exhausted();
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
}
