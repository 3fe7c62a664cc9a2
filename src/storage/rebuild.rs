//! The background work after the start. It removes abandoned downloads, gives back disk space that
//! a crash has left reserved, counts the links of hosted repositories and the blobs, and fills the
//! index from the files.
//!
//! After an orderly stop there are no blobs to count and nothing to fill. Otherwise requests are
//! served from files meanwhile, and what they change reaches the index in the order in which it
//! reached the files: a record is read and queued under the lock of its repository. Callers:
//! `Files`, which starts it at the opening and stops it at the close.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    BlobUse, StorageError, blob_iter,
    blobs::BlobStore,
    blocks,
    catalog::FileCatalog,
    disk::Disk,
    downloads::{ABANDONED, Downloads},
    index::{Entry, Settled},
};
use crate::oci::{Algorithm, Digest, Namespace, Repository};

/// Records read under one hold of a repository's lock.
const CHUNK: usize = 256;

/// The thread, and the flag that stops it.
#[derive(Debug)]
pub(super) struct Rebuild {
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Rebuild {
    pub(super) fn start(disk: Arc<Disk>, catalog: FileCatalog, downloads: Downloads) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let blobs = BlobStore::new(Arc::clone(&disk));
        let work = Work { disk, blobs, catalog, downloads, stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new().name("lanyard-rebuild".to_owned()).spawn(move || work.run());
        if let Err(error) = &thread {
            tracing::warn!(%error, "no thread to fill the index; everything is served from files");
        }
        Rebuild { stop, thread: Mutex::new(thread.ok()) }
    }

    /// Ends it within a chunk, and awaits that.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.finish();
    }

    /// Awaits its end.
    pub(super) fn finish(&self) {
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the background work on the data folder panicked");
        }
    }
}

struct Work {
    disk: Arc<Disk>,
    blobs: BlobStore,
    catalog: FileCatalog,
    downloads: Downloads,
    stop: Arc<AtomicBool>,
}

/// A blob as its folder shows it.
struct Seen {
    digest: Digest,
    blob: BlobUse,
    /// The disk space that it takes.
    taken: u64,
}

/// Why the work ends early.
enum Ended {
    Stopped,
    Failed(StorageError),
}

impl From<StorageError> for Ended {
    fn from(error: StorageError) -> Self {
        Ended::Failed(error)
    }
}

impl Work {
    fn run(&self) {
        let began = Instant::now();
        match self.downloads.sweep(ABANDONED) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "abandoned downloads were removed"),
            Err(error) => tracing::warn!(%error, "abandoned downloads cannot be removed"),
        }
        match self.downloads.give_back() {
            Ok(0) | Err(StorageError::ReadOnly | StorageError::Closed) => {}
            Ok(bytes) => tracing::info!(bytes, "disk space that downloads had reserved was given back"),
            Err(error) => tracing::warn!(%error, "disk space that downloads had reserved is not given back"),
        }
        // A counted blob needs no second look, so this is right with or without the clean mark.
        let hosted = self.hosted();
        let settled = self.disk.index.settled();
        if hosted.is_ok() && settled == Settled::Ready && self.disk.census.usage().complete {
            return;
        }
        let blobs = hosted.and_then(|()| self.blobs());
        match blobs.and_then(|()| if settled == Settled::Empty { self.repositories() } else { Ok(()) }) {
            Ok(()) => tracing::info!(
                blobs = self.disk.census.usage().blobs,
                duration_ms = began.elapsed().as_millis() as u64,
                "the data folder is read"
            ),
            Err(Ended::Stopped) => {}
            Err(Ended::Failed(error)) => {
                tracing::warn!(%error, "the data folder cannot be read to its end; what is missing is served from files");
            }
        }
    }

    /// Counts the links of hosted repositories, by the names in their folders.
    fn hosted(&self) -> Result<(), Ended> {
        for name in self.catalog.folders(&Namespace::Hosted)? {
            self.go_on()?;
            let repository = Repository { namespace: Namespace::Hosted, name };
            let _lock = self.catalog.lock(&repository);
            let links = self.catalog.link_files(&repository)?;
            self.disk.census.walk(&repository.name, &links, &self.disk.layout);
        }
        self.disk.census.walked();
        Ok(())
    }

    fn blobs(&self) -> Result<(), Ended> {
        for (algorithm, first) in blob_iter::all() {
            self.go_on()?;
            let (mut answer, mut large) = (None, Vec::new());
            let list = || {
                let seen = self.shard(algorithm, first)?;
                if !seen.is_empty() && !self.disk.index.is_off() {
                    let entry = |seen: &Seen| Entry::blob(&seen.digest, seen.blob);
                    answer = Some(self.disk.index.feed(seen.iter().map(entry).collect()));
                }
                large.extend(seen.iter().filter(|seen| seen.taken > seen.blob.size).map(|seen| seen.digest));
                Ok(seen.into_iter().map(|seen| (seen.digest, seen.taken)).collect())
            };
            let folder = self.disk.layout.shard(algorithm, first);
            self.disk.census.count_shard(algorithm, first, list).map_err(StorageError::io("listing", &folder))?;
            for digest in large {
                match self.blobs.give_back(&digest) {
                    Err(StorageError::ReadOnly | StorageError::Closed) => {}
                    Ok(bytes) => tracing::info!(%digest, bytes, "disk space beyond a blob's content was given back"),
                    Err(error) => tracing::warn!(%error, "disk space beyond a blob's content is not given back"),
                }
            }
            self.applied(answer)?;
        }
        Ok(())
    }

    /// The blobs in one folder.
    fn shard(&self, algorithm: Algorithm, first: u8) -> io::Result<Vec<Seen>> {
        let mut seen = Vec::new();
        blob_iter::look_into(&self.disk.layout, algorithm, first, |digest, file| {
            let metadata = file.metadata()?;
            seen.push(Seen { digest, blob: BlobUse::of_file(&metadata), taken: blocks::taken(&metadata) });
            Ok(())
        })?;
        Ok(seen)
    }

    fn repositories(&self) -> Result<(), Ended> {
        for repository in self.catalog.everywhere()? {
            self.repository(&repository)?;
        }
        self.disk.index.complete();
        Ok(())
    }

    fn repository(&self, repository: &Repository) -> Result<(), Ended> {
        for tags in self.catalog.tag_files(repository)?.chunks(CHUNK) {
            self.chunk(repository, tags, |tag| self.catalog.tag_entry(repository, tag))?;
        }
        for digests in self.catalog.link_files(repository)?.chunks(CHUNK) {
            self.chunk(repository, digests, |digest| self.catalog.link_entry(repository, digest))?;
        }
        Ok(())
    }

    /// Reads these records as they are now, and feeds them.
    fn chunk<K>(
        &self,
        repository: &Repository,
        keys: &[K],
        entry: impl Fn(&K) -> Result<Entry, StorageError>,
    ) -> Result<(), Ended> {
        self.go_on()?;
        let answer = {
            let _lock = self.catalog.lock(repository);
            let entries = keys.iter().map(entry).collect::<Result<_, _>>()?;
            self.disk.index.feed(entries)
        };
        self.applied(Some(answer))
    }

    /// Awaits that the index has taken what it was fed, so that the queue stays free for requests.
    fn applied(&self, answer: Option<Receiver<()>>) -> Result<(), Ended> {
        let Some(answer) = answer else {
            return Ok(());
        };
        loop {
            match answer.recv_timeout(Duration::from_millis(100)) {
                // Disconnected: the index is off, and has said so. The blobs are counted all the
                // same.
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => self.go_on()?,
            }
        }
    }

    fn go_on(&self) -> Result<(), Ended> {
        if self.stop.load(Ordering::Relaxed) { Err(Ended::Stopped) } else { Ok(()) }
    }
}
