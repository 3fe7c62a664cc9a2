//! Bytes of blobs that clients were given from here, on their way to the index.
//!
//! An answer that has ended adds its bytes under a lock of its own sixteenth of the digests, and
//! touches no disk and no queue. The thread that notes uses takes the sums to the index
//! (`manifest_uses.rs`), every half minute, at the stop, and when an operator asks. A hint: more
//! than [`MOST`] blobs at once are not all counted, and a crash loses all counts.
//!
//! A client may have the last byte before the blob is stored, so the bytes of a blob that the index
//! does not know wait for a minute. Callers: `manifest_uses.rs`.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::oci::Digest;

const SHARDS: usize = 16;

/// Blobs that may wait in a sixteenth.
const MOST: usize = 4096;

/// How long the bytes of a blob wait for its entry in the index.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Served {
    shards: [Mutex<HashMap<Digest, Waiting>>; SHARDS],
}

#[derive(Debug)]
struct Waiting {
    bytes: u64,
    since: Instant,
}

impl Served {
    /// Adds the bytes that an answer has given.
    pub(super) fn note(&self, digest: &Digest, bytes: u64) {
        let shard = usize::from(digest.as_bytes().first().copied().unwrap_or_default()) % SHARDS;
        let mut shard = self.shards[shard].lock();
        if shard.len() < MOST || shard.contains_key(digest) {
            let waiting = shard.entry(*digest).or_insert_with(|| Waiting { bytes: 0, since: Instant::now() });
            waiting.bytes = waiting.bytes.saturating_add(bytes);
        }
    }

    /// Takes the sums of the blobs that are known. Those that stay unknown for too long are
    /// dropped.
    pub(super) fn take(&self, is_known: impl Fn(&Digest) -> bool) -> Vec<(Digest, u64)> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            // The index is read under no lock.
            let waiting: Vec<_> = shard.lock().keys().copied().collect();
            for digest in waiting {
                let known = is_known(&digest);
                let mut shard = shard.lock();
                let late = shard.get(&digest).is_some_and(|waiting| waiting.since.elapsed() > PATIENCE);
                if (known || late)
                    && let Some(waiting) = shard.remove(&digest)
                    && known
                {
                    taken.push((digest, waiting.bytes));
                }
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_wait_until_their_blob_is_known() {
        let served = Served::default();
        let [one, other] = [1, 17].map(|n| Digest::Sha256([n; 32]));
        served.note(&one, 5);
        served.note(&other, 7);
        served.note(&one, 1);
        assert_eq!(served.take(|_| false), []);
        assert_eq!(served.take(|digest| *digest == one), [(one, 6)]);
        assert_eq!(served.take(|_| true), [(other, 7)]);
        assert_eq!(served.take(|_| true), []);
    }

    #[test]
    fn no_more_blobs_wait_than_there_is_room_for() {
        let served = Served::default();
        let digest = |n: u32| {
            let mut bytes = [0; 32];
            bytes[28..].copy_from_slice(&n.to_be_bytes());
            Digest::Sha256(bytes)
        };
        (0..5000).for_each(|n| served.note(&digest(n), 1));
        served.note(&digest(0), 1);
        let taken = served.take(|_| true);
        assert_eq!((taken.len(), taken.iter().map(|(_, bytes)| bytes).sum::<u64>()), (MOST, MOST as u64 + 1));
    }
}
