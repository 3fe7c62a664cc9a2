//! The closed list of upstreams: lanyard asks no other registry and looks up no other name (S4).
//!
//! `app` builds it at the start and stops it at the end. `pull` asks its registries.

use std::{collections::BTreeMap, sync::Arc};

use tokio::runtime::Handle;

use super::{
    fetcher::{FetcherError, Fetchers, PeerSettings},
    network::Network,
    registry::Registry,
};
use crate::{config::Config, oci::UpstreamName};

/// All upstreams of the configuration, by name.
pub struct Upstreams(BTreeMap<UpstreamName, Arc<Registry>>);

impl Upstreams {
    /// Opens no connection. Probes of failed upstreams run on `runtime` until [`Upstreams::stop`].
    pub fn new(config: &Config, fetchers: &Fetchers, runtime: &Handle) -> Result<Self, FetcherError> {
        let upstreams = config.upstreams.iter().map(|one| {
            let settings = PeerSettings {
                url: one.url.clone(),
                built_in_url: one.has_built_in_url(),
                ca_file: one.ca_file.clone(),
                proxy: one.proxy.clone(),
                connections: one.connections,
            };
            let network = Network::Fetcher(fetchers.fetcher(settings)?);
            let upstream = Registry::new(one.clone(), config.cache.tag_ttl, config.mode, network, runtime.clone());
            Ok((one.name.clone(), Arc::new(upstream)))
        });
        Ok(Upstreams(upstreams.collect::<Result<_, FetcherError>>()?))
    }

    /// The upstream of this name, if the configuration has it.
    pub fn get(&self, name: &UpstreamName) -> Option<&Arc<Registry>> {
        self.0.get(name)
    }

    /// All upstreams, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Registry>> {
        self.0.values()
    }

    /// Ends the probes and waits for their end. It leaves requests alone: stopping the fetchers
    /// ends them.
    pub async fn stop(&self) {
        for upstream in self.iter() {
            upstream.transport.stop().await;
        }
    }
}
