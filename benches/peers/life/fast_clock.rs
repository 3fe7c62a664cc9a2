//! A wall clock that runs faster, for one process, by libfaketime. The monotonic clock stays, and
//! so do all timeouts.
//!
//! The time is an offset in a file, which a thread moves on. A rate of libfaketime's own would
//! divide every wait of the process by it too.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How many times as fast it runs.
pub(crate) const RATE: u64 = 600;

/// How often the offset moves on: by a minute.
const EVERY: Duration = Duration::from_millis(60_000 / RATE);

/// See the module. Dropping it stops the clock.
pub(crate) struct FastClock {
    folder: tempfile::TempDir,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FastClock {
    /// Starts a clock that is right at first.
    pub(crate) fn start() -> FastClock {
        let folder = tempfile::tempdir().unwrap();
        let (file, next) = (folder.path().join("offset"), folder.path().join("next"));
        let stop = Arc::new(AtomicBool::new(false));
        let began = Instant::now();
        let set = move || {
            fs::write(&next, format!("+{}s", began.elapsed().as_millis() as u64 * RATE / 1000)).unwrap();
            fs::rename(&next, &file).unwrap();
        };
        set();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                set();
                thread::sleep(EVERY);
            }
        });
        FastClock { folder, stop, thread: Some(thread) }
    }

    /// The variables of the process that has it.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let library = library().unwrap_or_default().display().to_string();
        vec![
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", self.folder.path().join("offset").display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }

    /// Whether this machine has libfaketime.
    pub(crate) fn is_here() -> bool {
        library().is_some()
    }
}

impl Drop for FastClock {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}
