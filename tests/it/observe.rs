//! The view of an operator: one line for each request, the counters, and an orderly stop.

use std::{
    io::Read,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    hub::{Cut, Fault, Gate, Hub, On, digest_of},
    lanyard::Lanyard,
    pull::{config, mirror, mirror_with},
    wire::{Connection, ask, blob, eventually, get, head, manifest},
};

const REPO: &str = "library/busybox";
const PATIENCE: Duration = Duration::from_secs(60);

/// The access log's lines so far, in a log of JSON.
fn access(lanyard: &Lanyard) -> Vec<Value> {
    let logs = lanyard.logs();
    let lines = logs.lines().filter(|line| line.starts_with('{') && !line.starts_with("{ "));
    let all = lines.map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    all.filter(|line| line["target"] == "access").collect()
}

/// The one line about `path`, once it is there.
fn line(lanyard: &Lanyard, path: &str, nth: usize) -> Value {
    let mut found = None;
    eventually("the line is written", || {
        found = access(lanyard).into_iter().filter(|line| line["path"] == path).nth(nth);
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn every_request_is_one_line_with_its_story() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(100_000).publish();
    let lanyard = mirror_with(&hub, "[log]\nformat = \"json\"");
    let (tag, layer) = (manifest(REPO, "latest"), blob(REPO, image.layer(0)));
    hub.fault(On::blob(image.layer(0)), Fault::Slow { bytes_per_second: 1_000_000 });
    get(lanyard.port(), &tag);
    ask(lanyard.port(), "GET", &layer, &[("User-Agent", "docker/28\tx")]);
    // Its line is written after its client has all of it.
    let filled = line(&lanyard, &layer, 0);
    eventually("it is stored", || head(lanyard.port(), &layer).outcome() == "hit");
    ask(lanyard.port(), "GET", &layer, &[("Range", "bytes=10-19")]);
    get(lanyard.port(), &manifest(REPO, "missing"));
    get(lanyard.port(), "/nothing");

    let first = line(&lanyard, &tag, 0);
    let expected = [
        ("method", Value::from("GET")),
        ("status", 200.into()),
        ("repo", "docker.io/library/busybox".into()),
        ("digest", image.digest.as_str().into()),
        ("outcome", "filled".into()),
        ("upstream", "docker.io".into()),
        ("bytes", image.bytes.len().into()),
        ("client", "127.0.0.1".into()),
        ("level", "INFO".into()),
    ];
    for (field, value) in expected {
        assert_eq!(first[field], value, "{field}");
    }
    assert!(first["duration_ms"].is_u64() && first["upstream_ms"].is_u64() && first["timestamp"].is_string());
    assert!(first["duration_ms"].as_u64() >= first["upstream_ms"].as_u64(), "{first}");
    assert!(first.get("aborted").is_none() && first.get("cut").is_none());

    assert_eq!((&filled["outcome"], &filled["bytes"]), (&"filled".into(), &100_000.into()));
    assert!(filled["duration_ms"].as_u64().unwrap() >= 50, "to the end of the body: {filled}");
    assert_eq!(filled["user_agent"], "docker/28\\tx", "nothing drives a terminal");
    let missing = line(&lanyard, &manifest(REPO, "missing"), 0);
    assert_eq!((&missing["status"], &missing["repo"]), (&404.into(), &"docker.io/library/busybox".into()));
    assert_eq!(line(&lanyard, "/nothing", 0)["status"], 404);
    let part = access(&lanyard).into_iter().find(|line| line["status"] == 206).unwrap();
    assert_eq!((&part["bytes"], &part["outcome"]), (&10.into(), &"hit".into()));
    for path in [&tag, &manifest(REPO, "missing"), "/nothing"] {
        assert_eq!(access(&lanyard).iter().filter(|line| line["path"] == *path).count(), 1, "{path}");
    }
}

#[test]
fn a_client_that_leaves_is_marked() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(4 << 20).layer(1 << 20).publish();
    let lanyard = mirror_with(&hub, "[log]\nformat = \"json\"");
    let layer = blob(REPO, image.layer(0));
    let gate = Gate::shut();
    hub.fault(On::blob(image.layer(0)), Fault::StallAt { bytes: 1 << 20, gate: gate.clone() });
    let mut client = Connection::open(lanyard.port());
    client.request("GET", &layer, &[]);
    assert_eq!(client.head().unwrap().0, 200);
    client.read_body(1000);
    drop(client);
    let left = line(&lanyard, &layer, 0);
    assert_eq!((&left["aborted"], &left["outcome"], &left["status"]), (&true.into(), &"filled".into(), &200.into()));
    assert!(left["bytes"].as_u64().unwrap() < 4 << 20, "{left}");
    assert_eq!(value(&lanyard, "lanyard_requests_aborted_total"), 1);
    gate.open();
    // An answer that lanyard cuts is marked otherwise: its client did not leave.
    // It has begun before the digest is known to be wrong.
    let slow = Fault::Slow { bytes_per_second: 2 << 20 };
    hub.fault(On::blob(image.layer(1)), Fault::All(vec![Fault::FlipByte { at: 5 }, slow]));
    let path = blob(REPO, image.layer(1));
    assert!(!get(lanyard.port(), &path).looks_complete());
    let cut = line(&lanyard, &path, 0);
    assert!(cut["cut"] == true && cut.get("aborted").is_none(), "{cut}");
    assert_eq!(value(&lanyard, "lanyard_requests_aborted_total"), 1);
}

/// The value of a series; 0 before it exists.
fn value(lanyard: &Lanyard, series: &str) -> u64 {
    let text = get(lanyard.port(), "/metrics").text();
    let of = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse::<f64>().ok();
    text.lines().find_map(of).unwrap_or_default() as u64
}

fn of_hub(series: &str) -> String {
    format!("lanyard_{series}{{upstream=\"docker.io\"}}")
}

fn asked(kind: &str) -> String {
    format!("lanyard_upstream_requests_total{{upstream=\"docker.io\",kind=\"{kind}\"}}")
}

fn requests(kind: &str, code: &str, outcome: &str) -> String {
    format!("lanyard_requests_total{{kind=\"{kind}\",code=\"{code}\",outcome=\"{outcome}\"}}")
}

#[track_caller]
fn assert_values(lanyard: &Lanyard, expected: &[(String, u64)]) {
    for (series, count) in expected {
        assert_eq!(value(lanyard, series), *count, "{series} in\n{}", get(lanyard.port(), "/metrics").text());
    }
}

#[test]
fn the_counters_count() {
    let hub = Hub::builder().rate_limit(100, 76).start();
    let image = hub.image(REPO, "latest").layer(1 << 20).publish();
    let lanyard = mirror_with(&hub, "[cache]\ntag_ttl = \"0s\"\nnegative_ttl = \"1h\"");
    let (tag, layer) = (manifest(REPO, "latest"), blob(REPO, image.layer(0)));
    let zero = ["fills_total", "fill_joins_total", "tag_checks_total", "upstream_received_bytes_total"];
    assert_values(&lanyard, &zero.map(|series| (of_hub(series), 0)));
    assert!(get(lanyard.port(), "/metrics").text().contains(&format!("{} 0", of_hub("fills_total"))), "from the start");

    // Pulled, with one break; then pulled again.
    get(lanyard.port(), &tag);
    hub.fault(On::blob(image.layer(0)), Fault::CutAfter { bytes: 1000, how: Cut::Fin });
    let gate = Gate::shut();
    hub.fault(On::blob(image.layer(0)), Fault::StallAt { bytes: 1000, gate: gate.clone() });
    thread::scope(|scope| {
        let first = scope.spawn(|| get(lanyard.port(), &layer));
        assert!(gate.wait_for_arrivals(1, PATIENCE));
        assert_values(&lanyard, &[("lanyard_fills_active".into(), 1)]);
        let second = scope.spawn(|| get(lanyard.port(), &layer));
        eventually("the second has joined", || value(&lanyard, &of_hub("fill_joins_total")) == 1);
        // The request itself, and the two downloads.
        assert_values(&lanyard, &[("lanyard_requests_in_flight".into(), 3)]);
        gate.open();
        assert_eq!((first.join().unwrap().outcome(), second.join().unwrap().outcome()), ("filled", "joined"));
    });
    eventually("it is stored", || value(&lanyard, "lanyard_fills_active") == 0);
    assert_eq!(get(lanyard.port(), &layer).outcome(), "hit");
    assert_eq!(get(lanyard.port(), &tag).outcome(), "revalidated");
    for _ in 0..3 {
        get(lanyard.port(), &manifest(REPO, "missing"));
    }
    // The body of a redirect is skipped; every other byte that came is counted.
    let told = hub.requests().iter().filter(|r| r.status != 307).map(|r| r.bytes_sent).sum();
    let cached = (1 << 20) + image.bytes.len() as u64;
    assert_values(
        &lanyard,
        &[
            (requests("manifest", "2xx", "filled"), 1),
            (requests("manifest", "2xx", "revalidated"), 1),
            (requests("manifest", "4xx", "none"), 3),
            (requests("blob", "2xx", "filled"), 1),
            (requests("blob", "2xx", "joined"), 1),
            (requests("blob", "2xx", "hit"), 1),
            (of_hub("fills_total"), 1),
            (of_hub("fill_joins_total"), 1),
            (of_hub("fills_resumed_total"), 1),
            (of_hub("fills_failed_total"), 0),
            (of_hub("tag_checks_total"), 1),
            (of_hub("upstream_received_bytes_total"), told),
            (asked("manifest"), hub.count(|r| r.path.contains("/manifests/") && r.method == "GET") as u64),
            (asked("manifest_head"), 1),
            (asked("blob"), 2),
            (asked("token"), hub.token_calls() as u64),
            (of_hub("upstream_errors_total"), 0),
            (of_hub("upstream_ratelimit_limit"), 100),
            // The upstream's last statement; the stand-in does not say that the missing tag cost
            // one more.
            (of_hub("upstream_ratelimit_remaining"), 75),
            (of_hub("upstream_circuit_open"), 0),
            ("lanyard_cache_bytes{part=\"cached\"}".into(), cached),
            ("lanyard_cache_blobs".into(), 2),
            ("lanyard_requests_aborted_total".into(), 0),
            ("lanyard_requests_in_flight".into(), 1),
        ],
    );
}

/// Bytes out are exact, and the circuit shows when it is open and when it is closed again.
#[test]
fn bytes_out_and_the_circuit_are_shown() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(50_000).publish();
    let lanyard = mirror(&hub);
    let mut sent = 0;
    for _ in 0..3 {
        sent += get(lanyard.port(), &blob(REPO, image.layer(0))).body.len();
        sent += head(lanyard.port(), &blob(REPO, image.layer(0))).body.len();
    }
    assert_eq!(sent, 150_000);
    let first = get(lanyard.port(), "/metrics");
    assert!(first.text().contains(&format!("lanyard_sent_bytes_total {sent}\n")), "{}", first.text());
    assert!(get(lanyard.port(), "/metrics").text().contains(&format!("_total {}\n", sent + first.body.len())));

    hub.go_down();
    let series = of_hub("upstream_circuit_open");
    eventually("the circuit is open", || {
        get(lanyard.port(), &manifest(REPO, "other"));
        value(&lanyard, &series) == 1
    });
    assert!(value(&lanyard, &of_hub("upstream_errors_total")) >= 2);
    hub.come_back();
    eventually("the circuit is closed", || value(&lanyard, &series) == 0);
    assert!(value(&lanyard, &asked("probe")) >= 1);
}

/// SIGTERM: a download under way is finished; new clients are not served as before.
#[test]
fn a_stop_lets_downloads_end() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(4 << 20).publish();
    let mut lanyard = Lanyard::start(&config(&hub, ""));
    let (port, layer) = (lanyard.port(), blob(REPO, image.layer(0)));
    let gate = Gate::shut();
    hub.fault(On::blob(image.layer(0)), Fault::StallAt { bytes: 1 << 20, gate: gate.clone() });
    let mut client = Connection::open(port);
    client.request("GET", &layer, &[]);
    assert_eq!(client.head().unwrap().0, 200);
    let mut body = client.read_body(1 << 20);
    assert_eq!(get(port, "/readyz").status, 200);
    let mut kept = Connection::open(port);
    kept.request("GET", "/readyz", &[]);
    assert_eq!(kept.answer("GET").unwrap().status, 200);
    thread::scope(|scope| {
        let stopped = scope.spawn(|| lanyard.stop());
        eventually("nobody is sent here any more", || match new_answer(port) {
            Some(head) => head.starts_with("HTTP/1.1 503"),
            None => true,
        });
        // A connection that was kept for the next request gets the answer too, or it is closed.
        kept.request_if_open("GET", "/readyz");
        assert!(kept.answer("GET").map_or(true, |answer| answer.status == 503));
        gate.open();
        body.extend(client.read_body(3 << 20));
        assert_eq!(digest_of(&body), image.layer(0), "the download has come to its end");
        let answered = Instant::now();
        drop(client);
        assert!(stopped.join().unwrap().success());
        assert!(answered.elapsed() < Duration::from_secs(20), "and then the stop did");
    });
    assert!(lanyard.logs().contains("parked=true"), "{}", lanyard.logs());
}

/// A second signal cuts what is under way, and parks the download all the same.
#[test]
fn a_second_signal_does_not_wait() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(4 << 20).publish();
    let mut lanyard = Lanyard::start(&config(&hub, ""));
    let layer = blob(REPO, image.layer(0));
    let gate = Gate::shut();
    hub.fault(On::blob(image.layer(0)), Fault::StallAt { bytes: 1 << 20, gate });
    let mut client = Connection::open(lanyard.port());
    client.request("GET", &layer, &[]);
    assert_eq!(client.head().unwrap().0, 200);
    client.read_body(1 << 20);
    let pid = lanyard.pid().and_then(|pid| Pid::from_raw(pid.try_into().unwrap())).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    eventually("it drains", || lanyard.logs().contains("stopping"));
    assert!(lanyard.stop().success());
    assert!(client.read_body(3 << 20).len() < 3 << 20, "the answer was cut");
    assert!(lanyard.logs().contains("parked=true"), "{}", lanyard.logs());
}

/// The beginning of the answer to a new client's `/readyz`, if the server answers.
fn new_answer(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
    std::io::Write::write_all(&mut stream, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    Some(String::from_utf8_lossy(&head).into_owned())
}
