//! The figures that the metrics page reads off the running parts at the moment of asking.

use std::sync::Arc;

use crate::{
    metrics::{CacheLife, Sample, UpstreamSample},
    pull::PullThrough,
    retention::{EvictedBytes, Evictor, KeptSet, Scrub},
    storage::{RotCount, Storage},
    upstream::{Health, Registry, RequestKind, Upstreams},
};

/// A function that reads the figures.
pub(super) fn sample(
    storage: &Arc<Storage>,
    upstreams: &Arc<Upstreams>,
    pull: &Arc<PullThrough>,
    scrub: &Arc<Scrub>,
    kept: &Arc<KeptSet>,
    evictor: Option<&Arc<Evictor>>,
) -> Arc<dyn Fn() -> Sample + Send + Sync> {
    let (storage, upstreams) = (Arc::clone(storage), Arc::clone(upstreams));
    let (pull, scrub) = (Arc::clone(pull), Arc::clone(scrub));
    let (kept, evictor) = (Arc::clone(kept), evictor.cloned());
    Arc::new(move || {
        let usage = storage.usage();
        Sample {
            cache_bytes: usage.bytes - usage.hosted,
            cache_blobs: usage.blobs - usage.hosted_blobs,
            hosted_bytes: usage.hosted,
            hosted_blobs: usage.hosted_blobs,
            cache_life: cache_life(&storage, &kept, evictor.as_deref()),
            scrubbed: scrub.bytes_read(),
            rotten: rotten(&storage),
            fills_active: pull.active_fills() as u64,
            upstreams: upstreams.iter().map(|upstream| sample_of(upstream)).collect(),
        }
    })
}

fn cache_life(storage: &Storage, kept: &KeptSet, evictor: Option<&Evictor>) -> CacheLife {
    let eviction = evictor.map(Evictor::status).unwrap_or_default();
    let EvictedBytes { cap, floor, trim, rm } = eviction.evicted;
    let ((reserved, parked), waits) = (storage.promised(), storage.room_waits());
    CacheLife {
        reserved,
        parked,
        pinned: kept.bytes(),
        turn: eviction.turn,
        evicted: vec![("cap", cap), ("floor", floor), ("trim", trim), ("rm", rm)],
        refetched: storage.refetched().bytes,
        room_waits: vec![("granted", waits.granted), ("refused", waits.refused)],
    }
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
