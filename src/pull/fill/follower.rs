//! A reader of a fill.

use std::{
    fs::File,
    sync::{Arc, OnceLock},
};

use tokio::sync::watch;

use super::{
    progress::{FillFailure, Progress, Shared},
    sources::{Sources, Standing},
};

/// Tails one fill. `Send + Sync + Clone`; keeps no cursor: the body that uses it does.
#[derive(Clone)]
pub(crate) struct Follower<S> {
    file: Arc<OnceLock<Arc<File>>>,
    sources: Sources<S>,
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
        let (file, sources) = (Arc::clone(&shared.file), shared.sources.clone());
        Follower { file, sources, progress: shared.progress.subscribe(), source }
    }

    /// What is known of the source by way of which this one asked; `None` if it was not asked.
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.sources.standing(&self.source)
    }

    /// The source said that it has the content: one more to resume from.
    pub(crate) fn vouch(&self) {
        self.sources.note(&self.source, Standing::Has);
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

    /// Waits until the byte at `offset` can be read, or the fill is complete, and says how many
    /// bytes from the start can be read. They are fewer than `offset` where readers were told too
    /// great a length.
    pub(crate) async fn readable_past(&mut self, offset: u64) -> Result<u64, FillFailure> {
        self.wait(|p| match p {
            Progress::Streaming { readable, .. } if *readable > offset => Some(Ok(*readable)),
            Progress::Waiting | Progress::Streaming { .. } => None,
            Progress::Complete { size } => Some(Ok(*size)),
            Progress::Failed(failure) => Some(Err(failure.clone())),
        })
        .await
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
