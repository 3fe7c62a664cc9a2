//! The permit to download one digest.

use std::{fs::File, sync::Arc};

use super::{
    Fills,
    progress::{FillFailure, Progress, Shared},
    sources::Standing,
};
use crate::{oci::Digest, upstream::UpstreamError};

/// The one writer of a fill's [`Progress`]. Dropped without `complete` or `fail`, it has failed (F7).
pub(crate) struct Leader<S> {
    fills: Fills<S>,
    shared: Arc<Shared<S>>,
    settled: bool,
}

impl<S: Clone + PartialEq> Leader<S> {
    /// Where the content can be had: the first claim's source, then those of claims that joined; none that has refused.
    pub(crate) fn sources(&self) -> Vec<S> {
        self.shared.sources.worth_asking()
    }

    /// Those of them that are known to have it.
    pub(crate) fn sure_sources(&self) -> Vec<S> {
        self.shared.sources.sure()
    }

    /// The source answered with the content.
    pub(crate) fn has(&self, source: &S) {
        self.shared.sources.note(source, Standing::Has);
    }

    /// The source answered that it has no such content, or does not give it out.
    pub(crate) fn refused(&self, source: &S, error: Arc<UpstreamError>) {
        self.shared.sources.note(source, Standing::Refused(error));
    }
}

impl<S> Leader<S> {
    pub(super) fn new(fills: Fills<S>, shared: Arc<Shared<S>>) -> Self {
        Leader { fills, shared, settled: false }
    }

    /// What is being downloaded.
    pub(crate) fn digest(&self) -> Digest {
        self.shared.digest
    }

    /// Whether readers have been told anything yet.
    pub(crate) fn is_begun(&self) -> bool {
        self.shared.file.get().is_some()
    }

    /// Upstream answered: readers may open `file`.
    pub(crate) fn begin(&self, file: Arc<File>, total: Option<u64>) {
        let _ = self.shared.file.set(file);
        self.shared.progress.send_if_modified(|p| match p {
            Progress::Waiting => {
                *p = Progress::Streaming { readable: 0, total };
                true
            }
            Progress::Streaming { .. } | Progress::Complete { .. } | Progress::Failed(_) => false,
        });
    }

    /// The length has become known.
    pub(crate) fn set_total(&self, size: u64) {
        self.shared.progress.send_if_modified(|p| match p {
            Progress::Streaming { total: total @ None, .. } => {
                *total = Some(size);
                true
            }
            Progress::Streaming { .. } | Progress::Waiting | Progress::Complete { .. } | Progress::Failed(_) => false,
        });
    }

    /// `to` bytes are in the file and may be read (F1). Never goes back.
    pub(crate) fn advance(&self, to: u64) {
        self.shared.progress.send_if_modified(|p| match p {
            Progress::Streaming { readable, .. } if *readable < to => {
                *readable = to;
                true
            }
            Progress::Streaming { .. } | Progress::Waiting | Progress::Complete { .. } | Progress::Failed(_) => false,
        });
    }

    /// The content is verified and committed, `size` bytes long.
    pub(crate) fn complete(mut self, size: u64) {
        self.settle(Progress::Complete { size });
    }

    /// It will not be had.
    pub(crate) fn fail(mut self, failure: FillFailure) {
        self.settle(Progress::Failed(failure));
    }

    /// There was nothing to do: the content was committed by the fill before. Those who joined meanwhile are told so.
    pub(super) fn withdraw(mut self) {
        self.settle(Progress::Failed(FillFailure::Abandoned));
    }

    fn settle(&mut self, end: Progress) {
        self.settled = true;
        // Out of the table first: whoever hears of the end and claims again must not meet this fill once more. The content
        // is in the store by now (F3).
        self.fills.remove(&self.shared.digest);
        self.shared.progress.send_replace(end);
    }
}

impl<S> Drop for Leader<S> {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(Progress::Failed(FillFailure::Abandoned));
        }
    }
}
