//! The users as the file has them now.
//!
//! The file is looked at when somebody wants to know, at most once a second, so that edits count within seconds and no watcher
//! is needed that a mounted secret's renames would confuse.
//!
//! | the file, while lanyard runs | the users |
//! |---|---|
//! | is right | are those in it |
//! | is empty, or has only comments: an editor truncates it first | stay |
//! | has a line that is wrong, or half a line | stay |
//! | is gone, or cannot be read: a mount comes back | stay |
//! | says that nobody is left: `lanyard user rm` of the last user writes so | nobody |
//!
//! Where they stay, the log says so once. At the start a file that is empty or missing is a list
//! without users, and one that is wrong is an error.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::Instant;

use super::htpasswd::{List, ListError};
use crate::storage::DiskThreads;

/// How long what was read counts, and how long anybody waits for a look.
const FRESH: Duration = Duration::from_secs(1);

/// What tells one content of a file from the next: when it was changed, its length, and which file it is; else why it cannot be
/// looked at.
type Stamp = Result<(i64, i64, u64, u64), io::ErrorKind>;

pub(super) struct Users {
    file: Option<Arc<File>>,
    threads: DiskThreads,
    looked: Mutex<Instant>,
}

struct File {
    path: PathBuf,
    list: RwLock<Arc<List>>,
    stamp: Mutex<Stamp>,
}

impl Users {
    /// Reads the file for the first time. No file: no users, ever.
    pub(super) fn open(path: Option<PathBuf>, threads: DiskThreads) -> Result<Users, ListError> {
        let file = match path {
            Some(path) => {
                let stamp = stamp(&path);
                let list = List::read(&path)?;
                if list.is_empty() {
                    tracing::warn!(file = %path.display(), "there are no users yet; add one with `lanyard user add`");
                }
                Some(Arc::new(File { path, list: RwLock::new(Arc::new(list)), stamp: Mutex::new(stamp) }))
            }
            None => None,
        };
        Ok(Users { file, threads, looked: Mutex::new(Instant::now()) })
    }

    /// The users as of the last look.
    pub(super) fn list(&self) -> Arc<List> {
        self.file.as_ref().map_or_else(Arc::default, |file| file.list())
    }

    /// Looks at the file unless somebody just did.
    pub(super) async fn refresh(&self) {
        let Some(file) = self.file.clone() else { return };
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.elapsed() < FRESH {
                return;
            }
            *looked = Instant::now();
        }
        // A disk that does not answer keeps nobody waiting; what is known goes on to count.
        let _ = tokio::time::timeout(FRESH, self.threads.run(move || file.look())).await;
    }
}

impl File {
    fn list(&self) -> Arc<List> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Blocking. Reads the file if it is another than last time.
    fn look(&self) {
        let mut last = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.path);
        if now == *last {
            return;
        }
        let read = now.map_err(|kind| ListError::Io(kind.into())).and_then(|_| List::read(&self.path));
        *last = now;
        let file = self.path.display();
        match read {
            Ok(list) if list.is_empty() && !list.says_nobody() && !self.list().is_empty() => tracing::warn!(
                %file,
                "the users stay as they were: the file has no user in it; to remove the last one use `lanyard user rm`"
            ),
            Ok(list) => {
                tracing::info!(%file, users = list.len(), "the users have changed");
                *self.list.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
            }
            Err(error) => tracing::warn!(%file, "the users stay as they were: the file {error}"),
        }
    }
}

fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).map_err(|error| error.kind())?;
    Ok((meta.mtime(), meta.mtime_nsec(), meta.len(), meta.ino()))
}
