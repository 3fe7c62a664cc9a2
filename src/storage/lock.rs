//! One process per data folder: an flock on `LOCK`, whose holder writes its process id into the
//! file.
//!
//! Promises: while a [`Lock`] lives no other process takes the lock of the folder. The kernel
//! releases it when the process ends, in any way, so a stale lock cannot be left behind. Callers:
//! the opening of the folder, and the check.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
};

use rustix::fs::{FlockOperation, flock};

use super::{OpenError, durable, layout::Layout};
use crate::runtime::clock;

/// The length of the text, in bytes: always the same, so that writing it needs no space on a full
/// disk.
const WIDTH: usize = 64;

/// Held as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// The text that this process has written. No other process ever writes the same.
    pub(super) holder: String,
    /// The text that the process before it has written; empty for the first.
    pub(super) before: String,
}

impl Lock {
    /// Takes the lock and writes this process's id and start time into it.
    pub(super) fn take(layout: &Layout) -> Result<Lock, OpenError> {
        let path = layout.lock();
        let failed = || OpenError::io(layout.root(), &path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(durable::FILE_MODE)
            .open(&path)
            .map_err(failed())?;
        lock(&file, layout)?;
        let mut before = Vec::new();
        (&file).take(WIDTH as u64).read_to_end(&mut before).and_then(|_| file.rewind()).map_err(failed())?;
        let run: u64 = rand::random();
        let text = format!("pid {} since {} run {run:016x}", std::process::id(), clock::now());
        match file.write_all(format!("{text:<width$}\n", width = WIDTH - 1).as_bytes()) {
            // The text is only for people: a disk that is full to the last byte is no reason not to
            // serve.
            Err(error) if layout.exists() && error.kind() == io::ErrorKind::StorageFull => {}
            written => written.map_err(failed())?,
        }
        let before = String::from_utf8_lossy(&before).trim().to_owned();
        Ok(Lock { file, holder: text, before })
    }

    /// Takes the lock on a read-only file system, where nothing can be written into it. A folder
    /// without the file `LOCK` cannot be in use by a process that writes.
    pub(super) fn take_read_only(layout: &Layout) -> Result<Option<Lock>, OpenError> {
        let path = layout.lock();
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(OpenError::io(layout.root(), &path))?,
        };
        lock(&file, layout)?;
        Ok(Some(Lock { file, holder: String::new(), before: String::new() }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Unlocked explicitly and not left to the closing: a child process before its `exec` has a
        // copy of the descriptor. If this fails, closing does it a moment later.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn lock(file: &File, layout: &Layout) -> Result<(), OpenError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let text = durable::read_small(&layout.lock(), 1024).ok().flatten().unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let mut words = text.split_whitespace();
            let pid = words.nth(1).and_then(|word| word.parse().ok());
            let since = words.nth(1).and_then(|word| word.parse().ok()).map(clock::time);
            let holder = match (pid, since) {
                (Some(pid), Some(since)) => {
                    format!("process {pid}, started {}", humantime::format_rfc3339_seconds(since))
                }
                (Some(pid), None) => format!("process {pid}"),
                (None, _) => "another process".to_owned(),
            };
            Err(OpenError::Locked { dir: layout.root().to_owned(), pid, holder })
        }
        Err(error) => Err(OpenError::io(layout.root(), &layout.lock())(error.into())),
    }
}
