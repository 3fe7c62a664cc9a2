//! A data folder for the unit tests of other rooms: verbs by [`Folder::storage`], and the blocking
//! half by `Deref`, to arrange and to look.

use std::{ops::Deref, path::Path};

use tokio::runtime::{Builder, Runtime};

use super::{Limits, Storage, files::Files};
use crate::{config::MinFree, runtime::BlockingPool};

/// An open folder without limits, and the runtime that its verbs run on.
pub(crate) struct Folder {
    pub(crate) storage: Storage,
    pub(crate) runtime: Runtime,
}

impl Folder {
    pub(crate) fn open(dir: &Path) -> Folder {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let pool = BlockingPool::new(runtime.handle().clone(), 8);
        let limits = Limits { max_size: None, min_free: MinFree::Bytes(0) };
        Folder { storage: Storage::open(dir, limits, pool).unwrap(), runtime }
    }
}

impl Deref for Folder {
    type Target = Files;

    fn deref(&self) -> &Files {
        self.storage.files()
    }
}
