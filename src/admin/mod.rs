//! What an operator sees and does, as plain values without HTTP.
//!
//! [`Admin`] answers an operator's questions and carries out orders. Its answers are the schema of
//! `/api/v1`: the server serializes them (`http/api/`), and the command line reads them (`cli/`).
//! Most shapes are in `views.rs` and `pull_events.rs`. The permissions of the socket decide who is
//! an operator.

mod digests;
mod images;
mod kept_images;
mod lock;
mod pins;
mod prefetch;
mod pull_events;
mod remove;
mod savings;
mod selection;
mod views;
mod why;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

pub use images::Cursor;
pub use lock::Locked;
pub use pins::PinOptions;
pub use prefetch::PullEvents;
pub use pull_events::{BlobEvent, ImageEvent, ImageState, PullCause, PullEvent, PullOrder};
pub use remove::RemoveError;
pub use savings::{DaySavings, Savings, SavingsReport, SavingsSum, UpstreamSavings};
pub use selection::Selection;
pub use views::{
    CacheStatus, Collection, Completeness, DigestReport, EvictedBytes, EvictionStatus, FillView, HostedRepository,
    ImageRow, Images, Kept, PartRow, Passed, Pinned, Pins, Place, Repositories, RepositoryView, ScrubStatus, Scrubbed,
    Status, Trimmed, Unpinned, UpstreamStatus,
};
pub use why::{UnknownWhy, Why};

use crate::{
    config::Mode,
    metrics::Sample,
    names::{Image, Names},
    oci::{ErrorCode, Namespace, RegistryError},
    pull::PullThrough,
    retention::{Collector, Evictor, GraceRule, KeptSet, Scrub},
    storage::Storage,
};

/// Why an order of the operator failed, and how content is removed.
pub use crate::retention::{Removals, RemoveOptions, RetentionError, TrimTarget};

/// The name of the administration's Unix socket in the data folder.
pub const SOCKET: &str = "lanyard.sock";

/// The parts of a running lanyard that an operator asks.
pub struct Admin {
    /// The collector.
    pub collector: Arc<Collector>,
    /// The task that reads everything again.
    pub scrub: Arc<Scrub>,
    /// Lets cached content go; `None` where lanyard is offline.
    pub evictor: Option<Arc<Evictor>>,
    /// The most bytes that may be cached, if there is a limit.
    pub max_size: Option<u64>,
    /// When upstreams are asked. Offline nothing is removed that they gave.
    pub mode: Mode,
    /// What is never evicted.
    pub kept: Arc<KeptSet>,
    /// The data folder.
    pub storage: Arc<Storage>,
    /// The account of savings.
    pub savings: Arc<Savings>,
    /// Gets content.
    pub pull: Arc<PullThrough>,
    /// Tells which image an operator means.
    pub names: Arc<Names>,
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
    /// The image that an operator means by `text`. Looks at the disk where the name may be hosted.
    ///
    /// # Errors
    /// As [`Names::image`].
    pub fn image(&self, text: &str) -> Result<Image, RegistryError> {
        self.names.image(text, |name| self.pull.hosts(name, None))
    }

    /// The same for an order about what is here: the image may be of an upstream that is not
    /// configured any more.
    ///
    /// # Errors
    /// As [`Names::image`]. If the disk cannot be looked at, such an upstream is unknown.
    pub async fn image_here(&self, text: &str) -> Result<Image, RegistryError> {
        match self.image(text) {
            Err(error) if error.code == ErrorCode::NameUnknown => {
                let namespaces = self.storage.namespaces().await.unwrap_or_default();
                let pinned = self.storage.pins().await.map(|pins| pins.pins).unwrap_or_default();
                let all = namespaces.into_iter().chain(pinned.into_iter().map(|pin| pin.repository.namespace));
                let left = all.filter_map(|namespace| match namespace {
                    Namespace::Upstream(upstream) => Some(upstream),
                    Namespace::Hosted => None,
                });
                let left: Vec<_> = left.collect();
                self.names.image_among(text, &left, |name| self.pull.hosts(name, None))
            }
            image => image,
        }
    }

    /// The state of this moment. Reads memory, lists the folder of uploads, and reads the account
    /// of savings if the start has not read it yet.
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
            cache: self.cache().await,
            savings: Some(self.savings.sum().await),
            fills: sample.fills_active,
            upstreams: upstreams.collect(),
        }
    }

    async fn cache(&self) -> CacheStatus {
        if let Err(error) = self.kept.view().await {
            tracing::debug!(%error, "the bytes that stay are those of an earlier look");
        }
        let usage = self.storage.usage();
        let (reserved, parked) = self.storage.promised();
        let (refetched, waits) = (self.storage.refetched(), self.storage.room_waits());
        CacheStatus {
            max_size: self.max_size,
            cached: usage.bytes.saturating_sub(usage.hosted),
            pinned: self.kept.bytes(),
            reserved,
            parked,
            eviction: self.evictor.as_ref().map(|evictor| evictor.status()),
            refetched: refetched.bytes,
            refetched_within_a_day: refetched.within_a_day,
            waits_granted: waits.granted,
            waits_refused: waits.refused,
        }
    }

    /// Lets cached content go now, or reports what would go.
    ///
    /// # Errors
    /// [`RetentionError::Offline`], or the disk's.
    pub async fn trim(&self, target: TrimTarget, dry_run: bool) -> Result<Trimmed, RetentionError> {
        let evictor = self.evictor.as_ref().ok_or(RetentionError::Offline)?;
        if dry_run { evictor.plan_trim(target).await } else { evictor.trim(target).await }
    }

    /// What clients were sent and what came from upstreams for it, by upstream and day.
    pub async fn savings(&self) -> SavingsReport {
        self.savings.report().await
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
