//! lanyard's downloads into a full cache, beside those into an empty one, in turn.

use std::time::Instant;

use super::{
    blobs::{Blobs, LARGE, LARGE_SIZE},
    client::get_all,
    proxies::{Cache, Proxy, ask_socket},
    upstream::Upstream,
};
use crate::{
    measuring::Cpus,
    report::{Figures, Goal, Section, ratio},
};

/// The blobs of a round; each round has others, and the first one fills the cache.
const ROUND: usize = 50;

const CLIENTS: usize = 4;

/// Rates and times to the first byte.
#[derive(Default)]
struct Seen {
    rate: Figures,
    first: Vec<f64>,
}

impl Seen {
    fn percentile(&mut self, percent: usize) -> f64 {
        self.first.sort_by(f64::total_cmp);
        self.first[self.first.len() * percent / 100]
    }
}

pub(crate) fn run(blobs: &Blobs, cpus: &Cpus) -> Vec<Section> {
    let upstream = Upstream::start(blobs, None, &cpus.all);
    let start = |cap| Cache::start(Proxy::Lanyard, upstream.port(), cap, CLIENTS, &cpus.all);
    let full = start(ROUND as u64 * LARGE_SIZE);
    let empty = start(2 * LARGE as u64 * LARGE_SIZE);
    let (mut of_full, mut of_empty) = (Seen::default(), Seen::default());
    for (round, blobs) in blobs.digests.chunks(ROUND).enumerate() {
        for (cache, seen) in [(&empty, &mut of_empty), (&full, &mut of_full)] {
            rustix::fs::sync();
            let began = Instant::now();
            let tally = get_all(cache.server.port, blobs.iter(), CLIENTS);
            let seconds = began.elapsed().as_secs_f64();
            assert_eq!(tally.errors + tally.wrong, 0, "a download failed");
            if round > 0 {
                seen.rate.push(tally.bytes as f64 / 1e9 / seconds);
                seen.first.extend(tally.first);
            }
        }
        ask_socket(empty.data(), "POST", "/api/v1/trim?to=0");
    }
    let rates = vec![vec![
        of_empty.rate.text(2),
        of_full.rate.text(2),
        ratio(of_full.rate.median(), of_empty.rate.median(), Goal::AtLeast(0.95)),
    ]];
    let waits = |outcome: &str| full.metric(&format!("lanyard_room_waits_total{{outcome=\"{outcome}"));
    let bypassed = waits("refused");
    let [idle, busy] = [&mut of_empty, &mut of_full].map(|seen| seen.percentile(99));
    let firsts = vec![vec![
        format!("{:.1}", of_empty.percentile(50)),
        format!("{:.1}", of_full.percentile(50)),
        format!("{idle:.1}"),
        format!("{busy:.1}"),
        format!("{:.1} {}", busy - idle, Goal::AtMost(50.0).met(busy - idle)),
        waits("granted").to_string(),
        format!("{bypassed} {}", Goal::AtMost(0.0).met(bypassed as f64)),
    ]];
    let rate_head = ["empty cache, GB/s", "full cache, GB/s", "full / empty"];
    let first_head = [
        "empty: median ms",
        "full: median ms",
        "empty: p99 ms",
        "full: p99 ms",
        "p99 more than empty",
        "waits for room",
        "of them refused",
    ];
    let title = format!("lanyard's downloads of {} MB into a full cache, {CLIENTS} clients", LARGE_SIZE / 1_000_000);
    vec![
        Section { title, head: rate_head.map(str::to_owned).to_vec(), rows: rates },
        Section {
            title: "The first byte of these downloads, after a wait for room or none".to_owned(),
            head: first_head.map(str::to_owned).to_vec(),
            rows: firsts,
        },
    ]
}
