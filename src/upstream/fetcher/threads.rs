//! The fetcher threads. Each runs its jobs on a runtime of its own.
//!
//! A stop has this order: no new jobs are taken; waiting jobs are answered `Stopped`; running jobs
//! have until the deadline; the rest is dropped, which closes its connections and ends its bodies
//! with `Stopped`; the thread ends.

use std::{
    io,
    rc::Rc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
    task::{JoinSet, LocalSet},
    time::timeout_at,
};

use super::{
    client::AwcClients,
    exchange::perform,
    job::{Job, JobQueues},
};

/// The most name lookups at a time on one thread. They block, and a dead name server blocks them
/// for long.
const LOOKUPS: usize = 8;
/// A day. More could overflow the clock.
const LONGEST_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// The running threads, and the deadline that stops them.
pub(super) struct Threads {
    running: Vec<JoinHandle<()>>,
    deadline: watch::Sender<Option<Instant>>,
}

/// Starts `count` threads, at least one. `reuse` is [`Timeouts::reuse`](super::Timeouts::reuse).
pub(super) fn start(count: usize, reuse: Duration) -> io::Result<(Threads, JobQueues)> {
    let (queues, jobs) = JobQueues::new(count.max(1));
    let mut threads = Threads { running: Vec::with_capacity(count), deadline: watch::Sender::new(None) };
    for (number, jobs) in jobs.into_iter().enumerate() {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(LOOKUPS).build()?;
        let stop = threads.deadline.subscribe();
        let thread = thread::Builder::new().name(format!("fetcher-{number}"));
        threads.running.push(thread.spawn(move || run(runtime, jobs, stop, reuse))?);
    }
    Ok((threads, queues))
}

impl Threads {
    /// Blocks until all threads have ended, for `patience` and a little more.
    pub(super) fn stop(&mut self, patience: Duration) {
        self.deadline.send_replace(Some(Instant::now() + patience.min(LONGEST_PATIENCE)));
        for thread in self.running.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a fetcher thread panicked");
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

type Jobs = mpsc::UnboundedReceiver<Job>;
type Stop = watch::Receiver<Option<Instant>>;

fn run(runtime: Runtime, jobs: Jobs, stop: Stop, reuse: Duration) {
    let local = LocalSet::new();
    local.block_on(&runtime, serve(jobs, stop, reuse));
    drop(local);
    // A name lookup in the background may take long. The shutdown does not wait for it.
    runtime.shutdown_background();
}

async fn serve(mut jobs: Jobs, mut stop: Stop, reuse: Duration) {
    let clients = Rc::new(AwcClients::default());
    let reuse = reuse.max(Duration::from_millis(1));
    let mut sweep = tokio::time::interval_at(tokio::time::Instant::now() + reuse, reuse);
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            // The deadline has changed, or its sender is gone.
            _ = stop.changed() => break,
            _ = sweep.tick() => clients.forget_all(),
            Some(result) = tasks.join_next(), if !tasks.is_empty() => note(result),
            job = jobs.recv() => match job {
                Some(job) => drop(tasks.spawn_local(perform(clients.clone(), job))),
                None => break,
            },
        }
    }
    jobs.close();
    while jobs.try_recv().is_ok() {}
    let deadline = stop.borrow().unwrap_or_else(Instant::now);
    let rest = async {
        while let Some(result) = tasks.join_next().await {
            note(result);
        }
    };
    if timeout_at(deadline.into(), rest).await.is_err() {
        tracing::warn!(requests = tasks.len(), "stopped before these upstream requests had ended");
    }
    tasks.shutdown().await;
}

fn note(result: Result<(), tokio::task::JoinError>) {
    if let Err(error) = result {
        tracing::error!(%error, "an upstream request failed by an internal error of lanyard");
    }
}
