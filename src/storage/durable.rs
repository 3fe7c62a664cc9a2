//! The steps of the commit protocol: write a temporary file, sync it, rename it, sync the folder.
//!
//! Measured: a file renamed without a sync is empty after a power cut, and a rename without a sync
//! of the folder is undone. So no file of this room writes a record or a blob in another way. A
//! failed sync is final: the kernel may have dropped the pages, and a second sync would answer
//! "fine".
//!
//! A folder is durable when the one above it was synced after it was made. Its existence proves
//! nothing: the process that made it may be about to sync, or have died, or failed. So [`Folders`]
//! syncs for each one once per process. Callers: the files of this room.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::{Mutex, MutexGuard};

/// Files can be read by the user and the group that runs backups, and by no other user.
pub(super) const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;

/// The folder of temporary files, on the same file system as the files that they become. Emptied at
/// start.
#[derive(Debug)]
pub(super) struct Temporaries {
    dir: PathBuf,
    next: AtomicU64,
}

/// A temporary file; removed when dropped, unless it was renamed away.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Temporaries {
    pub(super) fn new(dir: PathBuf) -> Self {
        Temporaries { dir, next: AtomicU64::new(0) }
    }

    /// A new temporary file that holds `bytes`, synced.
    pub(super) fn holding(&self, bytes: &[u8]) -> io::Result<Temporary> {
        let path = self.dir.join(format!("t{}", self.next.fetch_add(1, Ordering::Relaxed)));
        let file = create(&path)?;
        let mut temporary = Temporary { file, path };
        temporary.file.write_all(bytes)?;
        temporary.file.sync_data()?;
        Ok(temporary)
    }

    /// A name in the folder that nobody has, for a file that is on its way out.
    pub(super) fn way_out(&self) -> PathBuf {
        self.dir.join(format!("e{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// Makes `target` hold `bytes`, all or nothing. Durable once its folder is synced as well.
    pub(super) fn replace(&self, target: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.holding(bytes)?;
        fs::rename(&temporary.path, target)
    }

    /// Removes the files that an earlier process left.
    pub(super) fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename the file is not here any more, so "not found" is expected.
        let _ = fs::remove_file(&self.path);
    }
}

/// Creates an empty file, or empties one.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(FILE_MODE).open(path)
}

/// Makes the renames, creations and removals in `dir` survive a power cut.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes sure that the folder is there, with every folder above it. Only those that it makes itself
/// are durable then. For the data folder, and for folders whose owner syncs the one above when they
/// are to last.
pub(super) fn ensure_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    ensure_dir(above(dir))?;
    make(dir)?;
    sync_dir(above(dir))
}

/// The folder that contains `dir`.
pub(super) fn above(dir: &Path) -> &Path {
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a folder; a folder that is there already is fine.
fn make(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(DIR_MODE).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made,
    }
}

/// How many folders are remembered as durable: about a megabyte. A forgotten folder is synced once
/// more.
const REMEMBERED: usize = 4096;

/// Folders below the data folder that this process knows to be durable.
#[derive(Debug)]
pub(super) struct Folders {
    root: PathBuf,
    durable: Mutex<HashSet<PathBuf>>,
}

impl Folders {
    /// `root`: the data folder.
    pub(super) fn new(root: &Path) -> Self {
        Folders { root: root.to_owned(), durable: Mutex::default() }
    }

    /// Makes sure that the folder, which is below the data folder, is there durably, with those
    /// between. Costs a sync of each folder above the first time, and a look from then on.
    pub(super) fn ensure(&self, dir: &Path) -> io::Result<()> {
        self.ensure_by(dir, &sync_dir)
    }

    fn ensure_by(&self, dir: &Path, sync: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<()> {
        if dir == self.root || !dir.starts_with(&self.root) {
            return ensure_dir(dir);
        }
        // A folder that was removed meanwhile is made, and synced, like a new one.
        if dir.is_dir() && self.lock().contains(dir) {
            return Ok(());
        }
        self.ensure_by(above(dir), sync)?;
        make(dir)?;
        sync(above(dir))?;
        let mut durable = self.lock();
        if durable.len() >= REMEMBERED {
            durable.clear();
        }
        durable.insert(dir.to_owned());
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock()
    }
}

/// The whole file, or `None` if it does not exist. Records are small: more than `max` bytes is an
/// error.
pub(super) fn read_small(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read;
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::with_capacity(512);
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too large for a record"));
    }
    Ok(Some(bytes))
}

/// Removes a file, if it is there. Says whether it was.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[test]
    fn a_folder_is_synced_by_whoever_uses_it_first_in_a_process() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        // Made by a process that died before it synced, or by a thread that has not yet.
        fs::create_dir_all(at("repos/a/links")).unwrap();
        let (folders, synced, fails) = (Folders::new(dir.path()), RefCell::new(Vec::new()), Cell::new(false));
        let ensure = |name: &str| {
            folders.ensure_by(&at(name), &|folder| {
                synced.borrow_mut().push(folder.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned());
                if fails.get() { Err(io::ErrorKind::Other.into()) } else { sync_dir(folder) }
            })
        };
        let synced = || synced.take();
        ensure("repos/a/links").unwrap();
        assert_eq!(synced(), ["", "repos", "repos/a"]);
        ensure("repos/a/links").unwrap();
        ensure("repos").unwrap();
        assert!(synced().is_empty(), "once is enough");
        // A sync that failed leaves the folder, and the next caller does not take it for durable.
        fails.set(true);
        ensure("repos/b/links").unwrap_err();
        assert!(at("repos/b").is_dir());
        fails.set(false);
        synced();
        ensure("repos/b/links").unwrap();
        assert_eq!(synced(), ["repos", "repos/b"]);
        // A folder that was removed is new.
        fs::remove_dir_all(at("repos/b")).unwrap();
        ensure("repos/b/links").unwrap();
        assert_eq!(synced(), ["repos", "repos/b"]);
        // The memory is bounded, and a forgotten folder is synced again.
        for n in 0..=REMEMBERED {
            folders.ensure_by(&at(&format!("blobs/{n}")), &|_| Ok(())).unwrap();
        }
        assert!(folders.lock().len() < REMEMBERED / 2);
        ensure("repos/a/links").unwrap();
        assert_eq!(synced(), ["", "repos", "repos/a"]);
        fs::write(at("file"), b"").unwrap();
        assert!(folders.ensure(&at("file/x")).is_err() && folders.ensure(&at("file")).is_err());
    }
}
