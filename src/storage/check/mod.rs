//! The check of a data folder that no process has open: it reads and hashes every blob again, reads
//! every record, and looks for what hosted repositories need.
//!
//! Promises: without a repair nothing in the folder changes, except the holder in its `LOCK`. A
//! repair moves corrupt blobs into the quarantine, writes damaged links anew if their content is
//! here, and damaged pins, removes other damaged records, fills the index from the files, and gives
//! back disk space that files hold beyond their content. It reports what it cannot mend. A check
//! may be broken off at any moment. Called by the app, for `lanyard check`.

mod content;
mod pins;
mod records;
mod report;
mod reserved;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

pub use report::{CheckReport, Corrupt, Damaged, Mended, Missing, Needed, Reserved};

use super::{
    Limits, OpenError, StorageError,
    blobs::BlobStore,
    catalog::FileCatalog,
    disk::{Disk, WriteGate},
    files::{Files, take_clean_mark},
    index::Index,
    layout::Layout,
    lock::Lock,
    names,
};
use crate::{
    config::MinFree,
    oci::{Digest, Repository},
};

/// What to check, and what to do about it.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// Whether to mend what can be mended.
    pub repair: bool,
    /// Whether hosted manifests may name what is not here (`hosted.sparse`).
    pub sparse: bool,
    /// How many blobs are read at a time; as many as there are cores is good.
    pub threads: usize,
}

/// Why a folder cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is nothing to check.
    #[error("{} holds no data of lanyard: give the data_dir of the server", .0.display())]
    NoData(PathBuf),
    /// It cannot be opened; a process may have it open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The disk failed otherwise than by damaging what is on it.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What the threads share.
struct Checker<'a> {
    disk: Arc<Disk>,
    blobs: BlobStore,
    options: CheckOptions,
    /// Called with the size of every blob that was read.
    progress: &'a (dyn Fn(u64) + Sync),
    corrupt: HashSet<Digest>,
    repositories: Vec<Repository>,
}

/// Checks the folder `dir`. `progress` is called with the size in bytes of every blob that was
/// read, by any thread.
pub fn check(dir: &Path, options: CheckOptions, progress: &(dyn Fn(u64) + Sync)) -> Result<CheckReport, CheckError> {
    let layout = Layout::new(dir);
    if !layout.exists() {
        return Err(CheckError::NoData(dir.to_owned()));
    }
    let lock = match Lock::take(&layout) {
        Err(OpenError::ReadOnly(_)) if !options.repair => Lock::take_read_only(&layout)?,
        lock => Some(lock?),
    };
    layout.check_format()?;
    let gate = if options.repair { WriteGate::Open } else { WriteGate::ReadOnly };
    if let Some(lock) = lock.as_ref().filter(|_| options.repair) {
        layout.create()?;
        // From here on the index is not believed, wherever this ends.
        take_clean_mark(&layout, lock)?;
    }
    let lock = lock.map(Arc::new);
    let disk = Arc::new(Disk::new(layout.clone(), LIMITS, lock.clone(), gate, None, Index::none()));
    let mut report = look(disk, options, progress)?;
    if options.repair {
        report.index_filled = Files::build(layout, LIMITS, lock, WriteGate::Open, None).fill_index();
    }
    Ok(report)
}

/// No limits: a check writes nothing but small records.
const LIMITS: Limits = Limits { max_size: None, min_free: MinFree::Bytes(0) };

fn look(disk: Arc<Disk>, options: CheckOptions, progress: &(dyn Fn(u64) + Sync)) -> Result<CheckReport, StorageError> {
    let blobs = BlobStore::new(Arc::clone(&disk));
    let catalog = FileCatalog::new(Arc::clone(&disk));
    let mut checker = Checker { disk, blobs, options, progress, corrupt: HashSet::new(), repositories: Vec::new() };
    let mut report = share(options.threads, checker.blobs.all(), |digest, report| checker.blob(digest, report))?;
    checker.corrupt = report.corrupt.iter().map(|corrupt| corrupt.digest).collect();
    let repositories = checker.repositories(&catalog, &mut report)?;
    checker.repositories.clone_from(&repositories);
    let repositories = repositories.into_iter().map(Ok);
    report.absorb(share(options.threads, repositories, |repository, report| checker.repository(&repository, report))?);
    checker.pins(&mut report)?;
    checker.unfinished(&mut report)?;
    Ok(report)
}

impl Checker<'_> {
    /// Every repository there is. Other folders beside them are strays.
    fn repositories(&self, catalog: &FileCatalog, report: &mut CheckReport) -> Result<Vec<Repository>, StorageError> {
        let repositories = catalog.everywhere()?;
        let known: HashSet<_> = repositories.iter().map(names::whole_repository).collect();
        let repos = self.disk.layout.repos();
        for namespace in entries(&repos)? {
            let parsed = namespace.file_name().and_then(|name| name.to_str()).and_then(names::parse_namespace);
            if parsed.is_none() || !namespace.is_dir() {
                report.strays.push(namespace);
                continue;
            }
            let strays = entries(&namespace)?.into_iter().filter(|path| {
                let whole = path.strip_prefix(&repos).ok().and_then(Path::to_str);
                whole.is_none_or(|whole| !known.contains(whole))
            });
            report.strays.extend(strays);
        }
        Ok(repositories)
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let paths = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    paths.map_err(StorageError::io("listing", folder))
}

/// Works on the items with some threads, each with a report of its own, and adds the reports up.
/// The first error ends it.
fn share<T: Send>(
    threads: usize,
    items: impl Iterator<Item = Result<T, StorageError>> + Send,
    work: impl Fn(T, &mut CheckReport) -> Result<(), StorageError> + Sync,
) -> Result<CheckReport, StorageError> {
    let (items, failed) = (Mutex::new(items.fuse()), Mutex::new(None));
    let total = Mutex::new(CheckReport::default());
    let run = || {
        let mut report = CheckReport::default();
        loop {
            if failed.lock().is_some() {
                break;
            }
            let next = items.lock().next();
            let Some(item) = next else { break };
            if let Err(error) = item.and_then(|item| work(item, &mut report)) {
                *failed.lock() = Some(error);
            }
        }
        total.lock().absorb(report);
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
    match failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(total.into_inner()),
    }
}
