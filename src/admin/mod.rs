//! What an operator sees and does, as plain values without HTTP.
//!
//! [`Admin`] answers an operator's questions and carries out orders; `views.rs` has the shapes of
//! its answers, which are the schema of `/api/v1`. The server serializes them (`http/api/`), and
//! the command line reads them (`cli/manage.rs`). The permissions of the socket decide who is an
//! operator.

mod views;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

pub use views::{
    Collection, HostedRepository, Kept, Passed, Repositories, ScrubStatus, Scrubbed, Status, UpstreamStatus,
};

use crate::{
    metrics::Sample,
    retention::{Collector, GraceRule, Scrub},
};

/// Why an order of the operator failed.
pub use crate::retention::RetentionError;

/// The name of the administration's Unix socket in the data folder.
pub const SOCKET: &str = "lanyard.sock";

/// The parts of a running lanyard that an operator asks.
pub struct Admin {
    /// The collector.
    pub collector: Arc<Collector>,
    /// The task that reads everything again.
    pub scrub: Arc<Scrub>,
    /// Where and when this process started.
    pub started: StartInfo,
    /// False while the registry drains.
    pub ready: Arc<AtomicBool>,
    /// The gauges of this moment. Must not block.
    pub sample: Arc<dyn Fn() -> Sample + Send + Sync>,
}

/// Where and when this process started.
#[derive(Clone, Debug)]
pub struct StartInfo {
    /// The registry's address.
    pub listening: SocketAddr,
    /// The data folder, absolute.
    pub data_dir: PathBuf,
    /// In seconds since 1970.
    pub at: u64,
}

/// How a collection runs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CollectOptions {
    /// Only report what would be removed.
    pub dry_run: bool,
    /// Wait for no grace: the operator knows that no client pushes.
    pub now: bool,
}

impl Admin {
    /// The state of this moment. Reads memory, and lists the folder of uploads.
    pub async fn status(&self) -> Status {
        let StartInfo { listening, data_dir, at } = &self.started;
        let sample = (self.sample)();
        let upstreams = sample.upstreams.into_iter().map(|upstream| UpstreamStatus {
            name: upstream.name.to_string(),
            reachable: !upstream.circuit_open,
            limit: upstream.rate_limit.map(|(limit, _)| limit),
            remaining: upstream.rate_limit.map(|(_, remaining)| remaining),
        });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: *at,
            listening: listening.to_string(),
            data_dir: data_dir.clone(),
            ready: self.ready.load(Ordering::Acquire),
            kept: self.collector.kept().await,
            scrub: self.scrub.status(),
            fills: sample.fills_active,
            upstreams: upstreams.collect(),
        }
    }

    /// The hosted repositories, sorted by name.
    ///
    /// # Errors
    /// The disk's.
    pub async fn repositories(&self) -> Result<Repositories, RetentionError> {
        Ok(Repositories { repositories: self.collector.repositories().await? })
    }

    /// Collects content that no manifest needs, or reports what that would remove.
    ///
    /// # Errors
    /// The collector's; [`RetentionError::is_expected`] tells those of a disk that takes no writes.
    pub async fn collect(&self, options: CollectOptions) -> Result<Collection, RetentionError> {
        let grace = if options.now { GraceRule::Ignore } else { GraceRule::Respect };
        if options.dry_run { self.collector.plan(grace).await } else { self.collector.collect(grace).await }
    }
}
