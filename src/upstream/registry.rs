//! One upstream registry: its configuration, its health, and the parts that its requests use.
//!
//! `manifests.rs`, `blobs.rs` and `lists.rs` ask it. The circuit has the states (`circuit.rs`).

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{runtime::Handle, time::Instant};
use url::Url;

use super::{
    auth::RegistryAuth,
    circuit::Health,
    counters::UpstreamSnapshot,
    governor::{Budget, Governor},
    network::Network,
    transport::Transport,
    trouble::Troubles,
};
use crate::{
    config::{self, Mode},
    oci::{RepositoryName, UpstreamName},
};

/// A registry that may be asked. All its futures are `Send` and may be dropped at any time.
pub struct Registry {
    config: config::Upstream,
    tag_ttl: Duration,
    mode: Mode,
    pub(super) transport: Arc<Transport>,
    pub(super) auth: RegistryAuth,
    pub(super) governor: Mutex<Governor>,
    pub(super) troubles: Troubles,
}

impl Registry {
    /// Opens no connection. Probes of a failed upstream run on `runtime`.
    pub(super) fn new(
        config: config::Upstream,
        default_tag_ttl: Duration,
        mode: Mode,
        network: Network,
        runtime: Handle,
    ) -> Self {
        Registry {
            tag_ttl: config.tag_ttl.unwrap_or(default_tag_ttl),
            mode,
            auth: RegistryAuth::new(&config, under(&config.url, ""), runtime.clone()),
            transport: Transport::new(config.name.clone(), network, under(&config.url, ""), runtime),
            governor: Mutex::default(),
            troubles: Troubles::default(),
            config,
        }
    }

    /// The value of `ns=`, and the path prefix.
    pub fn name(&self) -> &UpstreamName {
        &self.config.name
    }

    /// The operator's settings.
    pub fn config(&self) -> &config::Upstream {
        &self.config
    }

    /// How long a tag of this upstream is served without a check.
    pub fn tag_ttl(&self) -> Duration {
        self.tag_ttl
    }

    /// Whether to go on serving content that upstream has deleted.
    pub fn keep_deleted(&self) -> bool {
        self.config.keep_deleted
    }

    /// Whether lanyard asks it without credentials. Then a denial holds for everybody.
    pub fn anonymous(&self) -> bool {
        self.config.credentials.is_none()
    }

    /// Whether `allow` and `block` let this repository be pulled. They match the names that clients
    /// use.
    pub fn allows(&self, repository: &RepositoryName) -> bool {
        let matches = |patterns: &[config::Pattern]| patterns.iter().any(|pattern| pattern.matches(repository));
        (self.config.allow.is_empty() || matches(&self.config.allow)) && !matches(&self.config.block)
    }

    /// Whether it answers.
    pub fn health(&self) -> Health {
        self.transport.health()
    }

    /// Whether it has answered within the last minute (`Some(true)`), or fails (`Some(false)`);
    /// `None`: it is not known, and a probe of `/v2/` will tell in a moment.
    pub fn answers(&self) -> Option<bool> {
        self.transport.answers()
    }

    /// The rest of its rate limit, if it has told it.
    pub fn budget(&self) -> Option<Budget> {
        self.governor.lock().budget(Instant::now())
    }

    /// Its counters of now.
    pub fn snapshot(&self) -> UpstreamSnapshot {
        self.transport.counters.snapshot()
    }

    /// Whether `mode = "online"`: no stale content is served.
    pub(super) fn is_online(&self) -> bool {
        self.mode == Mode::Online
    }

    pub(super) fn is_offline(&self) -> bool {
        self.mode == Mode::Offline
    }

    /// The repository's name at the registry, with the prefix.
    pub(super) fn name_there(&self, repository: &RepositoryName) -> String {
        match &self.config.prefix {
            Some(prefix) => format!("{prefix}/{repository}"),
            None => repository.to_string(),
        }
    }

    /// The URL of `path`, which begins with the name that the repository has here.
    pub(super) fn url(&self, path: &str) -> Url {
        match &self.config.prefix {
            Some(prefix) => under(&self.config.url, &format!("{prefix}/{path}")),
            None => under(&self.config.url, path),
        }
    }
}

/// A URL under the base's `/v2/`. The path of the base comes first.
fn under(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/v2/{path}", base.path().trim_end_matches('/')));
    url.set_query(None);
    url.set_fragment(None);
    url
}
