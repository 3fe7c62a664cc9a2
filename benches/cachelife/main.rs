//! How long content lives in a full cache: `cargo bench --bench cachelife`.
//!
//! Replays a trace of blob requests through the order in which lanyard evicts
//! (`lanyard::retention`), and through other orders, in memory. Prints Markdown: the part of the
//! requested bytes that each one had, for caches of five sizes, with the goals; what a kill in the
//! middle costs (`kill.rs`); which images stay whole (`graph.rs`). docs/PERFORMANCE.md has the
//! results. It takes half a minute on one core.
//!
//! `LANYARD_TRACE=PATH` names the trace, a file of one path of a request a line, compressed with
//! zstd: the 725,242 requests of the IBM registries (FAST '18) in gocachemark's
//! `ibm_docker_trace_725k.csv.zst`. Without it a trace with the same published numbers (requests,
//! digests, the share asked for once) is made up, and the output says so; the goals are for the
//! real one.

// A measurement that cannot unwrap a value has failed, and the panic says where.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod graph;
mod kill;
mod policies;
mod queue;
mod trace;

use std::{fs, time::Instant};

use lanyard::retention::{Harvest, Resident, Turn};
use policies::{Belady, Cache, Lru, Memory, Room, S3Fifo, Sieve, Turns};
use trace::{Sizes, Trace};

/// The sizes are drawn with each of these.
const SEEDS: [u64; 3] = [1, 2, 3];

/// The cache in percent of the footprint, and the goals: byte hits of turns over Belady's, and
/// points of the byte hit ratio above least recently used.
const CACHES: [(u64, f64, f64); 5] = [(1, 0.72, 2.0), (2, 0.76, 2.0), (5, 0.82, 0.0), (10, 0.88, 0.0), (20, 0.94, 0.0)];

/// Builds a cache. The last argument has the next use of each request's blob.
type Build = for<'a> fn(Room<'a>, &'a [Option<u32>]) -> Box<dyn Cache + 'a>;

/// The columns; [`LRU`], [`TURNS`] and [`BELADY`] are places in it.
const POLICIES: [(&str, Build); 6] = [
    ("LRU", |room, _| Box::new(Lru::new(room))),
    ("SIEVE", |room, _| Box::new(Sieve::new(room))),
    ("S3-FIFO, small 10 %", |room, _| Box::new(S3Fifo::new(room))),
    ("turns, uses forgotten", |room, _| Box::new(Turns::new(room, Memory::None))),
    ("**turns**", |room, _| Box::new(Turns::new(room, Memory::FourTurns))),
    ("Belady", |room, next_uses| Box::new(Belady::new(room, next_uses))),
];
const LRU: usize = 0;
const TURNS: usize = 4;
const BELADY: usize = 5;

fn main() {
    let began = Instant::now();
    // First, since memory that was used before would hide what it takes.
    let harvest = harvest();
    let trace = std::env::var("LANYARD_TRACE").map_or_else(|_| Trace::synthetic(), |path| Trace::read(&path));
    let next_uses = trace.next_uses();
    println!("Trace: {}; {}.", trace.name, trace.numbers());
    let mut rows = CACHES.map(|_| Vec::new());
    let mut kills = CACHES.map(|_| kill::HOURS.map(|_| Vec::new()));
    for seed in SEEDS {
        let sizes = trace.sizes(seed);
        let footprint: u64 = sizes.iter().sum();
        let requested: u64 = trace.requests.iter().map(|blob| sizes[*blob as usize]).sum();
        println!("Sizes of seed {seed}: footprint {} GB, requested {} GB.", footprint / GB, requested / GB);
        for (((percent, ..), ratios), lost) in CACHES.iter().zip(&mut rows).zip(&mut kills) {
            for (lost, hour) in lost.iter_mut().zip(kill::HOURS) {
                lost.push(kill::points_lost(&trace, &sizes, footprint / 100 * percent, hour));
            }
            ratios.push(POLICIES.map(|(_, build)| {
                let mut cache = build(Room::new(&sizes, footprint / 100 * percent), &next_uses);
                replay(&trace.requests, &sizes, cache.as_mut()) as f64 / requested as f64
            }));
        }
    }
    println!("\n{}\n{}\n{}", table(&rows), kill_table(&kills), graph::table());
    println!("{harvest}\nThe run took {:.0} s.", began.elapsed().as_secs_f64());
}

const GB: u64 = 1_000_000_000;

/// The bytes that were there when they were asked for.
fn replay(requests: &[u32], sizes: &Sizes, cache: &mut dyn Cache) -> u64 {
    let hits = (0_u32..).zip(requests).filter(|(now, blob)| cache.ask(**blob, *now));
    hits.map(|(_, blob)| sizes[*blob as usize]).sum()
}

/// `rows`: for each size of cache the byte hit ratios of the policies, once for each seed.
fn table(rows: &[Vec<[f64; POLICIES.len()]>]) -> String {
    let names = POLICIES.map(|(name, _)| name).join(" | ");
    let mut table = format!("| cache | {names} | turns / Belady | turns − LRU, points |\n");
    table.push_str(&format!("|{}\n", "---|".repeat(POLICIES.len() + 3)));
    for ((percent, of_belady, above_lru), seeds) in CACHES.iter().zip(rows) {
        let ratios: Vec<_> = (0..POLICIES.len())
            .map(|policy| format!("{:.3}", Spread::of(seeds.iter().map(|ratios| ratios[policy])).median))
            .collect();
        let ratio = Spread::of(seeds.iter().map(|ratios| ratios[TURNS] / ratios[BELADY]));
        let points = Spread::of(seeds.iter().map(|ratios| 100.0 * (ratios[TURNS] - ratios[LRU])));
        let (ratio, points) = (ratio.against(*of_belady, 3), points.against(*above_lru, 1));
        table.push_str(&format!("| {percent} % | {} | {ratio} | {points} |\n", ratios.join(" | ")));
    }
    table
}

/// `kills`: for each size of cache and each length of an hour the points that a kill in the middle
/// costs over the next tenth, once for each seed.
fn kill_table(kills: &[[Vec<f64>; kill::HOURS.len()]]) -> String {
    let hours = kill::HOURS.map(|hour| format!("an hour is {hour} requests")).join(" | ");
    let mut table = format!("| killed, cache | {hours} |\n|{}\n", "---|".repeat(1 + kill::HOURS.len()));
    for ((percent, ..), lost) in CACHES.iter().zip(kills) {
        let cells = lost.each_ref().map(|seeds| Spread::of(seeds.iter().copied()).within(kill::MOST_LOST, 2));
        table.push_str(&format!("| {percent} % | {} |\n", cells.join(" | ")));
    }
    table
}

/// The least, the median and the most over the seeds.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Spread {
        let mut figures: Vec<_> = figures.collect();
        figures.sort_by(f64::total_cmp);
        Spread { least: figures[0], median: figures[figures.len() / 2], most: figures[figures.len() - 1] }
    }

    /// The figures and the goal, which each seed has to meet.
    fn against(&self, goal: f64, digits: usize) -> String {
        let Spread { least, median, most } = self;
        let met = if *least >= goal { "met:" } else { "**missed**:" };
        format!("{median:.digits$} ({least:.digits$}–{most:.digits$}) {met} ≥ {goal}")
    }

    /// The same where no seed may exceed the goal.
    fn within(&self, goal: f64, digits: usize) -> String {
        let Spread { least, median, most } = self;
        let met = if *most <= goal { "met:" } else { "**missed**:" };
        format!("{median:.digits$} ({least:.digits$}–{most:.digits$}) {met} ≤ {goal}")
    }
}

/// Time and memory of one harvest of 1,000,000 blobs. Their scores fall, so that each one is kept
/// for a while.
fn harvest() -> String {
    const BLOBS: u32 = 1_000_000;
    let residents = (0..BLOBS).map(|n| {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_be_bytes());
        Resident { key, size: 1, last: (BLOBS - n).into(), uses: (n % 20) as u16 }
    });
    let mut turn = Turn::default();
    turn.evicted(&Resident { key: 0, size: 1, last: 0, uses: 1 }, 1);
    let (before, began) = (memory(), Instant::now());
    let mut harvest = Harvest::of(residents, BLOBS as usize, turn, BLOBS.into());
    let (seconds, kib) = (began.elapsed().as_secs_f64(), memory().saturating_sub(before));
    let first = harvest.take(|key| Some(Resident { key: *key, size: 1, last: 1, uses: 19 }));
    assert!(first.is_some(), "the last blob of the scan has the lowest score");
    let met = if seconds <= 2.0 && kib <= 1024 { "met:" } else { "**missed**:" };
    format!("A harvest of 1,000,000 blobs: {:.0} ms, {kib} KiB, {met} ≤ 2 s, ≤ 1 MiB.", seconds * 1e3)
}

/// The anonymous resident memory of this process, in KiB.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
