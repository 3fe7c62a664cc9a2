//! The rule of every catalogue for new links. It holds their digests first and looks for their
//! content second, so that no removal comes between. A link of a pushed digest needs the content.
//! Callers: `put_links` of each catalogue.

use std::{fs, io};

use super::records::{LinkRecord, LinkRight};
use crate::{
    oci::Digest,
    storage::{Hold, StorageError, disk::Disk},
};

/// Holds the digests of these records, except those that a manifest only names: their content may
/// be absent, and the link protects it as well. Refuses with [`StorageError::Gone`] if the content
/// of a pushed digest is not here any more; that digest gets no lease.
pub(super) fn hold_linked(disk: &Disk, records: &[LinkRecord]) -> Result<Hold, StorageError> {
    let (digests, pushed) = (records.iter().map(|record| record.digest), |r: &LinkRecord| r.right == LinkRight::Pushed);
    let mut hold =
        if records.iter().any(pushed) { disk.leases.hold(digests) } else { disk.leases.hold_cached(digests) };
    let named = records.iter().filter(|record| matches!(record.right, LinkRight::Named(_)));
    hold.forget(named.map(|record| &record.digest));
    for LinkRecord { digest, .. } in records.iter().filter(|record| pushed(record)) {
        if let Err(error) = check_content(disk, digest) {
            if let StorageError::Gone(digest) = &error {
                hold.forget([digest]);
            }
            return Err(error);
        }
    }
    Ok(hold)
}

fn check_content(disk: &Disk, digest: &Digest) -> Result<(), StorageError> {
    let path = disk.layout.blob(digest);
    match fs::symlink_metadata(&path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StorageError::Gone(*digest)),
        Err(error) => Err(StorageError::io("looking at", &path)(error)),
    }
}
