//! The permit to download one digest.

use std::{fs::File, sync::Arc};

use super::{
    failure::FillFailure,
    progress::{Progress, Shared},
    sources::Standing,
    table::Table,
};
use crate::{oci::Digest, upstream::UpstreamError};

/// The one writer of a fill's [`Progress`]. Dropped without `complete` or `fail`, it has failed (F7).
pub(crate) struct Leader<S> {
    table: Table<S>,
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

    /// The bytes from `first` on come from `source`; `None`: from an earlier fill. Before they are
    /// advertised.
    pub(crate) fn comes_from(&self, first: u64, source: Option<&S>) {
        self.shared.runs.begin(first, source);
    }

    /// What the source said is no word any more.
    pub(crate) fn doubts(&self, source: &S) {
        self.shared.sources.note(source, Standing::Asked);
    }

    /// The digest is proven, with this length: before anything is made of it. `in_vain`: readers
    /// were told another.
    pub(crate) fn proves(&self, length: u64, in_vain: bool) {
        self.shared.sources.proven(length, in_vain);
    }

    /// What ends the fill was said or done by this source.
    pub(crate) fn fails_at(&self, source: S) {
        self.shared.sources.failed_at(source);
    }

    /// The source answered that it has no such content, or does not give it out.
    pub(crate) fn refused(&self, source: &S, error: Arc<UpstreamError>) {
        self.shared.sources.note(source, Standing::Refused(error));
    }
}

impl<S> Leader<S> {
    pub(super) fn new(table: Table<S>, shared: Arc<Shared<S>>) -> Self {
        Leader { table, shared, settled: false }
    }

    /// What is being downloaded.
    pub(crate) fn digest(&self) -> Digest {
        self.shared.digest
    }

    /// Readers may open `file`, and are told the length. What they are told first stays.
    pub(crate) fn tell(&self, file: Arc<File>, total: u64) {
        let _ = self.shared.file.set(file);
        self.shared.progress.send_if_modified(|p| match p {
            Progress::Waiting => {
                *p = Progress::Streaming { readable: 0, total };
                true
            }
            Progress::Streaming { .. } | Progress::Complete { .. } | Progress::Failed(_) => false,
        });
    }

    /// `here` bytes are in the file. They may be read (F1), but never the last one (F2). Never goes
    /// back.
    pub(crate) fn advance(&self, here: u64) {
        self.show(|total| here.min(total.saturating_sub(1)));
    }

    /// The digest is proven, and all bytes may be read.
    pub(crate) fn proven(&self, file: Arc<File>, size: u64) {
        self.tell(file, size);
        self.show(|total| if total == size { size } else { 0 });
    }

    fn show(&self, of: impl FnOnce(u64) -> u64) {
        self.shared.progress.send_if_modified(|p| match p {
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
        self.table.remove(&self.shared.digest);
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
