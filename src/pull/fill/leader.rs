//! The permit to download one digest, and the only writer of its fill's [`Progress`].
//!
//! `claim` makes one for each fill, and `drive` settles it: [`Leader::complete`] or
//! [`Leader::fail`]. Dropped before that, it has failed (F7).

use std::{fs::File, sync::Arc};

use tokio::time::Instant;

use super::{
    failure::FillFailure,
    meter::Meter,
    progress::{Fill, Progress},
    sources::SourceState,
    table::Table,
};
use crate::{oci::Digest, upstream::UpstreamError};

/// See the module. Not `Clone`: there is one for each digest (F4).
pub(crate) struct Leader<S> {
    table: Table<S>,
    fill: Arc<Fill<S>>,
    settled: bool,
}

impl<S: Clone + PartialEq> Leader<S> {
    /// Where the content can be had: the first claim's source, then those of claims that joined. A
    /// source that refused is not among them.
    pub(crate) fn sources(&self) -> Vec<S> {
        self.fill.sources.worth_asking()
    }

    /// Those of them that are known to have the content.
    pub(crate) fn sure_sources(&self) -> Vec<S> {
        self.fill.sources.sure()
    }

    /// The source answered with the content.
    pub(crate) fn has(&self, source: &S) {
        self.fill.sources.note(source, SourceState::Has);
    }

    /// An earlier fill left `here` bytes.
    pub(crate) fn resumes_at(&self, here: u64) {
        self.fill.runs.begin(0, None);
        *self.fill.meter.lock() = Meter::new(here, Instant::now());
    }

    /// The bytes from `first` on come from `source`. To be called before they are advertised.
    pub(crate) fn comes_from(&self, first: u64, source: &S) {
        self.fill.runs.begin(first, Some(source));
    }

    /// The source's answer does not count any more.
    pub(crate) fn doubts(&self, source: &S) {
        self.fill.sources.note(source, SourceState::Asked);
    }

    /// The digest is proven, with this length. To be called before any source counts for it.
    /// `in_vain`: readers were told another length.
    pub(crate) fn proves(&self, length: u64, in_vain: bool) {
        self.fill.sources.set_proven(length, in_vain);
    }

    /// The fill fails by what this source said or did.
    pub(crate) fn set_failed_at(&self, source: S) {
        self.fill.sources.set_failed_at(source);
    }

    /// The source answered that it does not have the content, or does not give it out.
    pub(crate) fn refused(&self, source: &S, error: Arc<UpstreamError>) {
        self.fill.sources.note(source, SourceState::Refused(error));
    }
}

impl<S> Leader<S> {
    pub(super) fn new(table: Table<S>, fill: Arc<Fill<S>>) -> Self {
        Leader { table, fill, settled: false }
    }

    /// What is being downloaded.
    pub(crate) fn digest(&self) -> Digest {
        self.fill.digest
    }

    /// Tells readers the length, and that they may read `file`. The first length stays.
    pub(crate) fn tell(&self, file: Arc<File>, total: u64) {
        let _ = self.fill.file.set(file);
        self.fill.progress.send_if_modified(|p| match p {
            Progress::Waiting => {
                *p = Progress::Streaming { readable: 0, total };
                true
            }
            Progress::Streaming { .. } | Progress::Complete { .. } | Progress::Failed(_) => false,
        });
    }

    /// `here` bytes are in the file. Readers may read them (F1), but not the last one (F2). What
    /// they may read never shrinks.
    pub(crate) fn advance(&self, here: u64) {
        self.fill.meter.lock().note(here, Instant::now());
        self.show(|total| here.min(total.saturating_sub(1)));
    }

    /// The digest is proven: readers may read all bytes.
    pub(crate) fn proven(&self, file: Arc<File>, size: u64) {
        self.tell(file, size);
        self.show(|total| if total == size { size } else { 0 });
    }

    fn show(&self, of: impl FnOnce(u64) -> u64) {
        self.fill.progress.send_if_modified(|p| match p {
            Progress::Streaming { readable, total } => {
                let to = of(*total);
                let forward = *readable < to;
                *readable = (*readable).max(to);
                forward
            }
            Progress::Waiting | Progress::Complete { .. } | Progress::Failed(_) => false,
        });
    }

    /// The content is verified and committed, `size` bytes long.
    pub(crate) fn complete(mut self, size: u64) {
        self.settle(Progress::Complete { size });
    }

    /// The fill ends without the content.
    pub(crate) fn fail(mut self, failure: FillFailure) {
        self.settle(Progress::Failed(failure));
    }

    /// There is nothing to do: the fill before this one committed the content. Claims that joined
    /// meanwhile fail with `Abandoned`, and look again.
    pub(super) fn withdraw(mut self) {
        self.settle(Progress::Failed(FillFailure::Abandoned));
    }

    fn settle(&mut self, end: Progress) {
        self.settled = true;
        // Out of the table first: a follower that sees the end and claims again must not join this
        // fill once more. The content is in the store by now (F3).
        self.table.remove(&self.fill.digest);
        self.fill.progress.send_replace(end);
    }
}

impl<S> Drop for Leader<S> {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(Progress::Failed(FillFailure::Abandoned));
        }
    }
}
