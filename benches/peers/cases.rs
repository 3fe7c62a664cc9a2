//! The cases. Each measures every server in turn, round after round, and reports medians.

use std::{collections::BTreeMap, process::Command, thread, time::Instant};

use crate::{
    client, cold,
    content::{Blob, Content},
    fills, life, manifests,
    measuring::{Cpus, ROUNDS},
    report::{Figures, Goal, Section, ratio},
    servers::{Kind, Server, here},
    start,
};

/// Servers on one half of the processors, clients on the other.
fn halves(cores: usize) -> (String, String) {
    let half = (cores / 2).max(1);
    (format!("0-{}", half - 1), format!("{half}-{}", cores - 1))
}

/// Runs the cases whose name contains one of the words; without words, all cases.
pub(crate) fn run(content: &Content, cores: usize, words: &[String]) -> Vec<Section> {
    let (servers, clients) = halves(cores);
    let cpus = Cpus { servers, all: format!("0-{}", cores - 1) };
    // This process is the client; its threads inherit its processors.
    let pid = std::process::id().to_string();
    let _ = Command::new("taskset").args(["-a", "-c", "-p", &clients, &pid]).output();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let mut sections = Vec::new();
    let cases: [(&str, &dyn Fn() -> Vec<Section>); 12] = [
        ("blobs", &|| vec![blobs(content, &cpus.servers, false)]),
        ("tls", &|| vec![blobs(content, &cpus.servers, true)]),
        ("manifests", &|| manifests::run(content, &cpus).into_iter().collect()),
        ("cold", &|| cold::run(content, &cpus)),
        ("fills", &|| fills::run(content, &cpus)),
        ("life replay", &|| life::replay(&cpus)),
        ("life full", &|| life::full(&cpus)),
        ("life evictions", &|| life::evictions(content, &cpus)),
        ("pushes", &|| vec![pushes(content, &cpus.all)]),
        ("memory", &|| vec![memory(content, &cpus.servers)]),
        ("start", &|| vec![start::run(&cpus)]),
        ("index", &|| vec![start::index(&cpus)]),
    ];
    for (name, case) in cases.iter().filter(|(name, _)| wanted(name)) {
        eprintln!("{name} …");
        sections.extend(case());
    }
    sections
}

/// Bytes per second and processor time per byte.
#[derive(Default, Clone)]
struct Speed {
    rate: Figures,
    cpu: Figures,
}

fn blobs(content: &Content, cpus: &str, tls: bool) -> Section {
    let cases: [(&str, &Blob, usize, usize); 4] = [
        ("1 GB, 1 stream", &content.large, 1, 2),
        ("100 MB, 1 stream", &content.middle, 1, 15),
        ("100 MB, 16 streams", &content.middle, 16, 2),
        ("1 MB, 16 streams", &content.small, 16, 150),
    ];
    let config = client::tls(&content.cert());
    let mut rows = Vec::new();
    for (name, blob, streams, times) in cases {
        let times = if tls { times.div_ceil(2) } else { times };
        let mut speeds: BTreeMap<Kind, Speed> = BTreeMap::new();
        let running: Vec<_> = here().into_iter().map(|kind| Server::start(kind, content, tls, cpus)).collect();
        for round in 0..=ROUNDS {
            for server in &running {
                let (path, port) = (server.blob(&blob.digest), server.port);
                let (began, before) = (Instant::now(), server.cpu());
                let bytes: u64 = thread::scope(|scope| {
                    let stream = || match tls {
                        true => client::get_tls(port, &path, times, &config),
                        false => client::get(port, &path, times),
                    };
                    let streams: Vec<_> = (0..streams).map(|_| scope.spawn(stream)).collect();
                    streams.into_iter().map(|stream| stream.join().unwrap()).sum()
                });
                // The first round only warms the caches.
                if round > 0 {
                    let speed = speeds.entry(server.kind).or_default();
                    speed.rate.push(bytes as f64 / 1e9 / began.elapsed().as_secs_f64());
                    speed.cpu.push((server.cpu() - before).as_secs_f64() * 1e9 / bytes as f64);
                }
            }
        }
        rows.push(compare(name, blob, &speeds, tls));
    }
    let head = ["case", "lanyard GB/s", "nginx", "docker-registry", "lanyard CPU-s/GB", "nginx", "docker-registry"]
        .into_iter()
        .chain(["rate / nginx", "rate / docker-registry", "CPU / nginx"]);
    let title = if tls { "Blobs over TLS 1.3, AES-128-GCM" } else { "Blobs over plain HTTP" };
    Section { title: title.to_owned(), head: head.map(str::to_owned).collect(), rows }
}

fn compare(name: &str, blob: &Blob, speeds: &BTreeMap<Kind, Speed>, tls: bool) -> Vec<String> {
    let of = |kind| speeds.get(&kind).cloned().unwrap_or_default();
    let (ours, nginx, registry) = (of(Kind::Lanyard), of(Kind::Nginx), of(Kind::Distribution));
    let (rate, beside_registry, cpu) = match tls {
        true => (Goal::AtLeast(2.0), Goal::AtLeast(2.0), Goal::AtMost(0.45)),
        false if blob.size <= 1_000_000 => (Goal::AtLeast(1.0), Goal::AtLeast(17.0), Goal::AtMost(1.1)),
        false => (Goal::AtLeast(1.0), Goal::AtLeast(4.0), Goal::AtMost(1.1)),
    };
    vec![
        name.to_owned(),
        ours.rate.text(2),
        nginx.rate.text(2),
        registry.rate.text(2),
        ours.cpu.text(3),
        nginx.cpu.text(3),
        registry.cpu.text(3),
        ratio(ours.rate.median(), nginx.rate.median(), rate),
        ratio(ours.rate.median(), registry.rate.median(), beside_registry),
        ratio(ours.cpu.median(), nginx.cpu.median(), cpu),
    ]
}

/// A push of 1 GB, hashed and synced, beside a plain copy that is synced. Server and client share
/// all processors.
fn pushes(content: &Content, cpus: &str) -> Section {
    let mut seconds: BTreeMap<&str, Figures> = BTreeMap::new();
    let kinds = here().into_iter().filter(|kind| *kind != Kind::Nginx);
    let running: Vec<_> = kinds.map(|kind| Server::start(kind, content, false, cpus)).collect();
    let file = content.file(&content.large);
    // No measurement pays for what another has left unwritten, and the pages of earlier pushes are
    // free again for all servers alike.
    let settled = || {
        rustix::fs::sync();
        running.iter().for_each(|server| server.forget(content, &content.large));
    };
    for _ in 0..ROUNDS {
        for server in &running {
            settled();
            let began = Instant::now();
            client::push(server.port, &file, &content.large);
            seconds.entry(server.kind.name()).or_default().push(began.elapsed().as_secs_f64());
        }
        let (from, to) = (format!("if={}", file.display()), format!("of={}", content.scratch().display()));
        settled();
        let began = Instant::now();
        let copied = Command::new("dd").args([&from, &to, "bs=1M", "conv=fdatasync", "status=none"]).status().unwrap();
        assert!(copied.success());
        seconds.entry("dd conv=fdatasync").or_default().push(began.elapsed().as_secs_f64());
    }
    let of = |name: &str| seconds.get(name).cloned().unwrap_or_default();
    let rate = |name: &str| content.large.size as f64 / 1e9 / of(name).median();
    let ours = rate(Kind::Lanyard.name());
    let rows = [
        (Kind::Lanyard.name(), None),
        (Kind::Distribution.name(), Some(Goal::AtLeast(4.0))),
        ("dd conv=fdatasync", Some(Goal::AtLeast(0.85))),
    ];
    let rows = rows
        .into_iter()
        .map(|(name, goal)| {
            let ratio = goal.map_or(String::new(), |goal| ratio(ours, rate(name), goal));
            vec![name.to_owned(), of(name).text(2), format!("{:.2}", rate(name)), ratio]
        })
        .collect();
    let head = ["who", "seconds", "GB/s", "lanyard's rate / its"];
    Section {
        title: "A push of 1 GB, server and client on all processors".to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows,
    }
}

/// Resident memory: idle, and with streams of the 1 GB blob that are read slowly.
fn memory(content: &Content, cpus: &str) -> Section {
    let mut rows = Vec::new();
    for (name, streams, tls, goal) in [
        ("idle", 0, false, 20.0),
        ("64 streams", 64, false, 30.0),
        ("64 streams, TLS", 64, true, 60.0),
        ("1,000 streams", 1_000, false, 150.0),
    ] {
        let mut row = vec![name.to_owned()];
        for kind in here() {
            let server = Server::start(kind, content, tls, cpus);
            let seen = client::hold(server.port, &server.blob(&content.large.digest), streams, tls, content, || {
                server.memory()
            });
            let met = match kind {
                Kind::Lanyard => format!(" ({})", Goal::AtMost(goal).met(seen)),
                _ => String::new(),
            };
            row.push(format!("{seen:.1}{met}"));
        }
        rows.push(row);
    }
    let head = ["anonymous resident memory, MiB"].into_iter().map(str::to_owned);
    let head = head.chain(here().iter().map(|kind| kind.name().to_owned())).collect();
    Section { title: "Memory".to_owned(), head, rows }
}
