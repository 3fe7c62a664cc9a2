//! How far a fill is, and how it ended.

use std::{
    fs::File,
    sync::{Arc, OnceLock},
};

use tokio::sync::watch;

use super::{
    failure::FillFailure,
    runs::Runs,
    sources::{Sources, Standing},
};
use crate::oci::Digest;

/// The state of a fill. Moves forward only; `Complete` and `Failed` are final.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    /// Upstream has not answered yet, or nothing is sure enough to be told: bytes may be coming.
    Waiting,
    /// Bytes are coming, and readers were told how many.
    Streaming {
        /// How many bytes from the start a reader can read now. The last one only after the digest is proven.
        readable: u64,
        /// The length in bytes that readers were told. It never changes.
        total: u64,
    },
    /// Verified and committed.
    Complete {
        /// The length in bytes.
        size: u64,
    },
    /// Over. What was streamed so far is good for nothing, except after [`FillFailure::NoRoom`].
    Failed(FillFailure),
}

/// What the table, the leader and its followers share.
pub(super) struct Shared<S> {
    pub(super) digest: Digest,
    pub(super) progress: watch::Sender<Progress>,
    /// Set before the first `Streaming`. Readers use offsets of their own on it, so one descriptor serves them all.
    pub(super) file: Arc<OnceLock<Arc<File>>>,
    pub(super) sources: Sources<S>,
    /// What a byte came from is noted before the byte is advertised.
    pub(super) runs: Runs<S>,
}

impl<S: Clone + PartialEq> Shared<S> {
    pub(super) fn new(digest: Digest, source: S, standing: Standing) -> Self {
        Shared {
            digest,
            progress: watch::Sender::new(Progress::Waiting),
            file: Arc::default(),
            sources: Sources::new(source, standing),
            runs: Runs::default(),
        }
    }

    pub(super) fn size(&self) -> Option<u64> {
        match &*self.progress.borrow() {
            Progress::Streaming { total, .. } => Some(*total),
            Progress::Complete { size } => Some(*size),
            Progress::Waiting | Progress::Failed(_) => None,
        }
    }
}
