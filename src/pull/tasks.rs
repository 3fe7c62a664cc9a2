//! The owner of what goes on without a client: fills, tag checks, list refreshes.

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

    /// Runs `work` to its end, whoever leaves.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(work, &self.runtime);
    }

    /// Runs `work` to its end, and brings back what came of it to a caller who may leave; `None` if
    /// it panicked or the runtime is gone.
    pub(super) async fn apart<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (tell, told) = tokio::sync::oneshot::channel();
        self.spawn(async move {
            let _ = tell.send(work.await);
        });
        told.await.ok()
    }

    /// Says when it is time to keep what there is and end.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Tells every task to end, and waits for them up to `patience`. Whether all did.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.tracker.close();
        self.stop.cancel();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}
