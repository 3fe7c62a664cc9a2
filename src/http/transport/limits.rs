//! How long clients may take, and how many there may be.

use std::time::Duration;

/// How long clients may take, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Worker threads.
    pub workers: usize,
    /// How long a connection is kept for the next request.
    pub keep_alive: Duration,
    /// How long the head of a request may take; past it the answer is 408.
    pub head: Duration,
    /// How long a pull may wait for upstream before its head is sent; past it the answer is 504.
    pub answer: Duration,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long an answer may wait for its reader in all, unless the reader keeps `rate`.
    pub stall: Duration,
    /// Bytes per second that a reader must take.
    pub rate: u64,
    /// How long a connection that is being closed may take, with a request body that nobody reads coming in.
    pub linger: Duration,
    /// Connections per worker, where there are descriptors for them; more wait in the kernel's
    /// queue.
    pub connections: usize,
    /// Descriptors that the process may have; connections share them (`places.rs`).
    pub descriptors: usize,
    /// How long answers under way may take after a stop was asked for.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        ServerLimits {
            workers: std::thread::available_parallelism().map_or(2, usize::from),
            keep_alive: Duration::from_secs(75),
            head: Duration::from_secs(30),
            answer: Duration::from_secs(25),
            handshake: Duration::from_secs(10),
            stall: Duration::from_secs(60),
            rate: 10 << 10,
            linger: Duration::from_secs(5),
            connections: 25_600,
            descriptors: descriptors(),
            drain: Duration::from_secs(300),
        }
    }
}

/// How many descriptors the process may have.
fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}
