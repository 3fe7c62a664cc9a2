//! How long clients may take, and how many there may be. Production uses the default; tests change
//! it.

use std::time::Duration;

/// The limits of the registry's listeners.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Worker threads.
    pub workers: usize,
    /// How long an idle connection is kept for the next request.
    pub keep_alive: Duration,
    /// How long the head of a request may take. A slower one is answered 408.
    pub head: Duration,
    /// How long a pull may wait for upstream before its head is sent. Then it is answered 504.
    pub answer: Duration,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long an answer may wait for its reader in all, unless the reader keeps `rate`.
    pub stall: Duration,
    /// The bytes per second that a reader must take.
    pub rate: u64,
    /// How long a connection may take to close while its client still sends a body that no handler
    /// reads.
    pub linger: Duration,
    /// Connections per worker, if there are descriptors for them. Others wait in the kernel's
    /// queue.
    pub connections: usize,
    /// The descriptors that the process may have. Connections get a part of them (`places.rs`).
    pub descriptors: usize,
    /// How long the answers under way may take after a stop.
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

/// The descriptors that the process may have.
fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}
