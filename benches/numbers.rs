//! The table of docs/NUMBERS.md: `cargo bench --bench numbers` prints it. Each row runs the release
//! binary in front of the Docker Hub stand-in, counts exactly, and measures time and memory. The
//! whole table takes about two minutes.
//!
//! `cargo bench --bench numbers -- truncations` runs the rows whose name contains the word.

// A measurement that cannot unwrap a value has failed, and the panic says where.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/hub/mod.rs"]
mod hub;
#[path = "../tests/it/lanyard.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod lanyard;
#[path = "../tests/it/wire.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod wire;

use std::{
    fs,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use hub::{Cut, Fault, Gate, Hub, On, digest_of};
use lanyard::Lanyard;
use wire::{Connection, blob, eventually, get, head, manifest};

const REPO: &str = "library/busybox";
const MIB: u64 = 1 << 20;
const SIZE: u64 = 64 * MIB;
const RATE: u64 = 10_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// One line of the table.
struct Row {
    what: &'static str,
    goal: &'static str,
    seen: String,
    met: bool,
}

fn row(what: &'static str, goal: &'static str, seen: String, met: bool) -> Row {
    Row { what, goal, seen, met }
}

/// A part of the table.
type Run = fn() -> Vec<Row>;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let runs: [(&str, Run); 6] = [
        ("clients", hundred_clients),
        ("leaver", first_client_leaves),
        ("kill", kill_at_half),
        ("truncations", truncations),
        ("blackhole", black_hole),
        ("ttl", one_tag_a_thousand_times),
    ];
    println!("| case | goal | seen | |\n|---|---|---|---|");
    let mut missed = 0;
    for (name, run) in runs {
        if !wanted.is_empty() && !wanted.iter().any(|w| name.contains(w.as_str())) {
            continue;
        }
        for Row { what, goal, seen, met } in run() {
            println!("| {what} | {goal} | {seen} | {} |", if met { "met" } else { "**missed**" });
            missed += usize::from(!met);
        }
    }
    println!("\n{} cores; {missed} goals missed", thread::available_parallelism().map_or(0, usize::from));
}

fn mirror(hub: &Hub, more: &str) -> Lanyard {
    Lanyard::start(&format!("{more}\n[[upstream]]\nname = \"docker.io\"\nurl = \"{}\"\n", hub.url()))
}

/// Downloads a blob and compares it byte by byte on the way, without holding it. Returns the time
/// that the download took, and the time of its first byte.
fn stream(port: u16, path: &str, expected: &[u8]) -> (Duration, Option<Instant>) {
    let started = Instant::now();
    let mut client = Connection::open(port);
    client.request("GET", path, &[("Connection", "close")]);
    assert_eq!(client.head().unwrap().0, 200);
    assert_eq!(client.read_body(1), expected[..1]);
    let first = Instant::now();
    let mut at = 1;
    while at < expected.len() {
        let piece = client.read_body(256 << 10);
        assert!(!piece.is_empty() && *piece == expected[at..at + piece.len()], "wrong or missing bytes at {at}");
        at += piece.len();
    }
    (started.elapsed(), Some(first))
}

/// The peak of the resident memory, in MiB.
fn peak_memory(lanyard: &Lanyard) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", lanyard.pid().unwrap_or(0))).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) / 1024
}

fn hundred_clients() -> Vec<Row> {
    let hub = Hub::builder().bytes_per_second(RATE).start();
    let image = hub.image(REPO, "latest").layer(SIZE).publish();
    let layer = image.layer(0).to_owned();
    // A single client's download without a mirror, in the same run.
    let direct = {
        let open = Hub::builder().open().without_cdn().bytes_per_second(RATE).start();
        let single = open.image(REPO, "latest").layer(SIZE).publish();
        let bytes = open.blob(single.layer(0)).unwrap();
        stream(open.address().port(), &blob(REPO, single.layer(0)), &bytes).0
    };
    let expected = hub.blob(&layer).unwrap();
    let lanyard = mirror(&hub, "");
    let barrier = Barrier::new(100);
    let results: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..100)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    stream(lanyard.port(), &blob(REPO, &layer), &expected)
                })
            })
            .collect();
        clients.into_iter().map(|c| c.join().unwrap_or_else(|_| panic!("a client failed"))).collect()
    });
    let memory = peak_memory(&lanyard);
    let slowest = results.iter().map(|(took, _)| *took).max().unwrap_or_default();
    let upstream_first = hub.requests().iter().filter(|r| r.is_blob_get(&layer)).find_map(|r| r.first_byte);
    let first_byte = results
        .iter()
        .filter_map(|(_, first)| Some(first.as_ref()?.saturating_duration_since(upstream_first?)))
        .max()
        .unwrap_or(Duration::MAX);
    let (gets, bytes) = (hub.blob_gets(&layer), hub.blob_bytes_sent(&layer));
    let ratio = slowest.as_secs_f64() / direct.as_secs_f64();
    vec![
        row("100 clients, one cold 64 MiB blob, 10 MB/s upstream: GETs", "1", gets.to_string(), gets == 1),
        row("… bytes from upstream", "1.00x", format!("{:.2}x", bytes as f64 / SIZE as f64), bytes == SIZE),
        row(
            "… slowest client against one direct download",
            "≤ 1.15x",
            format!("{ratio:.3}x ({:.2} s, {:.2} s)", slowest.as_secs_f64(), direct.as_secs_f64()),
            ratio <= 1.15,
        ),
        row(
            "… first byte at every client after upstream's",
            "≤ 100 ms",
            format!("{:.1} ms", first_byte.as_secs_f64() * 1e3),
            first_byte <= Duration::from_millis(100),
        ),
        row("… peak resident memory", "< 128 MiB", format!("{memory} MiB"), memory < 128),
    ]
}

fn first_client_leaves() -> Vec<Row> {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(SIZE).publish();
    let layer = image.layer(0).to_owned();
    let lanyard = mirror(&hub, "");
    let gate = Gate::shut();
    hub.fault(On::blob(&layer), Fault::StallAt { bytes: SIZE / 2, gate: gate.clone() });
    let whole = thread::scope(|scope| {
        let mut first = Connection::open(lanyard.port());
        first.request("GET", &blob(REPO, &layer), &[]);
        let _ = first.head();
        let others: Vec<_> = (0..9).map(|_| scope.spawn(|| get(lanyard.port(), &blob(REPO, &layer)))).collect();
        first.read_body((SIZE / 2 - 1) as usize);
        drop(first);
        gate.open();
        others.into_iter().filter_map(|o| o.join().ok()).filter(|a| digest_of(&a.body) == layer).count()
    });
    let cached = get(lanyard.port(), &blob(REPO, &layer)).outcome() == "hit";
    let gets = hub.blob_gets(&layer);
    vec![row(
        "the first of ten clients leaves at 50 %",
        "9 whole, cached, 1 GET",
        format!("{whole} whole, {}, {gets} GET", if cached { "cached" } else { "not cached" }),
        whole == 9 && cached && gets == 1,
    )]
}

fn kill_at_half() -> Vec<Row> {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(SIZE).publish();
    let layer = image.layer(0).to_owned();
    let mut lanyard = mirror(&hub, "");
    let gate = Gate::shut();
    hub.fault(On::blob(&layer), Fault::StallAt { bytes: SIZE / 2, gate: gate.clone() });
    let mut client = Connection::open(lanyard.port());
    client.request("GET", &blob(REPO, &layer), &[]);
    let _ = client.head();
    client.read_body((SIZE / 2) as usize);
    gate.wait_for_arrivals(1, PATIENCE);
    lanyard.kill9();
    lanyard.restart();
    hub.reset_counts();
    let right = digest_of(&get(lanyard.port(), &blob(REPO, &layer)).body) == layer;
    let share = hub.blob_bytes_sent(&layer) as f64 * 100.0 / SIZE as f64;
    vec![row("kill -9 at 50 %: the next pull downloads", "≤ 55 %", format!("{share:.1} %"), right && share <= 55.0)]
}

fn truncations() -> Vec<Row> {
    const COUNT: u64 = 1_000;
    const LENGTH: u64 = 200_000;
    let hub = Hub::builder().without_ranges().start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror(&hub, "");
    let next = std::sync::atomic::AtomicU64::new(0);
    let complete: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..32)
            .map(|_| {
                scope.spawn(|| {
                    let mut complete = 0;
                    loop {
                        let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if n >= COUNT {
                            return complete;
                        }
                        complete += usize::from(truncated(&hub, &lanyard, n, LENGTH));
                    }
                })
            })
            .collect();
        clients.into_iter().map(|c| c.join().unwrap_or(1)).sum()
    });
    let stored: usize = fs::read_dir(lanyard.data_dir().join("blobs/sha256")).map_or(0, |folders| {
        folders.flatten().map(|folder| fs::read_dir(folder.path()).map_or(0, |files| files.count())).sum()
    });
    vec![row(
        "1,000 truncations at random offsets, FIN and RST",
        "0 cached, 0 complete-looking",
        format!("{stored} cached, {complete} complete-looking, {} answers cut", hub.any_blob_gets()),
        stored == 0 && complete == 0 && hub.any_blob_gets() as u64 >= COUNT,
    )]
}

/// Whether a blob came through as if it were whole although every download of it ended early.
fn truncated(hub: &Hub, lanyard: &Lanyard, n: u64, length: u64) -> bool {
    // A fixed sequence (splitmix64), so that a run can be repeated.
    let mut mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 31;
    let body: Vec<u8> =
        (0..length).map(|i| ((i * 31).wrapping_add(n * 7) % 251) as u8).chain(n.to_le_bytes()).collect();
    let digest = hub.put_blob(body);
    let how = if n.is_multiple_of(2) { Cut::Fin } else { Cut::Rst };
    hub.fault(On::blob(&digest).times(2), Fault::CutAfter { bytes: mixed % length, how });
    hub.fault(On::blob(&digest).always(), Fault::status(404));
    let mut client = Connection::open(lanyard.port());
    client.request("GET", &blob(REPO, &digest), &[("Connection", "close")]);
    client.answer("GET").is_ok_and(|answer| answer.status == 200 && answer.looks_complete())
}

fn black_hole() -> Vec<Row> {
    const TAGS: usize = 50;
    let hub = Hub::start();
    let images: Vec<_> =
        (0..TAGS).map(|n| hub.image(REPO, &format!("v{n}")).layer(1000 + n as u64).publish()).collect();
    let lanyard = mirror(&hub, "[cache]\ntag_ttl = \"0s\"");
    // A pull: tag, manifest by digest, config, layer.
    let pull = |n: usize| {
        let image = &images[n % TAGS];
        let started = Instant::now();
        let tag = head(lanyard.port(), &manifest(REPO, &image.tag));
        assert_eq!(tag.status, 200);
        assert_eq!(get(lanyard.port(), &manifest(REPO, &image.digest)).status, 200);
        for digest in image.blobs() {
            assert_eq!(get(lanyard.port(), &blob(REPO, digest)).status, 200);
        }
        started.elapsed()
    };
    (0..TAGS).map(pull).for_each(|_| {});
    let p99 = |mut all: Vec<Duration>| {
        all.sort_unstable();
        all[all.len() * 99 / 100]
    };
    let well = p99((0..1000).map(pull).collect());
    hub.go_deaf(true);
    hub.end_connections();
    let dark: Vec<_> = (0..1000).map(pull).collect();
    hub.go_deaf(false);
    let slowest = dark.iter().max().copied().unwrap_or_default();
    let dark = p99(dark);
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    vec![row(
        "upstream black-holed: p99 of 1,000 cached pulls, every tag due",
        "+ ≤ 50 ms",
        format!("{:.1} ms → {:.1} ms (slowest {:.0} ms)", ms(well), ms(dark), ms(slowest)),
        dark <= well + Duration::from_millis(50),
    )]
}

fn one_tag_a_thousand_times() -> Vec<Row> {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror(&hub, "");
    for _ in 0..1000 {
        assert_eq!(get(lanyard.port(), &manifest(REPO, "latest")).status, 200);
    }
    let asked = hub.count(|r| r.is_manifest("GET") || r.is_manifest("HEAD"));
    eventually("it is counted", || asked > 0);
    vec![row("1,000 pulls of one tag within its TTL: upstream requests", "1", asked.to_string(), asked == 1)]
}
