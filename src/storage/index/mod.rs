//! The index: sled over the files. No request waits for it.
//!
//! | state | when | reads | writes |
//! |---|---|---|---|
//! | Opening | the thread opens sled, or has yet to | from files | queued |
//! | Rebuilding | sled was missing or in doubt, the files are read into it | from files | applied |
//! | Ready | it says what the files say | from sled | applied |
//! | Off | any error, panic or full disk; until the next start | from files | dropped |
//!
//! - I1 A write is only queued; one thread of the index's own applies it. A sled that hangs stops
//!   nothing else.
//! - I2 Between queueing and applying, the repository's records are read from files: no reader gets
//!   a replaced record.
//! - I3 Nothing is ever flushed but in [`Index::close`]. The clean mark names a token that sled
//!   holds as well, and stands outside of sled's folder: another sled folder in its place (deleted,
//!   older, restored) is not believed.
//! - I4 Any error is the end of the index until the next start, said once in the log. It is never
//!   an error to callers.
//! - I5 It is not opened, and is given up, when the disk is nearly full: sled corrupts itself
//!   there.
//!
//! Callers: only this room's other files.

mod entry;
mod open;
mod scans;
mod shared;
#[cfg(test)]
mod tests;
mod thread;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};

pub(super) use entry::{Entry, RepositoryKey};
use open::{Trees, guarded};
use shared::{Shared, State};
use thread::Operation;

use super::{BlobUse, space::Space};
use crate::{
    oci::{Digest, Tag},
    runtime::run_quietly,
};

/// Operations that may wait for the index's thread. A full queue means that sled hangs.
const QUEUE: usize = 4096;

/// Of those, notes of uses. More are dropped: they are only hints.
const HINTS: usize = 256;

/// How long an orderly stop waits for the flush, and again for the thread.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Index {
    shared: Arc<Shared>,
    queue: SyncSender<Operation>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How the opening ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Settled {
    /// It is the index that the last process closed in order.
    Ready,
    /// It is empty: read the files into it with [`Index::feed`], then call [`Index::complete`].
    Empty,
    /// There is no index.
    Off,
}

impl Index {
    /// Starts the thread, which opens sled in `folder`. `token`: the token of the clean mark, if
    /// there was one.
    pub(super) fn start(folder: PathBuf, token: Option<u64>, space: Space) -> Index {
        let shared = Arc::new(Shared::default());
        let (queue, operations) = sync_channel(QUEUE);
        let body = {
            let shared = Arc::clone(&shared);
            move || {
                run_quietly();
                thread::run(&shared, &operations, &folder, token, &space);
            }
        };
        let thread = std::thread::Builder::new().name("lanyard-index".to_owned()).spawn(body);
        if let Err(error) = &thread {
            shared.off(error);
            shared.settle();
        }
        Index { shared, queue, thread: Mutex::new(thread.ok()) }
    }

    /// No index at all: for a read-only file system.
    pub(super) fn none() -> Index {
        let shared = Arc::new(Shared { state: RwLock::new(State::Off), ..Shared::default() });
        shared.settle();
        Index { shared, queue: sync_channel(0).0, thread: Mutex::new(None) }
    }

    /// The text of a tag's record, if the index is sure of it. `None`: read the files.
    pub(super) fn tag(&self, repository: &RepositoryKey, tag: &Tag) -> Option<Vec<u8>> {
        self.read(repository, |trees| trees.tags.get(entry::tag_key(repository, tag))).flatten().map(|v| v.to_vec())
    }

    /// The same for a link.
    pub(super) fn link(&self, repository: &RepositoryKey, digest: &Digest) -> Option<Vec<u8>> {
        self.read(repository, |trees| trees.links.get(entry::link_key(repository, digest)))
            .flatten()
            .map(|v| v.to_vec())
    }

    /// The texts of the records of all the repository's tags, if the index is sure of them.
    pub(super) fn tag_texts(&self, repository: &RepositoryKey) -> Option<Vec<Vec<u8>>> {
        self.read(repository, |trees| values(&trees.tags, &repository.prefix()))
    }

    /// The same for its links.
    pub(super) fn link_texts(&self, repository: &RepositoryKey) -> Option<Vec<Vec<u8>>> {
        self.read(repository, |trees| values(&trees.links, &repository.prefix()))
    }

    /// The repositories that link the digest, if the index is sure of them; and those whose links
    /// are just changing: the files say whether they link it.
    pub(super) fn holders(&self, digest: &Digest) -> Option<(Vec<RepositoryKey>, Vec<RepositoryKey>)> {
        let trees = self.shared.ready()?;
        // In this order: a write that is applied by now is found by the scan, and one that is not
        // is among these.
        let changing = self.shared.pending();
        if self.shared.is_off() {
            return None;
        }
        let mut found = self.guarded(move || {
            let prefix = entry::holders_prefix(digest);
            let keys = trees.holders.scan_prefix(&prefix).keys();
            keys.map(|key| Ok(key?.get(prefix.len()..).and_then(RepositoryKey::parse)))
                .collect::<sled::Result<Vec<_>>>()
        })?;
        found.retain(|key| key.as_ref().is_some_and(|key| !changing.contains(key)));
        Some((found.into_iter().flatten().collect(), changing))
    }

    /// How a blob was used; the outer `None`: look at its file.
    pub(super) fn blob(&self, digest: &Digest) -> Option<Option<BlobUse>> {
        let trees = self.shared.ready()?;
        let value = self.guarded(move || trees.blobs.get(entry::blob_key(digest)))?;
        Some(value.and_then(|value| entry::parse_blob(&value)))
    }

    /// Queues changes that the files of this repository have just seen. Call it under the
    /// repository's lock.
    pub(super) fn write(&self, repository: Option<&RepositoryKey>, entries: Vec<Entry>) {
        if entries.is_empty() || self.shared.is_off() {
            return;
        }
        if let Some(repository) = repository {
            self.shared.expect(repository);
        }
        self.send(Operation::Write { repository: repository.cloned(), entries });
    }

    /// Notes that a blob was used at `now`, in milliseconds. A hint: dropped when there are many.
    pub(super) fn touch(&self, digest: &Digest, now: u64) {
        self.hint(Operation::Touch { digest: *digest, now });
    }

    /// Notes that a manifest that names these blobs was used at `now`, in milliseconds. A hint as
    /// well.
    pub(super) fn name(&self, digests: Vec<Digest>, now: u64) {
        if !digests.is_empty() {
            self.hint(Operation::Name { digests, now });
        }
    }

    /// Sets last uses back by so many milliseconds where they are still in the future. A hint.
    pub(super) fn set_back(&self, digests: Vec<Digest>, by: u64, now: u64) {
        if !digests.is_empty() {
            self.hint(Operation::SetBack { digests, by, now });
        }
    }

    /// Notes the bytes of blobs that clients were given. A hint.
    pub(super) fn serve(&self, served: Vec<(Digest, u64)>) {
        if !served.is_empty() {
            self.hint(Operation::Serve { served });
        }
    }

    fn hint(&self, operation: Operation) {
        if self.shared.is_off() {
            return;
        }
        if self.shared.hints.fetch_add(1, Ordering::Relaxed) < HINTS && self.queue.try_send(operation).is_ok() {
            return;
        }
        self.shared.hints.fetch_sub(1, Ordering::Relaxed);
    }

    /// Waits until the opening has ended, well or not. For the rebuild alone.
    pub(super) fn settled(&self) -> Settled {
        self.shared.settled.wait_while(&mut self.shared.settling.lock(), |settled| !*settled);
        match &*self.shared.state.read() {
            State::Ready(_) => Settled::Ready,
            State::Opening | State::Rebuilding => Settled::Empty,
            State::Off => Settled::Off,
        }
    }

    /// Queues entries that the rebuild has read. The receiver gets an answer when they are applied,
    /// and an error if they never will be. Call it under the repository's lock, and await the
    /// answer outside.
    pub(super) fn feed(&self, entries: Vec<Entry>) -> Receiver<()> {
        let (applied, answer) = sync_channel(1);
        self.send(Operation::Feed { entries, applied });
        answer
    }

    /// Every record was fed: reads may come from the index once the queued writes are applied.
    pub(super) fn complete(&self) {
        self.send(Operation::Complete);
    }

    /// Never waits: a full queue means that the thread hangs in sled.
    fn send(&self, operation: Operation) {
        if self.queue.try_send(operation).is_err() {
            self.shared.off(&"its queue is full, so it seems to hang");
        }
    }

    /// Whether there is an index, or will be.
    pub(super) fn is_off(&self) -> bool {
        self.shared.is_off()
    }

    /// Whether reads come from it.
    pub(super) fn is_ready(&self) -> bool {
        self.shared.ready().is_some()
    }

    /// Flushes and stops. Returns the token for the clean mark; `None` if the index must not be
    /// believed.
    pub(super) fn close(&self) -> Option<u64> {
        let (reply, token) = sync_channel(1);
        let _ = self.queue.try_send(Operation::Close { reply });
        let token = token.recv_timeout(PATIENCE).ok().flatten();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let deadline = Instant::now() + PATIENCE;
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                let _ = thread.join();
            } else {
                tracing::warn!("the index does not stop; it is left to the end of the process");
            }
        }
        self.shared.off_quietly();
        token
    }

    fn read<T>(&self, repository: &RepositoryKey, get: impl FnOnce(&Trees) -> sled::Result<T>) -> Option<T> {
        let trees = self.shared.ready()?;
        // An index that has just gone off has forgotten which writes were pending.
        if self.shared.is_pending(repository) || self.shared.is_off() {
            return None;
        }
        self.guarded(move || get(&trees))
    }

    /// Runs sled, which may return an error or panic when its files are not as it wrote them.
    fn guarded<T>(&self, run: impl FnOnce() -> sled::Result<T>) -> Option<T> {
        match guarded(run) {
            Ok(value) => Some(value),
            Err(why) => {
                self.shared.off(&why);
                let _ = self.queue.try_send(Operation::Wake);
                None
            }
        }
    }
}

impl Drop for Index {
    /// Without [`close`](Index::close) it is a crash as far as the clean mark is concerned, but the
    /// thread is awaited.
    fn drop(&mut self) {
        if self.thread.get_mut().is_some() {
            self.close();
        }
    }
}

fn values(tree: &sled::Tree, prefix: &[u8]) -> sled::Result<Vec<Vec<u8>>> {
    tree.scan_prefix(prefix).values().map(|value| value.map(|value| value.to_vec())).collect()
}
