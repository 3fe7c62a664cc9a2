//! What evictions cost warm requests (K11): a manifest and a blob of 1 MB of a mirrored repository,
//! with and without evictions of other content, in turn.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    folder::{self, NAMESPACE},
    proxies::{ask_socket, mirror, wait_until_counted},
    upstream::REPOSITORY,
};
use crate::{
    client,
    content::Content,
    manifests::wrk,
    measuring::{Cpus, ROUNDS},
    report::{Figures, Goal, Section, ratio},
    servers::{Server, finds},
};

/// The blobs that are there to be evicted, and their size.
const BLOBS: usize = 20_000;
const SIZE: u64 = 4096;

/// So many are evicted at once, so often: 500 in a second.
const AT_ONCE: u64 = 25;
const EVERY: Duration = Duration::from_millis(50);

/// The threads of lanyard that answer requests, by their name.
const WORKERS: &str = "actix-rt";

/// How long a measurement takes, in seconds.
const SECONDS: u64 = 2;

/// Figures with evictions or without.
#[derive(Default)]
struct Seen {
    cpu: Figures,
    p99: Figures,
    rate: Figures,
    evicted: Figures,
}

pub(crate) fn run(content: &Content, cpus: &Cpus) -> Option<Section> {
    if !finds("wrk") {
        eprintln!("left out: wrk is not here");
        return None;
    }
    let data = tempfile::tempdir().unwrap();
    let start = || Server::lanyard(data.path(), &mirror(1, 1), &cpus.servers).listening();
    drop(start());
    folder::blobs(data.path(), BLOBS, SIZE);
    let blob = folder::pulled(data.path(), &fs::read(content.file(&content.small)).unwrap(), "");
    let manifest =
        folder::pulled(data.path(), &fs::read(content.file(&content.manifest)).unwrap(), crate::content::OCI_IMAGE);
    let server = start();
    wait_until_counted(data.path(), true);
    let mut rows = Vec::new();
    for (name, path, connections) in [
        ("a manifest of 2 KB, 64 connections", format!("manifests/{manifest}"), 64),
        ("a blob of 1 MB, 16 connections", format!("blobs/{blob}"), 16),
    ] {
        let path = format!("/v2/{REPOSITORY}/{path}?ns={NAMESPACE}");
        client::get(server.port, &path, 100);
        let mut seen: BTreeMap<bool, Seen> = BTreeMap::new();
        for _ in 0..ROUNDS {
            for evicting in [false, true] {
                let stop = AtomicBool::new(!evicting);
                let (measured, evicted) = thread::scope(|scope| {
                    let evictions = scope.spawn(|| evict(data.path(), &stop));
                    let before = server.cpu_of_threads(WORKERS);
                    let measured = wrk(server.port, &path, connections, SECONDS);
                    let cpu = server.cpu_of_threads(WORKERS) - before;
                    stop.store(true, Ordering::Relaxed);
                    ((measured, cpu), evictions.join().unwrap())
                });
                let (measured, cpu) = measured;
                let seen = seen.entry(evicting).or_default();
                seen.cpu.push(cpu.as_secs_f64() * 1e6 / measured.requests);
                seen.p99.push(measured.p99);
                seen.rate.push(measured.rate);
                seen.evicted.push(evicted);
            }
        }
        let (idle, busy) = (&seen[&false], &seen[&true]);
        rows.push(vec![
            name.to_owned(),
            busy.evicted.text(0),
            idle.rate.text(0),
            busy.rate.text(0),
            idle.cpu.text(1),
            busy.cpu.text(1),
            idle.p99.text(2),
            busy.p99.text(2),
            ratio(busy.cpu.median(), idle.cpu.median(), Goal::AtMost(1.05)),
            ratio(busy.p99.median(), idle.p99.median(), Goal::AtMost(1.2)),
        ]);
    }
    let head = [
        "warm",
        "evicted blobs/s",
        "idle: requests/s",
        "evicting",
        "idle: µs CPU of the workers per request",
        "evicting",
        "idle: p99 ms",
        "evicting",
        "CPU, evicting / idle",
        "p99, evicting / idle",
    ];
    Some(Section {
        title: "Warm requests to lanyard while it evicts, on the processors of the servers".to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows,
    })
}

/// Evicts until `stop`. Returns the blobs per second.
fn evict(data: &std::path::Path, stop: &AtomicBool) -> f64 {
    let (began, mut evicted, mut due) = (Instant::now(), 0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let answer = ask_socket(data, "POST", &format!("/api/v1/trim?free={}", AT_ONCE * SIZE));
        let blobs = answer.split("\"blobs\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
        let blobs: u64 = blobs.unwrap_or_else(|| panic!("{answer}")).parse().unwrap();
        assert!(blobs > 0, "nothing is left to be evicted");
        evicted += blobs;
        due += EVERY;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    evicted as f64 / began.elapsed().as_secs_f64().max(EVERY.as_secs_f64())
}
