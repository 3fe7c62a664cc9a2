//! The owner of tasks that go on without a client: fills, tag checks, commits of pushes.
//!
//! Every task is awaited at the stop; none is cancelled. [`Tasks::stopping`] tells a long one to
//! keep what it has and end.

use std::{future::Future, time::Duration};

use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Spawns tasks on the background runtime and waits for them at the end. Cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    runtime: Handle,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Tasks run on `runtime`.
    pub fn new(runtime: Handle) -> Self {
        Tasks { runtime, tracker: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Runs `work` to its end; no client's leaving cancels it.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(work, &self.runtime);
    }

    /// Runs `work` to its end, also when this future is dropped, and returns its result; `None` if
    /// it panicked or the runtime has stopped.
    pub(crate) async fn run_detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = tokio::sync::oneshot::channel();
        self.spawn(async move {
            let _ = tell.send(work.await);
        });
        told.await.ok()
    }

    /// Is cancelled when the stop begins.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Begins the stop and waits up to `patience` for all tasks. Says whether all have ended.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.tracker.close();
        self.stop.cancel();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}
