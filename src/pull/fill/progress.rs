//! How far a fill is, and how it ended: the state that the table, the leader and the followers of
//! one fill share.
//!
//! Only the leader changes [`Progress`]. It moves forward only: `Waiting → Streaming → Complete |
//! Failed`. Claims and followers note the state of their own source (`sources.rs`).

use std::{
    fs::File,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{
    failure::FillFailure,
    meter::Meter,
    runs::Runs,
    sources::{FillSources, SourceState},
};
use crate::oci::Digest;

/// The state of a fill. Moves forward only; `Complete` and `Failed` are final.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    /// Upstream has not answered yet, or no length is sure enough to be told: bytes may be coming.
    Waiting,
    /// Bytes are coming, and readers were told how many.
    Streaming {
        /// How many bytes from the start a reader can read now. The last one only after the digest
        /// is proven.
        readable: u64,
        /// The length in bytes that readers were told. It never changes.
        total: u64,
    },
    /// Verified and committed.
    Complete {
        /// The length in bytes.
        size: u64,
    },
    /// Over. The streamed bytes are useless, except after [`FillFailure::NoRoom`].
    Failed(FillFailure),
}

/// One fill under way.
pub(super) struct Fill<S> {
    pub(super) digest: Digest,
    pub(super) progress: watch::Sender<Progress>,
    /// Set before the first `Streaming`. All readers read by position, so one descriptor serves
    /// them.
    pub(super) file: Arc<OnceLock<Arc<File>>>,
    pub(super) sources: FillSources<S>,
    /// The source of a byte is noted before the byte is advertised.
    pub(super) runs: Runs<S>,
    /// How many bytes are in the file, and how fast they come.
    pub(super) meter: Mutex<Meter>,
}

impl<S: Clone + PartialEq> Fill<S> {
    pub(super) fn new(digest: Digest, source: S, state: SourceState) -> Self {
        Fill {
            digest,
            progress: watch::Sender::new(Progress::Waiting),
            file: Arc::default(),
            sources: FillSources::new(source, state),
            runs: Runs::default(),
            meter: Mutex::new(Meter::new(0, Instant::now())),
        }
    }

    /// The length in bytes that readers were told.
    pub(super) fn size(&self) -> Option<u64> {
        match &*self.progress.borrow() {
            Progress::Streaming { total, .. } => Some(*total),
            Progress::Complete { size } => Some(*size),
            Progress::Waiting | Progress::Failed(_) => None,
        }
    }
}
