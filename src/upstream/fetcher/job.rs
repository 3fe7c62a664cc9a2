//! A request on its way to a fetcher thread: the job, and the queue of each thread.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    error::FetchError,
    peer::Upstream,
    request::{Request, Response},
    shares::Share,
};

/// A request and everything that is freed when it is done.
pub(super) struct Job {
    pub(super) upstream: Arc<Upstream>,
    pub(super) request: Request,
    pub(super) reply: oneshot::Sender<Result<Response, FetchError>>,
    /// The right to a connection.
    pub(super) share: Share,
    pub(super) load: Load,
}

/// Counts a job of a thread while it lives.
pub(super) struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where jobs are handed in.
pub(super) struct Entrances(Vec<Entrance>);

struct Entrance {
    jobs: mpsc::UnboundedSender<Job>,
    load: Arc<AtomicUsize>,
}

impl Entrances {
    /// One for each thread, with the ends that the threads take their jobs from.
    pub(super) fn new(threads: usize) -> (Entrances, Vec<mpsc::UnboundedReceiver<Job>>) {
        // Unbounded, because an upstream's shares bound what can be in it.
        let ends = (0..threads).map(|_| mpsc::unbounded_channel());
        let entrance = |(jobs, receiver)| (Entrance { jobs, load: Arc::default() }, receiver);
        let (entrances, receivers) = ends.map(entrance).unzip();
        (Entrances(entrances), receivers)
    }

    /// Hands a job to the thread that has the fewest. Equals are taken in order, so that few requests share their
    /// connections on few threads.
    pub(super) fn submit(
        &self,
        upstream: Arc<Upstream>,
        request: Request,
        share: Share,
    ) -> Result<oneshot::Receiver<Result<Response, FetchError>>, FetchError> {
        let least = self.0.iter().min_by_key(|entrance| entrance.load.load(Ordering::Relaxed));
        let entrance = least.ok_or(FetchError::Stopped)?;
        entrance.load.fetch_add(1, Ordering::Relaxed);
        let load = Load(entrance.load.clone());
        let (reply, answer) = oneshot::channel();
        let job = Job { upstream, request, reply, share, load };
        entrance.jobs.send(job).map_err(|_| FetchError::Stopped)?;
        Ok(answer)
    }

    /// Whether a stop has begun.
    pub(super) fn are_closed(&self) -> bool {
        self.0.iter().any(|entrance| entrance.jobs.is_closed())
    }
}
