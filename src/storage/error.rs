//! The errors of this room: [`StorageError`] for an open data folder, [`OpenError`] for its
//! opening.
//!
//! Promises: an error of the operating system is sorted once, where it happens, into full,
//! read-only, or other; the last keeps what was being done, and with which path. A line of
//! [`OpenError`] says what the operator is to do. Callers: every file of this room makes them;
//! pull, push and the retention match on them.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::UploadId;
use crate::oci::Digest;

/// Why something could not be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The disk is full, or the user's quota is used up. Serving goes on; storing works again when
    /// there is space.
    #[error("no space left on the disk while {doing} {}", path.display())]
    NoSpace {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
    },
    /// The file system is, or has become, read-only.
    #[error("the data folder is on a read-only file system: nothing can be stored")]
    ReadOnly,
    /// [`Files::close`](super::Files::close) was called: nothing may change behind the clean mark.
    #[error("the storage is closed")]
    Closed,
    /// The bytes are not what their digest says.
    #[error("the content does not have the digest {0}")]
    WrongDigest(Digest),
    /// [`Download::commit`](super::Download::commit) without a
    /// [`Download::verify`](super::Download::verify) that said true.
    #[error("the content of {0} is not proven")]
    Unproven(Digest),
    /// The digest is being downloaded by another [`Download`](super::Download) of this process.
    #[error("{0} is already being downloaded")]
    Busy(Digest),
    /// The upload is being written by another [`Upload`](super::Upload) of this process.
    #[error("the upload {0} is being written by another request")]
    UploadBusy(UploadId),
    /// The pushed blob that a link names is not here: no repository linked it within its lease, and
    /// it was removed. Nothing was linked. The client has to push it again.
    #[error("{0} is not here any more")]
    Gone(Digest),
    /// Larger than the reader asked for.
    #[error("{digest} has {size} bytes, more than the {max} allowed here")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The most that was asked for.
        max: usize,
    },
    /// The thread that did the work panicked, or the runtime has stopped.
    #[error("the work was dropped inside lanyard")]
    Lost,
    /// Anything else that the operating system answered. A failed sync is final: it is never tried
    /// again.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

impl StorageError {
    /// Sorts an operating-system error that came while `doing` something with `path`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StorageError::NoSpace { doing, path: path.to_owned() }
            }
            io::ErrorKind::ReadOnlyFilesystem => StorageError::ReadOnly,
            _ => StorageError::Io { doing, path: path.to_owned(), source },
        }
    }
}

/// Why a data folder could not be opened: one line each, which says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data folder {} is in use by {holder}: stop that process, or give this one another data_dir",
        dir.display()
    )]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// The process that holds it, when it has said so.
        pid: Option<u32>,
        /// The same for people: `process 17, since 1700000000`.
        holder: String,
    },
    /// The path, or one above it, is a file.
    #[error("the data folder {} is not a directory: remove that file, or set data_dir to another path", .0.display())]
    NotADirectory(PathBuf),
    /// This user may not write there.
    #[error(
        "no permission to write to the data folder {}: give it to the user that lanyard runs as, or set data_dir",
        .0.display()
    )]
    Permission(PathBuf),
    /// Read-only, and nothing in it that could be served.
    #[error(
        "the data folder {} is on a read-only file system and holds no data yet: mount it writable, or set data_dir",
        .0.display()
    )]
    ReadOnly(PathBuf),
    /// Full, and nothing in it that could be served.
    #[error("the disk of the data folder {} is full: free some space, or set data_dir to another disk", .0.display())]
    NoSpace(PathBuf),
    /// Written by a later lanyard.
    #[error("the data folder {} was written by a newer lanyard (format {format}): run that version", dir.display())]
    Newer {
        /// The folder.
        dir: PathBuf,
        /// The format that its file `format` names.
        format: String,
    },
    /// Anything else.
    #[error("the data folder cannot be opened: {}: {source}", path.display())]
    Io {
        /// The file or folder it failed on.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

impl OpenError {
    /// Sorts an operating-system error that came while opening the folder `dir`, with `path` in it.
    pub(super) fn io(dir: &Path, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
        move |source| match source.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => OpenError::NotADirectory(dir.to_owned()),
            io::ErrorKind::PermissionDenied => OpenError::Permission(dir.to_owned()),
            io::ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly(dir.to_owned()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenError::NoSpace(dir.to_owned()),
            _ => OpenError::Io { path: path.to_owned(), source },
        }
    }
}
