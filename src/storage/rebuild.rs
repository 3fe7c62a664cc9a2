//! The background work after the start: removes abandoned downloads, counts the blobs, fills the index from the files.
//!
//! After an orderly stop there is nothing to count and nothing to fill. Otherwise requests are served from files
//! meanwhile, and what they change reaches the index in the order in which it reached the files: a record is read and
//! queued under the lock of its repository.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    ABANDONED, Catalog, Parts, StorageError,
    disk::Disk,
    index::{Entry, Settled},
    names,
};
use crate::oci::{Algorithm, Repository};

/// Records read under one hold of a repository's lock.
const CHUNK: usize = 256;

/// The thread, and the word that stops it.
#[derive(Debug)]
pub(super) struct Rebuild {
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Rebuild {
    pub(super) fn start(disk: Arc<Disk>, catalog: Catalog, parts: Parts) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let work = Work { disk, catalog, parts, stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new().name("lanyard-rebuild".to_owned()).spawn(move || work.run());
        if let Err(error) = &thread {
            tracing::warn!(%error, "no thread to fill the index; everything is served from files");
        }
        Rebuild { stop, thread: Mutex::new(thread.ok()) }
    }

    /// Ends it within a chunk, and awaits that.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
            && thread.join().is_err()
        {
            tracing::error!("the background work on the data folder panicked");
        }
    }
}

struct Work {
    disk: Arc<Disk>,
    catalog: Catalog,
    parts: Parts,
    stop: Arc<AtomicBool>,
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
        match self.parts.sweep(ABANDONED) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "abandoned downloads were removed"),
            Err(error) => tracing::warn!(%error, "abandoned downloads cannot be removed"),
        }
        let settled = self.disk.index.settled();
        if settled == Settled::Ready && self.disk.census.usage().complete {
            return;
        }
        match self.blobs().and_then(|()| if settled == Settled::Empty { self.repositories() } else { Ok(()) }) {
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

    fn blobs(&self) -> Result<(), Ended> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for first in 0..=u8::MAX {
                self.go_on()?;
                let mut answer = None;
                let list = || {
                    let (entries, sizes) = self.shard(algorithm, first)?;
                    if !entries.is_empty() && !self.disk.index.is_off() {
                        answer = Some(self.disk.index.feed(entries));
                    }
                    Ok(sizes)
                };
                let folder = self.disk.layout.shard(algorithm, first);
                self.disk.census.count_shard(algorithm, first, list).map_err(StorageError::io("listing", &folder))?;
                self.applied(answer)?;
            }
        }
        Ok(())
    }

    /// The index's entries and the sizes of the blobs in one folder.
    fn shard(&self, algorithm: Algorithm, first: u8) -> io::Result<(Vec<Entry>, Vec<u64>)> {
        let (mut entries, mut sizes) = (Vec::new(), Vec::new());
        let files = match fs::read_dir(self.disk.layout.shard(algorithm, first)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((entries, sizes)),
            files => files?,
        };
        for file in files {
            let file = file?;
            let Some(digest) = file.file_name().to_str().and_then(|name| names::parse_blob(algorithm, name)) else {
                continue;
            };
            let metadata = file.metadata()?;
            // The kernel keeps the last access to about a day, which is what is left of it when the index is gone.
            let accessed = metadata.atime().max(metadata.mtime()).max(0);
            entries.push(Entry::blob(&digest, metadata.len(), accessed.unsigned_abs()));
            sizes.push(metadata.len());
        }
        Ok((entries, sizes))
    }

    fn repositories(&self) -> Result<(), Ended> {
        for namespace in self.catalog.namespaces()? {
            for name in self.catalog.repositories(&namespace)? {
                self.repository(&Repository { namespace: namespace.clone(), name })?;
            }
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
                // Gone: the index is off, which it has said. The blobs are counted all the same.
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => self.go_on()?,
            }
        }
    }

    fn go_on(&self) -> Result<(), Ended> {
        if self.stop.load(Ordering::Relaxed) { Err(Ended::Stopped) } else { Ok(()) }
    }
}
