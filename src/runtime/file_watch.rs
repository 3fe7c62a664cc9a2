//! A watch on small files that are edited while lanyard runs: users, a certificate, a password.
//!
//! Nothing runs in the background. A caller that needs the content asks [`FileWatch::is_due`], and
//! then [`FileWatch::look`], which reads the files if they have changed since the last look. No
//! inotify: a mounted secret is swapped by renames above the file, which an inotify watch misses.
//!
//! - One look at a time. A caller that comes while one is under way waits for it.
//! - No caller waits longer than a second. If the disk does not answer, the look goes on without
//!   its caller, and the last content stays valid. It is told once, and until that look is over no
//!   other caller waits at all.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Mutex as Turn, time::Instant};

use super::BlockingPool;

/// The longest that a caller waits for a look.
const WAIT: Duration = Duration::from_secs(1);

/// Some files that one caller watches together.
#[derive(Debug)]
pub struct FileWatch {
    paths: Arc<[PathBuf]>,
    every: Duration,
    pool: BlockingPool,
    due: Mutex<Instant>,
    last: Arc<Turn<Last>>,
    /// A look is under way for which a caller has waited long enough.
    is_stuck: AtomicBool,
}

/// The state after the last look.
#[derive(Debug)]
struct Last {
    /// `None`: the next look reads the files, whether or not they have changed.
    stamps: Option<Vec<Stamp>>,
    began: Option<Instant>,
}

/// The result of reading the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// The content is known, good or bad. It is read again when the files have changed.
    Known,
    /// The next look reads the files again, also when they have not changed.
    Again,
}

/// Tells one content of a file from the next: device, inode, length, and the times of the last
/// change of content and of metadata; `None` while the metadata cannot be read. A change of
/// permissions counts, because it may mend an unreadable file.
type Stamp = Option<(u64, u64, u64, [i64; 4])>;

impl FileWatch {
    /// Watches `paths`, which the caller reads after this. Looks run on `pool`, at most one for
    /// each `every`. Blocks for the files' metadata.
    pub(crate) fn new(paths: &[&Path], every: Duration, pool: BlockingPool) -> FileWatch {
        let paths: Arc<[PathBuf]> = paths.iter().map(|&path| path.to_owned()).collect();
        let last = Last { stamps: Some(stamps(&paths)), began: None };
        FileWatch {
            paths,
            every,
            pool,
            due: Mutex::new(Instant::now()),
            last: Arc::new(Turn::new(last)),
            is_stuck: AtomicBool::default(),
        }
    }

    /// The first look reads the files, also when they have not changed: the caller's content is
    /// older than this watch.
    pub(crate) fn unread(mut self) -> FileWatch {
        self.last = Arc::new(Turn::new(Last { stamps: None, began: None }));
        self
    }

    /// Whether the last look is older than `every`. True for one caller, which then looks.
    pub(crate) fn is_due(&self) -> bool {
        let mut last = self.due.lock();
        let due = last.elapsed() >= self.every;
        if due {
            *last = Instant::now();
        }
        due
    }

    /// Calls `read` on a blocking thread if the files have changed since they were last read, or if
    /// `anyway`. Returns when the look is over, or after a second; the look goes on then. A look of
    /// another caller that began after this call counts as this one.
    pub(crate) async fn look(&self, anyway: bool, read: impl FnOnce() -> Reading + Send + 'static) {
        let asked = Instant::now();
        let look = async {
            let turn = Arc::clone(&self.last);
            let mut last = if self.is_stuck.load(Ordering::Acquire) {
                let Ok(last) = turn.try_lock_owned() else { return };
                last
            } else {
                turn.lock_owned().await
            };
            self.is_stuck.store(false, Ordering::Release);
            if last.began.is_some_and(|began| began > asked) {
                return;
            }
            let paths = Arc::clone(&self.paths);
            let looked = self.pool.run(move || {
                last.began = Some(Instant::now());
                let now = Some(stamps(&paths));
                if anyway || now != last.stamps {
                    last.stamps = if read() == Reading::Known { now } else { None };
                }
            });
            if looked.await.is_err() {
                tracing::error!("a watched file was not read, by an error of lanyard's own");
            }
        };
        if tokio::time::timeout(WAIT, look).await.is_err() && !self.is_stuck.swap(true, Ordering::AcqRel) {
            let files: Vec<_> = self.paths.iter().map(|path| path.display().to_string()).collect();
            tracing::warn!(
                files = files.join(", "),
                "what is there cannot be looked at; what was read before counts on"
            );
        }
    }
}

/// Opens a file that is read again later. A FIFO is refused: its reader would wait for a writer,
/// perhaps for ever.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    if fs::metadata(path)?.file_type().is_fifo() {
        return Err(io::Error::other("it is a FIFO, and no file"));
    }
    File::open(path)
}

/// The content of such a file.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let meta = fs::metadata(path).ok()?;
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        Some((meta.dev(), meta.ino(), meta.len(), times))
    };
    paths.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn nobody_waits_for_the_writer_of_a_fifo() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert!(read_file(&path).unwrap_err().to_string().contains("FIFO"));
        fs::write(folder.path().join("file"), "text").unwrap();
        assert_eq!(read_file(&folder.path().join("file")).unwrap(), b"text");
    }

    #[tokio::test]
    async fn a_look_that_hangs_holds_up_one_caller() {
        let folder = tempfile::tempdir().unwrap();
        let pool = BlockingPool::new(tokio::runtime::Handle::current(), 1);
        let watch = FileWatch::new(&[folder.path()], Duration::ZERO, pool);
        let (go_on, waits) = std::sync::mpsc::channel::<()>();
        let hangs = move || {
            let _ = waits.recv();
            Reading::Known
        };
        watch.look(true, hangs).await;
        let began = Instant::now();
        for _ in 0..50 {
            watch.look(true, || panic!("the disk is not asked while it does not answer")).await;
        }
        assert!(began.elapsed() < WAIT, "fifty callers wait no second together: {:?}", began.elapsed());
        go_on.send(()).unwrap();
        let read = Arc::new(AtomicUsize::new(0));
        while read.load(Ordering::SeqCst) == 0 {
            let read = Arc::clone(&read);
            let look = move || {
                read.fetch_add(1, Ordering::SeqCst);
                Reading::Known
            };
            watch.look(true, look).await;
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_when_it_has_changed_and_when_it_was_no_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let pool = BlockingPool::new(tokio::runtime::Handle::current(), 1);
        let watch = FileWatch::new(&[&path], Duration::from_secs(5), pool);
        let reads = Arc::new(AtomicUsize::new(0));
        let look = async |anyway, reading| {
            let reads = Arc::clone(&reads);
            let count = Arc::clone(&reads);
            watch
                .look(anyway, move || {
                    count.fetch_add(1, Ordering::SeqCst);
                    reading
                })
                .await;
            reads.load(Ordering::SeqCst)
        };
        assert!(!watch.is_due());
        assert_eq!(look(false, Reading::Known).await, 0, "missing then and now");
        assert_eq!(look(true, Reading::Known).await, 1);
        fs::write(&path, "one").unwrap();
        assert_eq!(look(false, Reading::Again).await, 2);
        assert_eq!(look(false, Reading::Known).await, 3, "it was no good");
        assert_eq!(look(false, Reading::Known).await, 3);
        fs::rename(&path, folder.path().join("other")).unwrap();
        fs::write(&path, "one").unwrap();
        assert_eq!(look(false, Reading::Known).await, 4, "another file of the same length");
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(watch.is_due() && !watch.is_due(), "one caller looks");
    }
}
