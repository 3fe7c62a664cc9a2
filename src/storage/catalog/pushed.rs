//! The rule of every catalogue: a link of a pushed digest needs the content.

use std::{fs, io};

use super::records::{LinkRecord, LinkRight};
use crate::storage::{StorageError, disk::Disk};

/// Refuses to link a pushed digest whose content is not here any more, with [`StorageError::Gone`].
/// The caller holds the digests, so content that is here stays.
pub(super) fn check_pushed(disk: &Disk, records: &[LinkRecord]) -> Result<(), StorageError> {
    for LinkRecord { digest, .. } in records.iter().filter(|record| record.right == LinkRight::Pushed) {
        let path = disk.layout.blob(digest);
        match fs::symlink_metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StorageError::Gone(*digest)),
            Err(error) => return Err(StorageError::io("looking at", &path)(error)),
        }
    }
    Ok(())
}
