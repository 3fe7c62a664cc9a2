//! A data folder for unit tests, also of other rooms. [`Folder::storage`] has the verbs; `Deref`
//! gives the blocking half, with which a test arranges files and looks at them.

use std::{ops::Deref, path::Path, sync::Arc};

use tokio::runtime::{Builder, Runtime};

use super::{
    Limits, Storage,
    catalog::{Catalog, FileCatalog},
    disk::Disk,
    files::Files,
};
use crate::{config::MinFree, runtime::BlockingPool};

/// An open folder without limits, and the runtime that its verbs run on.
pub(crate) struct Folder {
    pub(crate) storage: Storage,
    pub(crate) runtime: Runtime,
}

impl Folder {
    pub(crate) fn open(dir: &Path) -> Folder {
        let limits = Limits { max_size: None, min_free: MinFree::Bytes(0) };
        Folder::open_with(dir, limits, |files, _| Catalog::Files(files.clone()))
    }

    /// The same with another catalogue: over the one in files, or beside it on the same disk.
    pub(in crate::storage) fn open_with(
        dir: &Path,
        limits: Limits,
        catalog: impl FnOnce(&FileCatalog, Arc<Disk>) -> Catalog,
    ) -> Folder {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let pool = BlockingPool::new(runtime.handle().clone(), 8);
        let mut files = Files::open(dir, limits).unwrap();
        files.catalog = catalog(files.catalog.in_files(), Arc::clone(&files.disk));
        Folder { storage: Storage::of(files, pool), runtime }
    }
}

impl Deref for Folder {
    type Target = Files;

    fn deref(&self) -> &Files {
        self.storage.files()
    }
}
