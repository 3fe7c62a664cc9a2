//! The head of every pull's answer is there within 25 s, as containerd waits 30 s for a mirror. The
//! request to upstream goes on, and the next attempt joins it.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::mirror;
use crate::{
    hub::{DOCKER_MANIFEST, Fault, Gate, Hub, OCI_INDEX, On, Record, digest_of},
    wire::{Answer, ask, blob, manifest},
};

const REPO: &str = "library/busybox";
/// The size of the content that comes slowly, in bytes.
const SIZE: usize = 5000;
/// When its first parts come, in seconds. The rest waits for the test.
const PARTS: [u64; 3] = [8, 16, 23];

/// JSON of exactly `SIZE` bytes.
fn padded(text: &str) -> Vec<u8> {
    let (head, tail) = (format!("{},\"x\":\"", text.strip_suffix('}').unwrap()), "\"}");
    let padding = "x".repeat(SIZE - head.len() - tail.len());
    format!("{head}{padding}{tail}").into_bytes()
}

fn image(seed: &str) -> Vec<u8> {
    padded(&format!(
        r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}","annotations":{{"seed":"{seed}"}},
        "config":{{"mediaType":"c","digest":"{}","size":2}},"layers":[]}}"#,
        digest_of(b"{}")
    ))
}

struct Late {
    method: &'static str,
    path: String,
    range: Option<&'static str>,
    status: u16,
    body: Vec<u8>,
}

impl Late {
    fn get(path: String, body: Vec<u8>) -> Late {
        Late { method: "GET", path, range: None, status: 200, body }
    }

    fn ask(&self, port: u16) -> Answer {
        let headers: Vec<_> = self.range.iter().map(|range| ("Range", *range)).collect();
        ask(port, self.method, &self.path, &headers)
    }

    fn is(&self, record: &Record) -> bool {
        let path = self.path.split('?').next().unwrap();
        record.path == path && record.method == self.method && (200..300).contains(&record.status)
    }
}

#[test]
fn every_head_is_there_in_time_and_the_next_try_joins() {
    let hub = Hub::builder().open().without_cdn().start();
    let (gate, gates) = (Gate::shut(), PARTS.map(|_| Gate::shut()));
    let slow = || {
        let all = gates.iter().chain([&gate]).zip(1..);
        Fault::All(all.map(|(gate, part)| Fault::StallAt { bytes: 1000 * part, gate: gate.clone() }).collect())
    };
    hub.put_manifest(REPO, "latest", DOCKER_MANIFEST, &image("tag"));
    let by_digest = hub.put_untagged(REPO, DOCKER_MANIFEST, &image("digest"));
    hub.fault(On::any_manifest().always(), slow());
    let tags = padded(&format!(r#"{{"name":"{REPO}","tags":["latest"]}}"#));
    hub.fault(On::tags(), Fault::All(vec![Fault::Replace(tags), slow()]));
    let index = padded(&format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#));
    hub.fault(On::referrers(), Fault::All(vec![Fault::Replace(index.clone()), slow()]));
    // No answer states its length, so that the content has to come first.
    let counted = vec![7; SIZE];
    let unsized_blob = hub.put_blob(counted.clone());
    let ranged_blob = hub.put_blob(vec![8; SIZE]);
    for digest in [&unsized_blob, &ranged_blob] {
        hub.fault(On::blob(digest), Fault::All(vec![Fault::Chunked, slow()]));
    }
    let (held, asked) = (hub.put_blob(b"held".to_vec()), hub.put_blob(b"asked".to_vec()));
    hub.fault(On::blob(&held), Fault::HoldHead(gate.clone()));
    hub.fault(On::blob(&asked).head(), Fault::HoldHead(gate.clone()));
    let part = Late { range: Some("bytes=10-19"), status: 206, ..Late::get(blob(REPO, &ranged_blob), vec![8; 10]) };
    let lates = [
        Late::get(manifest(REPO, "latest"), image("tag")),
        Late::get(manifest(REPO, &by_digest), image("digest")),
        Late::get(format!("/v2/{REPO}/tags/list"), format!(r#"{{"name":"{REPO}","tags":["latest"]}}"#).into_bytes()),
        Late::get(format!("/v2/{REPO}/referrers/{by_digest}"), index),
        Late::get(blob(REPO, &unsized_blob), counted),
        part,
        Late::get(blob(REPO, &held), b"held".to_vec()),
        Late { method: "HEAD", ..Late::get(format!("{}?ns=docker.io", blob(REPO, &asked)), Vec::new()) },
    ];
    let lanyard = mirror(&hub);
    let began = Instant::now();
    let all = || -> Vec<(Answer, Duration)> {
        thread::scope(|scope| {
            let asking: Vec<_> =
                lates.iter().map(|late| scope.spawn(|| (late.ask(lanyard.port()), began.elapsed()))).collect();
            asking.into_iter().map(|asking| asking.join().unwrap()).collect()
        })
    };
    let firsts = thread::scope(|scope| {
        scope.spawn(|| {
            for (gate, at) in gates.iter().zip(PARTS) {
                // The schedule of the slow upstream.
                thread::sleep((began + Duration::from_secs(at)).saturating_duration_since(Instant::now()));
                gate.open();
            }
        });
        all()
    });
    for (late, (first, took)) in lates.iter().zip(firsts) {
        assert_eq!(first.status, 504, "{} {}: {}", late.method, late.path, first.text());
        assert!(took > Duration::from_secs(24) && took < Duration::from_secs(29), "{}: {took:?}", late.path);
        let told = first.text().contains("has not answered within 25 s");
        assert!(told || late.method == "HEAD", "{}: {}", late.path, first.text());
    }
    gate.open();
    for (late, (next, took)) in lates.iter().zip(all()) {
        assert_eq!((next.status, &next.body), (late.status, &late.body), "{} {}", late.method, late.path);
        assert!(took < Duration::from_secs(45), "{}: {took:?}", late.path);
        // The answer to a HEAD is not remembered: an attempt after it asks again.
        let most = if late.method == "HEAD" { 2 } else { 1 };
        let asked = hub.count(|record| late.is(record));
        assert!(asked <= most, "{}: upstream was asked {asked} times", late.path);
    }
}
