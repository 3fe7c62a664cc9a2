//! The tasks that run from the start of lanyard to its stop without a client: the collector, the
//! scrub, the evictor, the forgetting of names, the account of savings, the care of free memory,
//! and the warming of tags. `app` ends them after the fills.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::{Handle, Runtime},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::allocator;
use crate::{
    admin::Savings,
    pull::PullThrough,
    retention::{self, Collector, Evictor, Forgetter, Scrub},
    runtime::BlockingPool,
};

/// The tasks, and the token that ends them.
pub(super) struct BackgroundTasks {
    tasks: Vec<(&'static str, JoinHandle<()>)>,
    stop: CancellationToken,
}

impl BackgroundTasks {
    /// Starts all. `evictor`, `forgetter`: none where lanyard is offline, since nothing could come
    /// again.
    pub(super) fn start(
        collector: &Arc<Collector>,
        scrub: &Arc<Scrub>,
        evictor: Option<Arc<Evictor>>,
        forgetter: Option<Arc<Forgetter>>,
        savings: &Arc<Savings>,
        pull: &Arc<PullThrough>,
        background: &Handle,
    ) -> BackgroundTasks {
        let stop = CancellationToken::new();
        let collector = background.spawn(Arc::clone(collector).run(retention::EVERY, stop.clone()));
        let scrub = background.spawn(Arc::clone(scrub).run(stop.clone()));
        let savings = background.spawn(Arc::clone(savings).run(stop.clone()));
        let allocator = background.spawn(allocator::tend(BlockingPool::new(background.clone(), 1), stop.clone()));
        let mut tasks = vec![
            ("the collection of unneeded content", collector),
            ("the scrub", scrub),
            ("the account of savings", savings),
            ("the care of free memory", allocator),
            ("the warming of tags", background.spawn(Arc::clone(pull).warm_tags(stop.clone()))),
        ];
        tasks.extend(evictor.map(|evictor| ("the eviction", background.spawn(evictor.run(stop.clone())))));
        let forgets = |forgetter: Arc<Forgetter>| background.spawn(forgetter.run(retention::EVERY, stop.clone()));
        tasks.extend(forgetter.map(|forgetter| ("the forgetting of names", forgets(forgetter))));
        BackgroundTasks { tasks, stop }
    }

    /// Ends each task after its current bite. One that takes longer than `patience` is left to the
    /// end of the process.
    pub(super) fn end(self, background: &Runtime, patience: Duration) {
        self.stop.cancel();
        for (name, task) in self.tasks {
            let ended = background.block_on(async { tokio::time::timeout(patience, task).await });
            if !matches!(ended, Ok(Ok(()))) {
                tracing::warn!("{name} did not end in order");
            }
        }
    }
}
