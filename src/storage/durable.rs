//! The steps of the commit protocol: write a temporary file, sync it, rename it, sync the folder.
//!
//! Measured: a file renamed without a sync is empty after a power cut, and a rename without a sync of the folder is
//! undone. So nobody in this room writes a record or a blob in any other way. A failed sync is final: the kernel may
//! have dropped the pages, and asking again would be answered "fine".

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Files are for the user and the group that runs backups, and nobody else.
pub(super) const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;

/// The folder of temporary files, on the same file system as everything that they become. Emptied at start.
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

    /// Makes `target` hold `bytes`, all or nothing. Durable once its folder is synced as well.
    pub(super) fn replace(&self, target: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.holding(bytes)?;
        fs::rename(&temporary.path, target)
    }

    /// Removes what an earlier process left.
    pub(super) fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing here any more, and that is the answer expected.
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

/// Makes sure that the folder is there, with every folder above it, durably.
pub(super) fn ensure_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        ensure_dir(parent)?;
    }
    match DirBuilder::new().mode(DIR_MODE).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_dir(parent.unwrap_or(Path::new("."))),
    }
}

/// The whole file, or `None` when there is none. Records are small: more than `max` bytes is an error.
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

/// Removes a file; that it was not there is fine. Says whether it was.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
