//! The position of the scrub, in a record beside the blobs, so that a restart goes on there.
//!
//! Promises: [`Files::note_scrubbing`] is durable when it returns. A damaged record is reported in
//! the log and reads as absent: the scrub then begins anew. Callers: the verbs `scrubbing` and
//! `note_scrubbing`, for the retention's scrub.

use serde::{Deserialize, Serialize};

use super::{Files, StorageError, durable, record};
use crate::oci::Digest;

/// Where the scrub is.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Scrubbing {
    /// The pass under way, or the last that was begun.
    pub pass: Scrubbed,
    /// Every blob up to this one, in the order of digests, is done. `None`: the pass has not come
    /// to the end of one yet.
    pub last: Option<Digest>,
    /// The last pass that came to its end.
    pub finished: Option<Scrubbed>,
}

/// What a pass of the scrub has done.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Scrubbed {
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// When it came to its end; `None`: it is under way.
    pub ended: Option<u64>,
    /// How many blobs it has read again, manifests included.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of them were rotten.
    pub rotten: u64,
}

impl Files {
    /// Where the scrub was when [`note_scrubbing`](Self::note_scrubbing) was last called; `None`:
    /// it never was.
    pub(crate) fn scrubbing(&self) -> Result<Option<Scrubbing>, StorageError> {
        record::read(&self.disk.layout.scrub())
    }

    /// Writes down where the scrub is.
    pub(crate) fn note_scrubbing(&self, scrubbing: &Scrubbing) -> Result<(), StorageError> {
        let _permission = self.disk.writing()?;
        let path = self.disk.layout.scrub();
        let text = record::encode(scrubbing).map_err(std::io::Error::other);
        text.and_then(|text| self.disk.temporaries.replace(&path, &text))
            .and_then(|()| durable::sync_dir(self.disk.layout.root()))
            .map_err(StorageError::io("writing", &path))
    }
}
