//! What the clients of mirrored names were sent, counted for each upstream when an answer ends.
//!
//! The counters are made at the start, one for each upstream and outcome, so that counting an
//! answer is two additions without a lock. The metrics page prints them, and the account of savings
//! (`admin/savings.rs`) reads them. Bytes count where the outcome is known and the status is 200 or
//! 206: an error is nothing that a client would have got elsewhere.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::{Registry, Unit},
};

use super::labels::{PerUpstream, label};
use crate::oci::{Outcome, UpstreamName};

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OutcomeLabels {
    upstream: String,
    outcome: &'static str,
}

/// The counters of all upstreams.
pub(super) struct Traffic {
    sent: Family<OutcomeLabels, Counter>,
    pulls: PerUpstream,
    upstreams: Vec<Counters>,
}

struct Counters {
    name: UpstreamName,
    /// In the order of [`Outcome::ALL`].
    sent: [Counter; Outcome::ALL.len()],
    pulls: Counter,
}

/// What the clients of an upstream's names were sent since the start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpstreamTraffic {
    /// The upstream.
    pub name: UpstreamName,
    /// Body bytes, in the order of [`Outcome::ALL`].
    pub sent: [u64; Outcome::ALL.len()],
    /// Manifests that were asked for by GET and answered with 200.
    pub pulls: u64,
}

impl Traffic {
    pub(super) fn new(upstreams: &[UpstreamName]) -> Traffic {
        let (sent, pulls) = (Family::<OutcomeLabels, Counter>::default(), PerUpstream::default());
        let counters = |name: &UpstreamName| Counters {
            sent: Outcome::ALL.map(|outcome| {
                let labels = OutcomeLabels { upstream: name.to_string(), outcome: outcome.as_str() };
                sent.get_or_create(&labels).clone()
            }),
            pulls: pulls.get_or_create(&label(name)).clone(),
            name: name.clone(),
        };
        let upstreams = upstreams.iter().map(counters).collect();
        Traffic { sent, pulls, upstreams }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Body bytes sent to clients of an upstream's names";
        registry.register_with_unit("mirrored_sent", help, Unit::Bytes, self.sent.clone());
        registry.register("mirrored_pulls", "Manifests sent to clients of an upstream's names", self.pulls.clone());
    }

    /// Counts an answer of 200 or 206.
    pub(super) fn count(&self, upstream: &UpstreamName, outcome: Outcome, bytes: u64, is_pull: bool) {
        let Some(counters) = self.upstreams.iter().find(|counters| counters.name == *upstream) else { return };
        counters.sent[outcome as usize].inc_by(bytes);
        if is_pull {
            counters.pulls.inc();
        }
    }

    pub(super) fn now(&self) -> Vec<UpstreamTraffic> {
        let traffic = |counters: &Counters| UpstreamTraffic {
            name: counters.name.clone(),
            sent: std::array::from_fn(|at| counters.sent[at].get()),
            pulls: counters.pulls.get(),
        };
        self.upstreams.iter().map(traffic).collect()
    }
}
