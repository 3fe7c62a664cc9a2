//! A warm manifest of 2 KB, 64 connections of `wrk`.

use std::{collections::BTreeMap, process::Command};

use crate::{
    client,
    content::Content,
    measuring::{ACCEPT, Cpus, ROUNDS},
    report::{Figures, Goal, Section, ratio},
    servers::{Kind, Server, finds},
};

const SERVERS: [Kind; 5] = [Kind::Lanyard, Kind::Opening, Kind::Nginx, Kind::Distribution, Kind::Logging];

/// How many requests come before the measurement.
const WARMING: usize = 500;

/// The figures of one server.
#[derive(Default, Clone)]
struct Seen {
    rate: Figures,
    /// The 99th percentile of the latency, in milliseconds.
    p99: Figures,
    /// Processor time, in microseconds for each request.
    cpu: Figures,
}

/// Measures the manifests. None without `wrk`.
pub(crate) fn run(content: &Content, cpus: &Cpus) -> Option<Section> {
    if !finds("wrk") {
        eprintln!("left out: wrk is not here");
        return None;
    }
    let kinds: Vec<_> = SERVERS.into_iter().filter(|kind| kind.is_here()).collect();
    let mut all: BTreeMap<Kind, Seen> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for kind in &kinds {
            // Each alone: both lanyards have the same folder.
            let server = Server::start(*kind, content, false, &cpus.servers);
            client::get(server.port, &server.manifest(&content.manifest.digest), WARMING);
            let (rate, p99, cpu) = measure(&server, content);
            let seen = all.entry(*kind).or_default();
            seen.rate.push(rate);
            seen.p99.push(p99);
            seen.cpu.push(cpu);
        }
    }
    let ours = all.get(&Kind::Lanyard).cloned().unwrap_or_default();
    let rows = kinds.into_iter().map(|kind| {
        let theirs = all.get(&kind).cloned().unwrap_or_default();
        let beside = |ours: &Figures, theirs: &Figures, goal| ratio(ours.median(), theirs.median(), goal);
        let plain = |ours: &Figures, theirs: &Figures| format!("{:.2}x", ours.median() / theirs.median());
        let (cpu, rate, p99) = match kind {
            Kind::Lanyard | Kind::Logging => Default::default(),
            Kind::Opening => (
                beside(&ours.cpu, &theirs.cpu, Goal::AtMost(0.8)),
                plain(&ours.rate, &theirs.rate),
                beside(&ours.p99, &theirs.p99, Goal::AtMost(1.0)),
            ),
            Kind::Nginx => {
                (plain(&ours.cpu, &theirs.cpu), plain(&ours.rate, &theirs.rate), plain(&ours.p99, &theirs.p99))
            }
            Kind::Distribution => (
                plain(&ours.cpu, &theirs.cpu),
                beside(&ours.rate, &theirs.rate, Goal::AtLeast(100.0)),
                plain(&ours.p99, &theirs.p99),
            ),
        };
        vec![kind.name().to_owned(), theirs.rate.text(0), theirs.p99.text(2), theirs.cpu.text(1), cpu, rate, p99]
    });
    let head = ["server", "requests/s", "p99 ms", "µs CPU per request"].into_iter();
    let head = head.chain(["lanyard's CPU / its", "lanyard's rate / its", "lanyard's p99 / its"]);
    Some(Section {
        title: "A warm manifest of 2 KB, 64 connections".to_owned(),
        head: head.map(str::to_owned).collect(),
        rows: rows.collect(),
    })
}

/// Requests per second, the 99th percentile in milliseconds, and processor time for each request.
fn measure(server: &Server, content: &Content) -> (f64, f64, f64) {
    let before = server.cpu();
    let Wrk { rate, p99, requests } = wrk(server.port, &server.manifest(&content.manifest.digest), 64, 3);
    let cpu = (server.cpu() - before).as_secs_f64();
    (rate, p99, cpu * 1e6 / requests)
}

/// What `wrk` says.
pub(crate) struct Wrk {
    /// Requests per second.
    pub(crate) rate: f64,
    /// The 99th percentile of the latency, in milliseconds.
    pub(crate) p99: f64,
    pub(crate) requests: f64,
}

/// Asks for a path for so many seconds.
pub(crate) fn wrk(port: u16, path: &str, connections: usize, seconds: u64) -> Wrk {
    let url = format!("http://127.0.0.1:{port}{path}");
    let (connections, seconds) = (format!("-c{connections}"), format!("-d{seconds}s"));
    let output =
        Command::new("wrk").args(["-t1", &connections, &seconds, "--latency", "-H", ACCEPT, &url]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!said.contains("Non-2xx"), "{said}");
    // Read at the start of a line: the first table of `wrk` has percentages of its own.
    let number = |named: &str| -> f64 {
        let rest = said.lines().find_map(|line| line.trim_start().strip_prefix(named));
        let rest = rest.unwrap_or_else(|| panic!("{said}")).trim_start_matches([':', ' ']);
        rest.split_whitespace().next().map(milliseconds_or_number).unwrap()
    };
    let requests: f64 = said.lines().find_map(|l| l.trim().split_once(" requests in ")).unwrap().0.parse().unwrap();
    Wrk { rate: number("Requests/sec"), p99: number("99%"), requests }
}

/// `1.50ms`, `800.00us`, `1.2s` in milliseconds. A number without a unit is itself.
fn milliseconds_or_number(text: &str) -> f64 {
    let (digits, factor) = match text {
        _ if text.ends_with("us") => (&text[..text.len() - 2], 1e-3),
        _ if text.ends_with("ms") => (&text[..text.len() - 2], 1.0),
        _ if text.ends_with('s') => (&text[..text.len() - 1], 1e3),
        _ => (text, 1.0),
    };
    digits.parse::<f64>().unwrap() * factor
}
