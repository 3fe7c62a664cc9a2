//! A reader of a fill.
//!
//! A [`Follower`] waits for the length, then for bytes, and learns how the fill ended. It holds no
//! lock while it waits, and dropping it disturbs nothing (F5). Used by `blobs`, `stored` and
//! `body`.

use std::{
    fs::File,
    ops::Range,
    sync::{Arc, OnceLock},
};

use tokio::sync::watch;

use super::{
    failure::FillFailure,
    progress::{Fill, Progress},
    runs::Runs,
    sources::{FillSources, SourceState},
};

/// Reads one fill. It keeps no cursor: the body that uses it does.
#[derive(Clone)]
pub(crate) struct Follower<S> {
    file: Arc<OnceLock<Arc<File>>>,
    sources: FillSources<S>,
    runs: Runs<S>,
    progress: watch::Receiver<Progress>,
    /// The source that this reader's request named.
    source: S,
}

/// What a follower learns first.
#[derive(Clone)]
pub(crate) struct FillHead {
    /// The growing file.
    pub(crate) file: Arc<File>,
    /// Length in bytes.
    pub(crate) total: u64,
    /// How many bytes could be read at that moment.
    pub(crate) readable: u64,
}

impl<S: Clone + PartialEq> Follower<S> {
    pub(super) fn new(fill: &Arc<Fill<S>>, source: S) -> Self {
        let (file, sources, runs) = (Arc::clone(&fill.file), fill.sources.clone(), fill.runs.clone());
        Follower { file, sources, runs, progress: fill.progress.subscribe(), source }
    }

    /// What is known of this reader's source; `None` if it was not asked.
    pub(crate) fn source_state(&self) -> Option<SourceState> {
        self.sources.state(&self.source)
    }

    /// This reader's source states the length that readers were told: the fill may resume from it
    /// too, unless that length is disproven by now. Says whether it is not.
    pub(crate) fn agree(&self, length: u64) -> bool {
        self.sources.agrees(&self.source, length)
    }

    /// This reader's source did not refuse: the fill may turn to it if others are silent or break
    /// off.
    pub(crate) fn offer(&self) {
        if self.source_state().is_none() {
            self.sources.note(&self.source, SourceState::Offered);
        }
    }

    /// The source that this reader's request named.
    pub(super) fn source(&self) -> &S {
        &self.source
    }

    /// The source at which the fill failed, if it is not this reader's.
    pub(super) fn failed_at(&self) -> Option<S> {
        self.sources.failed_at().filter(|at| *at != self.source)
    }

    /// The state now.
    #[cfg(test)]
    pub(super) fn now(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Waits until the length may be told: once upstream has answered, or, if nothing vouches for
    /// the length (`length`), at the end of the fill.
    pub(crate) async fn head(&mut self) -> Result<FillHead, FillFailure> {
        self.wait(|p| match p {
            Progress::Waiting => None,
            Progress::Streaming { total, readable } => Some(Ok((*total, *readable))),
            Progress::Complete { size } => Some(Ok((*size, *size))),
            Progress::Failed(failure) => Some(Err(failure.clone())),
        })
        .await
        .and_then(|(total, readable)| {
            let file = self.file.get().cloned().ok_or(FillFailure::Abandoned)?;
            Ok(FillHead { file, total, readable })
        })
    }

    /// Waits until the byte at `offset` can be read, or the fill is complete, and says which bytes
    /// around it can be read. If readers were told too great a length, `offset` is not among them.
    /// Before the proof, only bytes of a source that the reader `trusts` can be read (`runs`).
    /// `Abandoned` if the reader's own source does not count any more (S23).
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

    /// Whether some of these bytes are hidden until the proof from a reader with this trust.
    pub(crate) fn hides(&self, bytes: Range<u64>, trusts: impl Fn(Option<&S>) -> bool) -> bool {
        let unproven = match &*self.progress.borrow() {
            Progress::Waiting => true,
            Progress::Streaming { readable, total } => readable < total,
            Progress::Complete { .. } | Progress::Failed(_) => false,
        };
        unproven && self.runs.around(bytes.start, trusts).is_none_or(|run| run.end < bytes.end)
    }

    /// How many bytes can be read, and how many readers were told that there will be.
    pub(crate) fn far(&self) -> (u64, Option<u64>) {
        match &*self.progress.borrow() {
            Progress::Waiting | Progress::Failed(_) => (0, None),
            Progress::Streaming { readable, total } => (*readable, Some(*total)),
            Progress::Complete { size } => (*size, Some(*size)),
        }
    }

    /// Waits until the content is in the store, and says how many bytes it has.
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
                // The leader is gone: its last word is final (F7).
                return ready(&self.progress.borrow()).unwrap_or(Err(FillFailure::Abandoned));
            }
        }
    }
}
