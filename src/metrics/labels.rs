//! The label of an upstream, and the counters that have no other. Callers: this folder.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};

use crate::oci::UpstreamName;

/// One counter for each upstream.
pub(super) type PerUpstream = Family<UpstreamLabel, Counter>;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(super) struct UpstreamLabel {
    pub(super) upstream: String,
}

pub(super) fn label(upstream: &UpstreamName) -> UpstreamLabel {
    UpstreamLabel { upstream: upstream.to_string() }
}
