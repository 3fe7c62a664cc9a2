//! The check for files that hold much more disk space than their content.
//!
//! They are the leftovers of downloads that a crash has ended, and blobs of an earlier lanyard,
//! which reserved as much as a manifest named. A repair gives the space back. Callers:
//! `check/mod.rs` and `check/content.rs`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{CheckReport, Checker, Reserved};
use crate::{
    oci::Digest,
    storage::{StorageError, blocks, partial::PartialFolder},
};

impl Checker<'_> {
    /// Looks at the disk space of a blob.
    pub(super) fn space_of_blob(&self, digest: &Digest, report: &mut CheckReport) -> Result<(), StorageError> {
        let path = self.disk.layout.blob(digest);
        let bytes = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            metadata => blocks::excess(&metadata.map_err(StorageError::io("looking at", &path))?),
        };
        if bytes > 0 {
            if self.options.repair {
                self.blobs.give_back(digest)?;
            }
            report.reserved.push(Reserved { path, bytes, given_back: self.options.repair });
        }
        Ok(())
    }

    /// Looks at the disk space of downloads and uploads that were broken off.
    pub(super) fn unfinished(&self, report: &mut CheckReport) -> Result<(), StorageError> {
        for (above, name) in [(self.disk.layout.fills(), "part"), (self.disk.layout.uploads(), "data")] {
            for path in folders(&above).map_err(StorageError::io("listing", &above))? {
                let folder = PartialFolder { path, name, boot: None };
                let bytes = if self.options.repair { folder.give_back()? } else { folder.excess()? };
                if bytes > 0 {
                    report.reserved.push(Reserved { path: folder.file_path(), bytes, given_back: self.options.repair });
                }
            }
        }
        Ok(())
    }
}

fn folders(above: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(above) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}
