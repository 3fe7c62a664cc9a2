//! The users of the file, as of its last good reading.
//!
//! A sign-in looks at the file, at most once a second, so that an edit counts within seconds.
//!
//! | the file, while lanyard runs | the users |
//! |---|---|
//! | is right | are those in it |
//! | is empty, or has only comments: an editor truncates it first | stay |
//! | has a line that is wrong, or half a line | stay |
//! | is gone, or cannot be read: a mount comes back | stay |
//! | has the line that `lanyard user rm` writes for the last user | none |
//!
//! If they stay, the log says so once. At the start a file that is empty or missing is a list
//! without users, and one that is wrong is an error.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::RwLock;

use super::htpasswd::{List, ListError};
use crate::runtime::{BlockingPool, FileWatch, Reading};

/// The shortest time between two looks at the file.
const FRESH: Duration = Duration::from_secs(1);

/// The users. Without a file there are none.
pub(super) struct Users {
    file: Option<Arc<UsersFile>>,
}

struct UsersFile {
    path: PathBuf,
    list: RwLock<Arc<List>>,
    watch: FileWatch,
}

impl Users {
    /// Reads the file for the first time. Without a `path` there are no users, ever.
    pub(super) fn open(path: Option<PathBuf>, threads: BlockingPool) -> Result<Users, ListError> {
        let Some(path) = path else { return Ok(Users { file: None }) };
        let watch = FileWatch::new(&[&path], FRESH, threads);
        let list = List::read(&path)?;
        if list.is_empty() {
            tracing::warn!(file = %path.display(), "there are no users yet; add one with `lanyard user add`");
        }
        Ok(Users { file: Some(Arc::new(UsersFile { path, list: RwLock::new(Arc::new(list)), watch })) })
    }

    /// The users as of the last look.
    pub(super) fn list(&self) -> Arc<List> {
        self.file.as_ref().map_or_else(Arc::default, |file| file.list())
    }

    /// Looks at the file, unless that was done within the last second.
    pub(super) async fn refresh(&self) {
        let Some(file) = &self.file else { return };
        if file.watch.is_due() {
            let read = Arc::clone(file);
            file.watch.look(false, move || read.read()).await;
        }
    }
}

impl UsersFile {
    fn list(&self) -> Arc<List> {
        Arc::clone(&self.list.read())
    }

    /// Blocking. A file that cannot be read counts as read: it is read again when it has changed.
    fn read(&self) -> Reading {
        let file = self.path.display();
        // At the start a missing file is an empty list; from then on it is an error.
        let there = fs::metadata(&self.path).map_err(ListError::Io);
        match there.and_then(|_| List::read(&self.path)) {
            Ok(list) if list.is_empty() && !list.says_nobody() && !self.list().is_empty() => tracing::warn!(
                %file,
                "the users stay as they were: the file has no user in it; to remove the last one use `lanyard user rm`"
            ),
            Ok(list) => {
                tracing::info!(%file, users = list.len(), "the users have changed");
                *self.list.write() = Arc::new(list);
            }
            Err(error) => tracing::warn!(%file, "the users stay as they were: the file {error}"),
        }
        Reading::Known
    }
}
