//! Blocking work on a bounded number of threads that are nobody's workers.

use std::sync::Arc;

use tokio::{runtime::Handle, sync::Semaphore, task::JoinError};

/// Runs blocking closures on a runtime's blocking threads, a bounded number at a time. Cheap to clone.
#[derive(Clone)]
pub struct DiskThreads {
    runtime: Handle,
    permits: Arc<Semaphore>,
    count: usize,
}

impl DiskThreads {
    /// At most `threads` closures run at a time.
    pub fn new(runtime: Handle, threads: usize) -> Self {
        DiskThreads { runtime, permits: Arc::new(Semaphore::new(threads)), count: threads }
    }

    /// How many closures run at a time.
    pub fn count(&self) -> usize {
        self.count
    }

    /// So many threads more, with a queue of their own: for syncs, which take as long as the disk likes and must not keep
    /// readers waiting.
    pub fn apart(&self, threads: usize) -> Self {
        DiskThreads::new(self.runtime.clone(), threads)
    }

    /// Runs `work` to its end, also when the caller goes away meanwhile. An error means that it panicked, or that the
    /// runtime is gone.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        self.runtime
            .spawn_blocking(move || {
                let result = work();
                drop(permit);
                result
            })
            .await
    }
}
