//! A request on its way to a fetcher thread: the job, and one queue for each thread.
//!
//! `handle.rs` submits jobs. `threads.rs` takes them out.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    error::FetchError,
    peer::Peer,
    permits::ConnectionPermit,
    request::{Request, Response},
};

/// A request, and all that is given back when it is done.
pub(super) struct Job {
    pub(super) peer: Arc<Peer>,
    pub(super) request: Request,
    pub(super) reply: oneshot::Sender<Result<Response, FetchError>>,
    /// The right to a connection.
    pub(super) permit: ConnectionPermit,
    pub(super) load: JobCount,
}

/// Counts a thread's job while it lives.
pub(super) struct JobCount(Arc<AtomicUsize>);

impl Drop for JobCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The queues of all threads.
pub(super) struct JobQueues(Vec<JobQueue>);

struct JobQueue {
    jobs: mpsc::UnboundedSender<Job>,
    load: Arc<AtomicUsize>,
}

impl JobQueues {
    /// Makes a queue for each thread. The thread takes its jobs from the receiver.
    pub(super) fn new(threads: usize) -> (JobQueues, Vec<mpsc::UnboundedReceiver<Job>>) {
        // Unbounded, because an upstream's permits bound the jobs in it.
        let ends = (0..threads).map(|_| mpsc::unbounded_channel());
        let queue = |(jobs, receiver)| (JobQueue { jobs, load: Arc::default() }, receiver);
        let (queues, receivers) = ends.map(queue).unzip();
        (JobQueues(queues), receivers)
    }

    /// Hands a job to the thread with the fewest jobs. Among equals the first one gets it, so that
    /// few requests use few threads and share connections.
    pub(super) fn submit(
        &self,
        peer: Arc<Peer>,
        request: Request,
        permit: ConnectionPermit,
    ) -> Result<oneshot::Receiver<Result<Response, FetchError>>, FetchError> {
        let least = self.0.iter().min_by_key(|queue| queue.load.load(Ordering::Relaxed));
        let queue = least.ok_or(FetchError::Stopped)?;
        queue.load.fetch_add(1, Ordering::Relaxed);
        let load = JobCount(queue.load.clone());
        let (reply, answer) = oneshot::channel();
        let job = Job { peer, request, reply, permit, load };
        queue.jobs.send(job).map_err(|_| FetchError::Stopped)?;
        Ok(answer)
    }

    /// Whether a stop has begun.
    pub(super) fn are_closed(&self) -> bool {
        self.0.iter().any(|queue| queue.jobs.is_closed())
    }
}
