//! The quarantine: rotten content is moved out of the way, counted, and named in the log.
//!
//! Promises: after [`found_rotten`] the content is not given out, whether the move worked or not.
//! The log has one sentence for each find, with the digest and the repositories that link it.
//! Callers: the files of this room that read content.

use std::{
    fs::{self, File},
    sync::Arc,
};

use super::{Finder, StorageError, catalog::FileCatalog, disk::Disk, index::Entry};
use crate::oci::{Digest, Namespace, Repository};

/// How many repositories a line of the log names.
const NAMED: usize = 8;

/// Moves rotten content to the quarantine, counts it, and reports it in the log. `read`: the file
/// that was found rotten; a file that has taken its name meanwhile stays.
pub(super) fn found_rotten(disk: &Arc<Disk>, digest: &Digest, read: Option<&File>, by: Finder) {
    let failure = match quarantine(disk, digest, read) {
        Ok(true) => None,
        Ok(false) => return,
        Err(_) if !disk.rots.keep_back(digest) => return,
        Err(error) => Some(error),
    };
    let holders = FileCatalog::new(Arc::clone(disk)).holders(digest);
    tell(disk, digest, by, holders, failure.as_ref());
}

fn tell(
    disk: &Disk,
    digest: &Digest,
    by: Finder,
    holders: Result<Vec<Repository>, StorageError>,
    stays: Option<&StorageError>,
) {
    let is_hosted = |repository: &Repository| repository.namespace == Namespace::Hosted;
    // If its holders are unknown, it may be pushed content.
    let hosted = holders.as_ref().map_or(true, |holders| holders.iter().any(is_hosted));
    let upstream = holders.as_ref().is_ok_and(|holders| !holders.iter().all(is_hosted));
    let repos = match &holders {
        Ok(holders) => named(holders),
        Err(error) => format!("unknown: {error}"),
    };
    disk.rots.count(by, hosted);
    let (by, stays) = (by.as_str(), stays.map(tracing::field::display));
    match (hosted, upstream) {
        (true, false) => tracing::error!(
            %digest, repos, by, stays,
            "pushed content has rotted on disk and is not served any more: push it again"
        ),
        (true, true) => tracing::error!(
            %digest, repos, by, stays,
            "pushed content has rotted on disk and is fetched again where its upstream still has it: else push it again"
        ),
        (false, _) => tracing::warn!(
            %digest, repos, by, stays,
            "cached content has rotted on disk and is fetched again when it is asked for"
        ),
    }
}

fn named(holders: &[Repository]) -> String {
    let mut names: Vec<_> = holders.iter().take(NAMED).map(Repository::to_string).collect();
    if holders.len() > NAMED {
        names.push(format!("and {} more", holders.len() - NAMED));
    }
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Moves the blob's file into the quarantine. Says whether it was there. With `only` it is moved
/// only if it is still this file.
pub(super) fn quarantine(disk: &Disk, digest: &Digest, only: Option<&File>) -> Result<bool, StorageError> {
    // The new version makes a caller that keeps the file open look again.
    let _change = disk.versions.removal();
    let _permission = disk.writing()?;
    let from = disk.layout.blob(digest);
    let away = || {
        fs::rename(&from, disk.layout.quarantined(digest))?;
        disk.index.write(None, vec![Entry::no_blob(digest)]);
        Ok(())
    };
    let taken = disk.census.take(digest, &from, only, away);
    Ok(taken.map_err(StorageError::io("moving to the quarantine", &from))?.is_some())
}
