//! The uses of manifests: each one is noted with the parts that it names, off the path of requests.
//!
//! The parts of an image are used together: a client that has all layers asks for the manifest
//! alone. So a manifest that is given out makes its parts used later, though no more often: config
//! and layers, and of an index the children that are here, with theirs. Parts of a living image age
//! together.
//!
//! The thread also takes the bytes that clients were given to the index (`served.rs`).
//!
//! A note is a hint. [`ManifestUses::note`] takes a manifest once a minute and waits for nothing;
//! one thread reads it, looks which parts are here, sets access times that are due, and gives the
//! index one operation for all parts. Notes are dropped when more than [`QUEUE`] wait. An orderly
//! stop awaits the queue for [`PATIENCE`].
//!
//! Callers: `Files` starts and stops the thread; the verb `note_use`.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{blobs::BlobStore, served::Served};
use crate::{
    oci::{Digest, MAX_MANIFEST_BYTES, Manifest},
    runtime::{clock, run_quietly},
};

/// Notes that may wait for the thread.
const QUEUE: usize = 256;

/// Manifests that are told apart within a minute. More are not noted until the next one.
const MANIFESTS: usize = 16_384;

/// Parts that are looked for, for one manifest.
const PARTS: usize = 4096;

/// How often the bytes that clients were given go to the index.
const SERVED_EVERY: Duration = Duration::from_secs(30);

/// How long an orderly stop awaits the notes in the queue.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct ManifestUses {
    intake: Mutex<Intake>,
    /// The notes in the queue are dropped from now on.
    drop_notes: Arc<AtomicBool>,
    served: Arc<Served>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Intake {
    /// `None`: the thread has ended, or is about to.
    queue: Option<SyncSender<Digest>>,
    minute: u64,
    /// What was noted in this minute, by the beginning of its digest.
    noted: HashSet<[u8; 16]>,
}

impl ManifestUses {
    pub(super) fn start(blobs: BlobStore) -> ManifestUses {
        let (queue, notes) = sync_channel(QUEUE);
        let drop_notes = Arc::new(AtomicBool::new(false));
        let served = Arc::default();
        let work = Work { blobs, drop_notes: Arc::clone(&drop_notes), served: Arc::clone(&served) };
        let thread = std::thread::Builder::new().name("lanyard-uses".to_owned()).spawn(move || {
            run_quietly();
            work.run(&notes);
        });
        if let Err(error) = &thread {
            tracing::warn!(%error, "no thread to note uses: the parts of an image age each by itself");
        }
        ManifestUses {
            intake: Mutex::new(Intake { queue: Some(queue), minute: 0, noted: HashSet::new() }),
            drop_notes,
            served,
            thread: Mutex::new(thread.ok()),
        }
    }

    /// Notes that a manifest is given out at `now`, in seconds since 1970. Within a minute only the
    /// first note of a manifest has an effect. No disk, and a lock for a moment.
    pub(super) fn note(&self, digest: &Digest, now: u64) {
        let mut intake = self.intake.lock();
        if intake.minute != now / 60 {
            intake.minute = now / 60;
            intake.noted.clear();
        }
        if intake.noted.len() < MANIFESTS
            && intake.noted.insert(digest.beginning())
            && let Some(queue) = &intake.queue
        {
            // A full queue, or no thread: a hint is lost.
            let _ = queue.try_send(*digest);
        }
    }

    /// Notes bytes of a blob that a client was given. No disk, and a lock for a moment.
    pub(super) fn note_served(&self, digest: &Digest, bytes: u64) {
        self.served.note(digest, bytes);
    }

    /// Takes the bytes that clients were given to the index, which counts them soon. Looks into
    /// the index.
    pub(super) fn count_served(&self, blobs: &BlobStore) {
        count_served(&self.served, blobs);
    }

    /// Awaits the notes in the queue for a moment, and ends the thread.
    pub(super) fn stop(&self) {
        self.intake.lock().queue = None;
        let Some(thread) = self.thread.lock().take() else { return };
        let deadline = Instant::now() + PATIENCE;
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.drop_notes.store(true, Ordering::Relaxed);
        if thread.join().is_err() {
            tracing::error!("the thread that notes uses panicked");
        }
    }
}

struct Work {
    blobs: BlobStore,
    drop_notes: Arc<AtomicBool>,
    served: Arc<Served>,
}

fn count_served(served: &Served, blobs: &BlobStore) {
    let index = &blobs.disk.index;
    index.serve(served.take(|digest| index.blob(digest).is_some_and(|known| known.is_some())));
}

impl Work {
    fn run(&self, notes: &Receiver<Digest>) {
        let mut due = Instant::now() + SERVED_EVERY;
        while !self.ends() {
            match notes.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(digest) => self.note(&digest),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return count_served(&self.served, &self.blobs),
            }
            if Instant::now() >= due {
                count_served(&self.served, &self.blobs);
                due = Instant::now() + SERVED_EVERY;
            }
        }
    }

    fn note(&self, digest: &Digest) {
        let now = clock::milliseconds();
        if self.blobs.stamp(digest, now / 1000) {
            let index = &self.blobs.disk.index;
            index.touch(digest, now);
            index.name(self.parts(digest, now / 1000), now);
        }
    }

    /// The parts of a manifest that are here, whose files show the use from `now` on, in seconds.
    fn parts(&self, digest: &Digest, now: u64) -> Vec<Digest> {
        let (mut looked_for, mut here) = (HashSet::from([*digest]), Vec::new());
        let mut manifests = VecDeque::from([*digest]);
        while let Some(digest) = manifests.pop_front() {
            // What cannot be read, or is no manifest, names nothing.
            let Ok(Some(bytes)) = self.blobs.read_unnoticed(&digest, MAX_MANIFEST_BYTES) else { continue };
            let Ok(manifest) = Manifest::parse(&Manifest::sniff(&bytes), &bytes) else { continue };
            let blobs = manifest.blobs().map(|blob| (blob.digest, false));
            for (part, is_manifest) in blobs.chain(manifest.children().map(|child| (child.digest, true))) {
                if looked_for.len() > PARTS || self.ends() {
                    return here;
                }
                if looked_for.insert(part) && self.blobs.stamp(&part, now) {
                    here.push(part);
                    if is_manifest {
                        manifests.push_back(part);
                    }
                }
            }
        }
        here
    }

    fn ends(&self) -> bool {
        self.drop_notes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Hasher};

    #[test]
    fn a_manifest_is_noted_once_a_minute() {
        let (queue, notes) = sync_channel(QUEUE);
        let uses = ManifestUses {
            intake: Mutex::new(Intake { queue: Some(queue), minute: 0, noted: HashSet::new() }),
            drop_notes: Arc::default(),
            served: Arc::default(),
            thread: Mutex::new(None),
        };
        let [one, other] = [b"1", b"2"].map(|bytes| Hasher::digest(Algorithm::Sha256, bytes));
        for (digest, now) in [(one, 600), (one, 601), (other, 602), (one, 659), (one, 660), (one, 661), (other, 720)] {
            uses.note(&digest, now);
        }
        uses.stop();
        assert_eq!(notes.iter().collect::<Vec<_>>(), [one, other, one, other]);
    }
}
