//! A reader of a fill.

use std::{
    fs::File,
    ops::Range,
    sync::{Arc, OnceLock},
};

use tokio::sync::watch;

use super::{
    failure::FillFailure,
    progress::{Progress, Shared},
    runs::Runs,
    sources::{Sources, Standing},
};

/// Tails one fill. `Send + Sync + Clone`; keeps no cursor: the body that uses it does.
#[derive(Clone)]
pub(crate) struct Follower<S> {
    file: Arc<OnceLock<Arc<File>>>,
    sources: Sources<S>,
    runs: Runs<S>,
    progress: watch::Receiver<Progress>,
    /// By way of which the content was asked for.
    source: S,
}

/// What a follower learns when it waits.
#[derive(Clone)]
pub(crate) struct Opened {
    /// The growing file.
    pub(crate) file: Arc<File>,
    /// Length in bytes.
    pub(crate) total: u64,
    /// How many bytes could be read when this was said.
    pub(crate) readable: u64,
}

impl<S: Clone + PartialEq> Follower<S> {
    pub(super) fn new(shared: &Arc<Shared<S>>, source: S) -> Self {
        let (file, sources, runs) = (Arc::clone(&shared.file), shared.sources.clone(), shared.runs.clone());
        Follower { file, sources, runs, progress: shared.progress.subscribe(), source }
    }

    /// What is known of the source by way of which this one asked; `None` if it was not asked.
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.sources.standing(&self.source)
    }

    /// The source states the length that this reader was told: one more to resume from, unless that
    /// length is disproven by now.
    pub(crate) fn agree(&self, length: u64) -> bool {
        self.sources.agrees(&self.source, length)
    }

    /// The source did not refuse: the fill may turn to it where others are silent or break off.
    pub(crate) fn offer(&self) {
        if self.standing().is_none() {
            self.sources.note(&self.source, Standing::Offered);
        }
    }

    /// By way of which the content was asked for.
    pub(super) fn source(&self) -> &S {
        &self.source
    }

    /// The source whose doing it is that the fill failed, if it is not this one's.
    pub(super) fn failed_at_another(&self) -> Option<S> {
        self.sources.where_it_failed().filter(|at| *at != self.source)
    }

    /// The state now.
    #[cfg(test)]
    pub(super) fn now(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Waits until upstream has answered and the length may be told. Where nothing vouches for the
    /// length (`length`), that is the end of the fill.
    pub(crate) async fn opened(&mut self) -> Result<Opened, FillFailure> {
        self.wait(|p| match p {
            Progress::Waiting => None,
            Progress::Streaming { total, readable } => Some(Ok((*total, *readable))),
            Progress::Complete { size } => Some(Ok((*size, *size))),
            Progress::Failed(failure) => Some(Err(failure.clone())),
        })
        .await
        .and_then(|(total, readable)| {
            let file = self.file.get().cloned().ok_or(FillFailure::Abandoned)?;
            Ok(Opened { file, total, readable })
        })
    }

    /// Waits until the byte at `offset` can be read, or the fill is complete, and says which bytes
    /// around it can be read. `offset` is not among them where readers were told too great a
    /// length. Before the proof, only bytes of a source that the reader `trusts` can be read
    /// (`runs`); before and after it none where the reader's own source does not count any more
    /// (S23).
    pub(crate) async fn readable_around(
        &mut self,
        offset: u64,
        trusts: impl Fn(Option<&S>) -> bool,
    ) -> Result<Range<u64>, FillFailure> {
        let (runs, sources, source) = (self.runs.clone(), self.sources.clone(), self.source.clone());
        self.wait(|p| match p {
            Progress::Streaming { .. } | Progress::Complete { .. } if !sources.carries(&source) => {
                Some(Err(FillFailure::Abandoned))
            }
            Progress::Streaming { readable, total } if *readable > offset && readable == total => Some(Ok(0..*total)),
            Progress::Streaming { readable, .. } if *readable > offset => {
                runs.around(offset, &trusts).map(|run| Ok(run.start..run.end.min(*readable)))
            }
            Progress::Waiting | Progress::Streaming { .. } => None,
            Progress::Complete { size } => Some(Ok(0..*size)),
            Progress::Failed(failure) => Some(Err(failure.clone())),
        })
        .await
    }

    /// Whether some of these bytes are hidden until the proof from a reader who trusts so.
    pub(crate) fn hides(&self, bytes: Range<u64>, trusts: impl Fn(Option<&S>) -> bool) -> bool {
        let unproven = match &*self.progress.borrow() {
            Progress::Waiting => true,
            Progress::Streaming { readable, total } => readable < total,
            Progress::Complete { .. } | Progress::Failed(_) => false,
        };
        unproven && self.runs.around(bytes.start, trusts).is_none_or(|run| run.end < bytes.end)
    }

    /// Waits until it is in the store, and says how many bytes it has.
    pub(crate) async fn committed(&mut self) -> Result<u64, FillFailure> {
        self.wait(|p| match p {
            Progress::Waiting | Progress::Streaming { .. } => None,
            Progress::Complete { size } => Some(Ok(*size)),
            Progress::Failed(failure) => Some(Err(failure.clone())),
        })
        .await
    }

    async fn wait<T>(
        &mut self,
        mut ready: impl FnMut(&Progress) -> Option<Result<T, FillFailure>>,
    ) -> Result<T, FillFailure> {
        loop {
            if let Some(answer) = ready(&self.progress.borrow_and_update()) {
                return answer;
            }
            if self.progress.changed().await.is_err() {
                // The leader is gone; what it said last is final (F7).
                return ready(&self.progress.borrow()).unwrap_or(Err(FillFailure::Abandoned));
            }
        }
    }
}
