//! The folder of a partial file: its paths, its removal, and the disk space that it holds in vain.
//!
//! Promises: looking at a folder that is gone is no error. Nothing here needs the file to be open;
//! what changes it is for a caller that knows that no writer has the file. Callers: this folder;
//! the downloads, the uploads and the check.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    sync::Arc,
};

use crate::storage::{StorageError, blocks};

/// The folder of a partial file, which holds the file and its state.
#[derive(Clone, Debug)]
pub(in crate::storage) struct PartialFolder {
    /// The folder's path. It holds nothing else.
    pub(in crate::storage) path: PathBuf,
    /// The file's name in it.
    pub(in crate::storage) name: &'static str,
    /// The boot of the machine, if it has a name.
    pub(in crate::storage) boot: Option<Arc<str>>,
}

impl PartialFolder {
    /// The file's path.
    pub(in crate::storage) fn file_path(&self) -> PathBuf {
        self.path.join(self.name)
    }

    /// The disk space that the file holds beyond its content, in bytes.
    pub(in crate::storage) fn excess(&self) -> Result<u64, StorageError> {
        self.beyond(blocks::excess)
    }

    /// Gives that space back, except for what a file system rounds up. Returns the bytes. Call it
    /// only while no writer has the file.
    pub(in crate::storage) fn give_back(&self) -> Result<u64, StorageError> {
        let spare = self.beyond(blocks::spare)?;
        if spare > 0 {
            let cut = || {
                let file = File::options().write(true).open(self.file_path())?;
                blocks::cut(&file, file.metadata()?.len())
            };
            cut().map_err(StorageError::io("cutting", &self.file_path()))?;
        }
        Ok(spare)
    }

    fn beyond(&self, how_much: impl Fn(&fs::Metadata) -> u64) -> Result<u64, StorageError> {
        match fs::metadata(self.file_path()) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(0),
            metadata => Ok(how_much(&metadata.map_err(StorageError::io("looking at", &self.file_path()))?)),
        }
    }

    /// Removes the file, its state and the folder.
    pub(in crate::storage) fn remove(&self) -> Result<(), StorageError> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::io("removing", &self.path)(error))
            }
            _ => Ok(()),
        }
    }
}
