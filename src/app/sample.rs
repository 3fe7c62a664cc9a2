//! The figures that the metrics page reads off the running parts at the moment of asking.

use std::sync::Arc;

use crate::{
    metrics::{Sample, UpstreamSample},
    pull::PullThrough,
    retention::Scrub,
    storage::{RotCount, Storage},
    upstream::{Health, Registry, RequestKind, Upstreams},
};

/// A function that reads the figures.
pub(super) fn sample(
    storage: &Arc<Storage>,
    upstreams: &Arc<Upstreams>,
    pull: &Arc<PullThrough>,
    scrub: &Arc<Scrub>,
) -> Arc<dyn Fn() -> Sample + Send + Sync> {
    let (storage, upstreams) = (Arc::clone(storage), Arc::clone(upstreams));
    let (pull, scrub) = (Arc::clone(pull), Arc::clone(scrub));
    Arc::new(move || {
        let usage = storage.usage();
        Sample {
            cache_bytes: usage.bytes - usage.hosted,
            cache_blobs: usage.blobs - usage.hosted_blobs,
            hosted_bytes: usage.hosted,
            hosted_blobs: usage.hosted_blobs,
            scrubbed: scrub.bytes_read(),
            rotten: rotten(&storage),
            fills_active: pull.active_fills() as u64,
            upstreams: upstreams.iter().map(|upstream| sample_of(upstream)).collect(),
        }
    })
}

fn rotten(storage: &Storage) -> Vec<(&'static str, &'static str, u64)> {
    let by_kind = |RotCount { by, cached, hosted }| [("cached", by.as_str(), cached), ("hosted", by.as_str(), hosted)];
    storage.rotten().into_iter().flat_map(by_kind).collect()
}

fn sample_of(upstream: &Registry) -> UpstreamSample {
    let seen = upstream.snapshot();
    UpstreamSample {
        name: upstream.name().clone(),
        rate_limit: upstream.budget().map(|budget| (budget.limit, budget.remaining)),
        circuit_open: upstream.health() == Health::Open,
        requests: RequestKind::ALL.map(|kind| (kind.as_str(), seen.requests(kind))).to_vec(),
        retries: seen.retries,
        errors: seen.errors,
        untrue: seen.untrue,
        received: seen.bytes_in,
    }
}
