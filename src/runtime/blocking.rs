//! Blocking work on a bounded number of threads.
//!
//! A [`BlockingPool`] is a number of permits on the blocking threads of one tokio runtime. Work
//! that has begun runs to its end, also when its caller is dropped; its permit is free afterwards.
//! Used by every room that touches a disk or hashes a password.

use std::sync::Arc;

use tokio::{runtime::Handle, sync::Semaphore, task::JoinError};

/// Runs blocking closures on a runtime's blocking threads, a bounded number at a time. Cheap to
/// clone; clones share the bound.
#[derive(Clone, Debug)]
pub struct BlockingPool {
    runtime: Handle,
    permits: Arc<Semaphore>,
    count: usize,
}

impl BlockingPool {
    /// A pool on `runtime` that runs at most `threads` closures at a time.
    pub fn new(runtime: Handle, threads: usize) -> Self {
        BlockingPool { runtime, permits: Arc::new(Semaphore::new(threads)), count: threads }
    }

    /// The number of closures that can run at a time.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Another pool of `threads` threads on the same runtime, with a queue of its own. Writers get
    /// one, so that a slow sync does not keep readers waiting.
    pub fn apart(&self, threads: usize) -> Self {
        BlockingPool::new(self.runtime.clone(), threads)
    }

    /// Runs `work` to its end, also when the caller is dropped meanwhile.
    ///
    /// # Errors
    /// `work` panicked, or the runtime has stopped.
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

/// Runs `work` on a blocking thread of the current runtime and does not wait for it. For a call
/// into the system that nothing can cancel, such as a name lookup: its result goes over a channel.
pub fn detach(work: impl FnOnce() + Send + 'static) {
    drop(tokio::task::spawn_blocking(work));
}
