//! The part of `lanyard check` that reads each stored blob and hashes it again.
//!
//! | the blob | then |
//! |---|---|
//! | has the digest of its name | it is counted |
//! | has another digest, or the disk answers EIO | reported; a repair moves it to `quarantine/` |
//! | has been removed meanwhile | it is left out |
//! | cannot be read for another reason | the check ends: the error says nothing about the blob |
//!
//! Callers: `check/mod.rs`, once for each blob, on several threads at a time.

use std::io;

use rustix::io::Errno;

use super::{CheckReport, Checker, Corrupt};
use crate::{
    oci::{Digest, Hasher},
    storage::{StorageError, access_time::open_unnoticed, partial::hash_from},
};

impl Checker<'_> {
    /// Verifies one blob. What is wrong goes to the quarantine, if this is a repair.
    pub(super) fn blob(&self, digest: Digest, report: &mut CheckReport) -> Result<(), StorageError> {
        let path = self.disk.layout.blob(&digest);
        let verified = open_unnoticed(&path, 0).and_then(|file| {
            let mut hasher = Hasher::new(digest.algorithm());
            let size = hash_from(&mut hasher, &file, 0)?;
            Ok((hasher.finish(), size))
        });
        let why = match verified {
            Ok((found, size)) => {
                report.bytes += size;
                (self.progress)(size);
                (found != digest).then(|| format!("its content has the digest {found}"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // The disk has lost it. Any other error says nothing about the blob.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => {
                Some(format!("it cannot be read: {error}"))
            }
            Err(error) => return Err(StorageError::io("reading", &path)(error)),
        };
        report.blobs += 1;
        self.space_of_blob(&digest, report)?;
        if let Some(why) = why {
            if self.options.repair {
                self.blobs.quarantine(&digest)?;
            }
            report.corrupt.push(Corrupt { digest, why, quarantined: self.options.repair });
        }
        Ok(())
    }
}
