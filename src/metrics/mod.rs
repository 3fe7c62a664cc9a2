//! The metrics, in Prometheus' text format. Every room may count; only `http` prints them.
//!
//! Labels are upstream, kind, code class and outcome, all from closed lists. They are never a
//! repository or a digest, because there are as many of these as images. Rooms raise the counters
//! when things happen. Gauges, and the upstreams' own counters, are read at each scrape
//! ([`Sample`]), so that no room has to keep a number in step with its state.

mod cache_life;
mod counts;
mod labels;
mod sample;
mod traffic;

use std::{
    sync::atomic::{AtomicI64, AtomicU64},
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use cache_life::CacheLifeMetrics;
use counts::{raise, signed};
use labels::{PerUpstream, UpstreamLabel, label};
pub use sample::{CacheLife, Sample, UpstreamSample};
use traffic::Traffic;
pub use traffic::UpstreamTraffic;

use crate::oci::{Outcome, UpstreamName};

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One answered request.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// `manifest`, `blob`, `tags`, …, from a fixed list.
    pub kind: &'static str,
    /// HTTP status. Absent if the client left before it was known.
    pub status: Option<u16>,
    /// The outcome. Absent if neither the store nor an upstream was asked.
    pub outcome: Option<Outcome>,
    /// Body bytes that the connection took.
    pub bytes: u64,
    /// The time from the request's head to the end of the answer's body.
    pub duration: Duration,
    /// The client left before the end.
    pub aborted: bool,
    /// The upstream of the repository; absent for hosted ones, and where none was meant.
    pub upstream: Option<&'a UpstreamName>,
    /// A manifest was asked for by GET and answered with 200.
    pub is_pull: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RequestLabels {
    kind: &'static str,
    code: &'static str,
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct UpstreamRequestLabels {
    upstream: String,
    kind: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RottenLabels {
    what: &'static str,
    by: &'static str,
}

type Durations = Family<KindLabel, Histogram, fn() -> Histogram>;

/// All counters of one lanyard.
pub struct Metrics {
    registry: Registry,
    started: Instant,
    requests: Family<RequestLabels, Counter>,
    durations: Durations,
    aborted: Counter,
    sent: Counter,
    in_flight: Gauge,
    fills: PerUpstream,
    joins: PerUpstream,
    resumed: PerUpstream,
    failed: PerUpstream,
    tag_checks: PerUpstream,
    traffic: Traffic,
    sampled: Sampled,
}

/// The metrics that a [`Sample`] sets at each scrape.
#[derive(Default)]
struct Sampled {
    asked: Family<UpstreamRequestLabels, Counter>,
    retries: PerUpstream,
    errors: PerUpstream,
    untrue: PerUpstream,
    received: PerUpstream,
    uptime: Gauge<f64, AtomicU64>,
    cache_life: CacheLifeMetrics,
    cache_blobs: Gauge,
    hosted_bytes: Gauge,
    hosted_blobs: Gauge,
    scrubbed: Counter,
    rotten: Family<RottenLabels, Counter>,
    fills_active: Gauge,
    limit: Family<UpstreamLabel, Gauge>,
    remaining: Family<UpstreamLabel, Gauge>,
    circuit: Family<UpstreamLabel, Gauge<i64, AtomicI64>>,
}

impl Metrics {
    /// Metrics that begin at 0. Those of each upstream are there at once, so that a rate over them
    /// is right from the first event on.
    pub fn new(upstreams: &[UpstreamName]) -> Self {
        let durations: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 4.0, 9));
        let mut metrics = Metrics {
            registry: Registry::with_prefix("lanyard"),
            started: Instant::now(),
            requests: Family::default(),
            durations: Durations::new_with_constructor(durations),
            aborted: Counter::default(),
            sent: Counter::default(),
            in_flight: Gauge::default(),
            fills: PerUpstream::default(),
            joins: PerUpstream::default(),
            resumed: PerUpstream::default(),
            failed: PerUpstream::default(),
            tag_checks: PerUpstream::default(),
            traffic: Traffic::new(upstreams),
            sampled: Sampled::default(),
        };
        metrics.register_requests();
        metrics.register_upstreams();
        metrics.register_gauges();
        for upstream in upstreams {
            for family in metrics.per_upstream() {
                family.get_or_create(&label(upstream)).inc_by(0);
            }
        }
        metrics
    }

    fn per_upstream(&self) -> [&PerUpstream; 5] {
        [&self.fills, &self.joins, &self.resumed, &self.failed, &self.tag_checks]
    }

    fn register_requests(&mut self) {
        let r = &mut self.registry;
        r.register("requests", "Answered requests", self.requests.clone());
        r.register_with_unit("request_duration", "Head to end of body", Unit::Seconds, self.durations.clone());
        r.register("requests_aborted", "Requests whose client left before the end", self.aborted.clone());
        r.register_with_unit("sent", "Body bytes sent to clients", Unit::Bytes, self.sent.clone());
        r.register("requests_in_flight", "Requests being answered now", self.in_flight.clone());
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "The version of lanyard", build);
    }

    fn register_upstreams(&mut self) {
        let (r, s) = (&mut self.registry, &self.sampled);
        r.register_with_unit("upstream_received", "Body bytes from upstreams", Unit::Bytes, s.received.clone());
        r.register("upstream_requests", "Requests to upstreams; Docker Hub counts kind manifest", s.asked.clone());
        r.register("upstream_retries", "Of these, repeated after a failure", s.retries.clone());
        r.register("upstream_errors", "Of these, without a usable answer", s.errors.clone());
        r.register("upstream_untrue", "Answers of upstreams that were not believed", s.untrue.clone());
        self.traffic.register(r);
        r.register("fills", "Downloads begun", self.fills.clone());
        r.register("fill_joins", "Requests that joined a download under way", self.joins.clone());
        r.register("fills_resumed", "Downloads continued after a break", self.resumed.clone());
        r.register("fills_failed", "Downloads given up", self.failed.clone());
        r.register("tag_checks", "Tags compared with upstream by HEAD", self.tag_checks.clone());
    }

    fn register_gauges(&mut self) {
        let (r, g) = (&mut self.registry, &self.sampled);
        r.register_with_unit("uptime", "Time since start", Unit::Seconds, g.uptime.clone());
        g.cache_life.register(r);
        r.register("cache_blobs", "Blobs and manifests cached", g.cache_blobs.clone());
        r.register_with_unit("hosted", "Bytes of pushed repositories", Unit::Bytes, g.hosted_bytes.clone());
        r.register("hosted_blobs", "Blobs and manifests of pushed repositories", g.hosted_blobs.clone());
        r.register_with_unit("scrubbed", "Bytes read again by the scrub", Unit::Bytes, g.scrubbed.clone());
        r.register("rotten", "Blobs and manifests that were found rotten on disk", g.rotten.clone());
        r.register("fills_active", "Downloads under way", g.fills_active.clone());
        r.register("upstream_ratelimit_limit", "Pulls an upstream allows in its window", g.limit.clone());
        r.register("upstream_ratelimit_remaining", "Pulls left in that window", g.remaining.clone());
        r.register("upstream_circuit_open", "1 while an upstream is not asked, 0 else", g.circuit.clone());
    }

    /// A request's head has arrived.
    pub fn request_began(&self) {
        self.in_flight.inc();
    }

    /// The request's answer has ended, or its client has left. Called exactly once for each
    /// [`Metrics::request_began`].
    pub fn request_ended(&self, answered: &Answered<'_>) {
        let outcome = answered.outcome.map_or("none", Outcome::as_str);
        let labels = RequestLabels { kind: answered.kind, code: class(answered.status), outcome };
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&KindLabel { kind: answered.kind }).observe(answered.duration.as_secs_f64());
        self.sent.inc_by(answered.bytes);
        if let (Some(upstream), Some(outcome), Some(200 | 206)) = (answered.upstream, answered.outcome, answered.status)
        {
            self.traffic.count(upstream, outcome, answered.bytes, answered.is_pull);
        }
        if answered.aborted {
            self.aborted.inc();
        }
        self.in_flight.dec();
    }

    /// What the clients of each upstream's names were sent since the start.
    pub fn traffic(&self) -> Vec<UpstreamTraffic> {
        self.traffic.now()
    }

    /// A download began.
    pub fn fill_started(&self, upstream: &UpstreamName) {
        self.fills.get_or_create(&label(upstream)).inc();
    }

    /// A request joined a download under way.
    pub fn fill_joined(&self, upstream: &UpstreamName) {
        self.joins.get_or_create(&label(upstream)).inc();
    }

    /// A download went on after a break.
    pub fn fill_resumed(&self, upstream: &UpstreamName) {
        self.resumed.get_or_create(&label(upstream)).inc();
    }

    /// A download was given up.
    pub fn fill_failed(&self, upstream: &UpstreamName) {
        self.failed.get_or_create(&label(upstream)).inc();
    }

    /// A tag was compared with upstream.
    pub fn tag_checked(&self, upstream: &UpstreamName) {
        self.tag_checks.get_or_create(&label(upstream)).inc();
    }

    /// All metrics as OpenMetrics text ([`CONTENT_TYPE`]), with the values of `sample`.
    pub fn encode(&self, sample: &Sample) -> String {
        self.sampled.uptime.set(self.started.elapsed().as_secs_f64());
        self.sampled.set(sample);
        let mut out = String::with_capacity(8 << 10);
        // Writing to a String does not fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

impl Sampled {
    fn set(&self, sample: &Sample) {
        self.cache_life.set(sample.cache_bytes, &sample.cache_life);
        self.cache_blobs.set(signed(sample.cache_blobs));
        self.hosted_bytes.set(signed(sample.hosted_bytes));
        self.hosted_blobs.set(signed(sample.hosted_blobs));
        raise(&self.scrubbed, sample.scrubbed);
        for (what, by, count) in &sample.rotten {
            raise(&self.rotten.get_or_create(&RottenLabels { what, by }), *count);
        }
        self.fills_active.set(signed(sample.fills_active));
        for upstream in &sample.upstreams {
            let label = label(&upstream.name);
            self.circuit.get_or_create(&label).set(upstream.circuit_open.into());
            for (family, count) in [
                (&self.received, upstream.received),
                (&self.retries, upstream.retries),
                (&self.errors, upstream.errors),
                (&self.untrue, upstream.untrue),
            ] {
                raise(&family.get_or_create(&label), count);
            }
            for (kind, count) in &upstream.requests {
                let labels = UpstreamRequestLabels { upstream: label.upstream.clone(), kind };
                raise(&self.asked.get_or_create(&labels), *count);
            }
            if let Some((limit, remaining)) = upstream.rate_limit {
                self.limit.get_or_create(&label).set(signed(limit));
                self.remaining.get_or_create(&label).set(signed(remaining));
            }
        }
    }
}

fn class(status: Option<u16>) -> &'static str {
    match status {
        None => "none",
        Some(..=199) => "1xx",
        Some(200..=299) => "2xx",
        Some(300..=399) => "3xx",
        Some(400..=499) => "4xx",
        Some(500..) => "5xx",
    }
}

#[cfg(test)]
mod tests;
