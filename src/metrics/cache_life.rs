//! The metrics of the cache's life: its parts, what was evicted and came back, and the waits for
//! room. Set from a [`CacheLife`] at each scrape, like all that other rooms count.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{
    counts::{raise, signed},
    sample::CacheLife,
};

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct PartLabel {
    part: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct WhyLabel {
    why: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Default)]
pub(super) struct CacheLifeMetrics {
    parts: Family<PartLabel, Gauge>,
    turn: Gauge,
    evicted: Family<WhyLabel, Counter>,
    refetched: Counter,
    waits: Family<OutcomeLabel, Counter>,
}

impl CacheLifeMetrics {
    pub(super) fn register(&self, r: &mut Registry) {
        let parts =
            "Bytes against cache.max_size: cached, or promised to downloads; pinned ones are part of the cached";
        r.register_with_unit("cache", parts, Unit::Bytes, self.parts.clone());
        r.register_with_unit("turn", "The age that once-used content reaches", Unit::Seconds, self.turn.clone());
        r.register_with_unit("evicted", "Bytes that were evicted", Unit::Bytes, self.evicted.clone());
        let refetched = "Bytes that were evicted and fetched again";
        r.register_with_unit("refetched", refetched, Unit::Bytes, self.refetched.clone());
        r.register("room_waits", "Downloads and pushes that waited for room", self.waits.clone());
    }

    pub(super) fn set(&self, cached: u64, life: &CacheLife) {
        let CacheLife { reserved, parked, pinned, .. } = *life;
        for (part, bytes) in [("cached", cached), ("reserved", reserved), ("parked", parked), ("pinned", pinned)] {
            self.parts.get_or_create(&PartLabel { part }).set(signed(bytes));
        }
        self.turn.set(signed(life.turn.unwrap_or(0)));
        for (why, bytes) in &life.evicted {
            raise(&self.evicted.get_or_create(&WhyLabel { why }), *bytes);
        }
        raise(&self.refetched, life.refetched);
        for (outcome, count) in &life.room_waits {
            raise(&self.waits.get_or_create(&OutcomeLabel { outcome }), *count);
        }
    }
}
