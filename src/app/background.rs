//! The tasks that run from the start of lanyard to its stop without a client: the collector, the
//! scrub, and the care of free memory. `app` ends them after the fills.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::{Handle, Runtime},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::allocator;
use crate::{
    retention::{self, Collector, Scrub},
    runtime::BlockingPool,
};

/// The tasks, and the token that ends them.
pub(super) struct BackgroundTasks {
    tasks: [JoinHandle<()>; 3],
    stop: CancellationToken,
}

impl BackgroundTasks {
    /// Starts all.
    pub(super) fn start(collector: &Arc<Collector>, scrub: &Arc<Scrub>, background: &Handle) -> BackgroundTasks {
        let stop = CancellationToken::new();
        let collector = background.spawn(Arc::clone(collector).run(retention::EVERY, stop.clone()));
        let scrub = background.spawn(Arc::clone(scrub).run(stop.clone()));
        let allocator = background.spawn(allocator::tend(BlockingPool::new(background.clone(), 1), stop.clone()));
        BackgroundTasks { tasks: [collector, scrub, allocator], stop }
    }

    /// Ends each task after its current bite. One that takes longer than `patience` is left to the
    /// end of the process.
    pub(super) fn end(self, background: &Runtime, patience: Duration) {
        self.stop.cancel();
        let names = ["the collection of unneeded content", "the scrub", "the care of free memory"];
        for (task, name) in self.tasks.into_iter().zip(names) {
            let ended = background.block_on(async { tokio::time::timeout(patience, task).await });
            if !matches!(ended, Ok(Ok(()))) {
                tracing::warn!("{name} did not end in order");
            }
        }
    }
}
