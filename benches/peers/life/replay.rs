//! A replay of requests over HTTP, beside the peers.
//!
//! The requests are the first ones of the trace of `LANYARD_TRACE`, or of the one that the bench
//! `cachelife` makes up; the sizes are its sizes, scaled down.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use lanyard::oci::Digest;

use super::{
    blobs::Blobs,
    client::{Tally, get_all},
    proxies::{Cache, Proxy},
    sampler,
    upstream::Upstream,
};
use crate::{
    measuring::Cpus,
    policies::{self, Belady, Lru, Memory, Room, Turns},
    report::Section,
    trace::{Sizes, Trace},
};

/// How many requests are replayed.
const REQUESTS: usize = 24_000;

/// The sizes are divided by this.
const SMALLER: u64 = 350;

/// The cap in percent of the footprint.
const CAP: u64 = 10;

/// No server gets more time than this. What it has not answered by then is not asked for.
const LONGEST: Duration = Duration::from_secs(100);

const CLIENTS: usize = 8;

/// Connections of lanyard to the upstream, as many as it has without the key.
const CONNECTIONS: usize = 16;

/// The requests, with the size of each digest.
struct Replay {
    trace: Trace,
    sizes: Sizes,
    cap: u64,
    requested: u64,
}

impl Replay {
    fn new() -> Replay {
        let whole = std::env::var("LANYARD_TRACE").map_or_else(|_| Trace::synthetic(), |path| Trace::read(&path));
        let trace = beginning(&whole);
        let sizes: Sizes = trace.sizes(1).into_iter().map(|size| (size / SMALLER).max(64)).collect();
        let footprint: u64 = sizes.iter().sum();
        let requested = trace.requests.iter().map(|blob| sizes[*blob as usize]).sum();
        Replay { cap: footprint / 100 * CAP, requested, sizes, trace }
    }

    /// The share of the requested bytes that an order of eviction in memory has.
    fn in_memory(&self, cache: &mut dyn policies::Cache) -> String {
        let requests = (0..).zip(&self.trace.requests);
        let hits: u64 =
            requests.filter(|(now, blob)| cache.ask(**blob, *now)).map(|(_, blob)| self.sizes[*blob as usize]).sum();
        format!("{:.3}", hits as f64 / self.requested as f64)
    }
}

/// The first requests of a trace, with the digests that they ask for, numbered anew.
fn beginning(trace: &Trace) -> Trace {
    let mut numbers = HashMap::new();
    let number = |digest: &u32| {
        let next = numbers.len() as u32;
        *numbers.entry(*digest).or_insert(next)
    };
    let requests = trace.requests.iter().take(REQUESTS).map(number).collect();
    Trace { name: trace.name.clone(), requests, digests: numbers.len() }
}

pub(crate) fn run(cpus: &Cpus) -> Section {
    let replay = Replay::new();
    let blobs = Blobs::of(&replay.sizes);
    let requests: Vec<Digest> = replay.trace.requests.iter().map(|blob| blobs.digests[*blob as usize]).collect();
    let all = [Proxy::Lanyard, Proxy::Hurried, Proxy::Nginx, Proxy::Distribution];
    let mut rows: Vec<_> =
        Proxy::here(&all).into_iter().map(|proxy| row(proxy, &replay, &blobs, &requests, cpus)).collect();
    let next_uses = replay.trace.next_uses();
    let room = || Room::new(&replay.sizes, replay.cap);
    let in_memory: [(&str, &mut dyn policies::Cache); 3] = [
        ("in memory: LRU", &mut Lru::new(room())),
        ("in memory: turns", &mut Turns::new(room(), Memory::FourTurns)),
        ("in memory: Belady", &mut Belady::new(room(), &next_uses)),
    ];
    for (name, cache) in in_memory {
        let mut row = vec![name.to_owned(), replay.in_memory(cache)];
        row.resize(rows[0].len(), String::new());
        rows.push(row);
    }
    let head = [
        "server",
        "byte hits",
        "whole answers",
        "errors",
        "wrong bodies",
        "seconds",
        "most over the cap, MB",
        "by blocks",
        "in one walk",
        "by its own count",
        "ms until at the cap",
        "MB at the end",
    ];
    let title = format!(
        "A replay of {} requests ({}) for {} blobs of {} KB on average; the cap of {:.1} MB is {CAP} % of them",
        replay.trace.requests.len(),
        replay.trace.name,
        replay.sizes.len(),
        replay.sizes.iter().sum::<u64>() / replay.sizes.len() as u64 / 1000,
        replay.cap as f64 / 1e6,
    );
    Section { title, head: head.map(str::to_owned).to_vec(), rows }
}

fn row(proxy: Proxy, replay: &Replay, blobs: &Blobs, requests: &[Digest], cpus: &Cpus) -> Vec<String> {
    let upstream = Upstream::start(blobs, None, &cpus.all);
    let cache = Cache::start(proxy, upstream.port(), replay.cap, CONNECTIONS, &cpus.servers);
    let began = Instant::now();
    let (most, (tally, seconds), freed) = sampler::while_running(&cache, replay.cap, || {
        let requests = requests.iter().take_while(|_| began.elapsed() < LONGEST);
        let tally = get_all(cache.server.port, requests, CLIENTS);
        (tally, began.elapsed().as_secs_f64())
    });
    let Tally { bytes, errors, wrong, first } = tally;
    let hits = 1.0 - upstream.sent() as f64 / bytes as f64;
    let mut row = vec![
        proxy.name(),
        format!("{hits:.3}"),
        first.len().to_string(),
        errors.to_string(),
        wrong.to_string(),
        format!("{seconds:.0}"),
    ];
    row.extend(over(proxy, &most, replay.cap));
    row.push(match freed {
        Some(time) => format!("{:.0}", time.as_secs_f64() * 1e3),
        None => "never".to_owned(),
    });
    row.push(format!("{:.1}", sampler::bytes(&cache) as f64 / 1e6));
    row
}

/// How far over the cap a cache was, in MB: certainly, by blocks, in one walk, by its own count.
pub(super) fn over(proxy: Proxy, most: &sampler::Most, cap: u64) -> [String; 4] {
    let over = |bytes: u64| match (bytes.saturating_sub(cap), proxy) {
        (_, Proxy::Distribution) => "no cap".to_owned(),
        (0, _) => "0".to_owned(),
        (over, _) => format!("{:.2} ({:.1} %)", over as f64 / 1e6, 100.0 * over as f64 / cap as f64),
    };
    [over(most.certain), over(most.blocks), over(most.walked), most.own.map_or(String::new(), over)]
}
