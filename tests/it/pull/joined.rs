//! F5, F6: who joins a download that hangs gets the bytes from its own source soon.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{config, leftovers::Opens};
use crate::{
    hub::{Fault, Gate, Hub, On, digest_of},
    lanyard::Lanyard,
    wire::{Answer, blob, eventually, get},
};

const REPO: &str = "library/busybox";
const OTHER: &str = "library/other";
const SIZE: usize = 3 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// A request is given up after 25 s: this is well below it, on a slow machine too.
const SOON: Duration = Duration::from_secs(18);

#[test]
fn f6_a_strangers_hanging_source_delays_nobody_for_long() {
    thread::scope(|scope| {
        for same_registry in [false, true] {
            for head in [false, true] {
                scope.spawn(move || joins(same_registry, head));
            }
        }
    });
}

fn joins(same_registry: bool, head: bool) {
    let what = format!("the same registry: {same_registry}, no head: {head}");
    let (hub, stranger) = (Hub::builder().without_cdn().start(), Hub::builder().without_cdn().start());
    let bytes: Vec<u8> = (0..SIZE).map(|at| (at.wrapping_mul(31) ^ (at >> 9)) as u8).collect();
    let digest = hub.put_blob(bytes.clone());
    stranger.put_blob(bytes);
    for hub in [&hub, &stranger] {
        hub.image(REPO, "latest").publish();
        hub.image(OTHER, "latest").publish();
    }
    let other = format!("[[upstream]]\nname = \"stranger.lan\"\nurl = \"{}\"\n", stranger.url());
    let lanyard = Lanyard::start(&config(&hub, &other));
    let gate = Gate::shut();
    let hangs = match head {
        true => Fault::HoldHead(gate.clone()),
        false => Fault::StallAt { bytes: 1 << 20, gate: gate.clone() },
    };
    let (at, theirs) = match same_registry {
        true => (&hub, blob(OTHER, &digest)),
        false => (&stranger, blob(&format!("stranger.lan/{OTHER}"), &digest)),
    };
    at.fault(On::blob(&digest).in_repo(OTHER).always(), hangs);
    thread::scope(|scope| {
        let gate = Opens(gate);
        scope.spawn(|| get(lanyard.port(), &theirs));
        assert!(gate.0.wait_for_arrivals(1, PATIENCE), "{what}");
        let begun = Instant::now();
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| get(lanyard.port(), &blob(REPO, &digest)))).collect();
        for client in clients {
            let answer = client.join().unwrap();
            assert_eq!(
                (answer.status, digest_of(&answer.body)),
                (200, digest.clone()),
                "{what}: {}",
                answer.text().len()
            );
        }
        assert!(begun.elapsed() < SOON, "{what}: {:?}", begun.elapsed());
    });
    let ours = hub.requests().iter().filter(|r| r.is_blob_get(&digest) && r.path.contains(REPO)).count();
    assert_eq!(ours, 1, "{what}: their source was asked once");
    assert!(hub.blob_bytes_sent(&digest) <= SIZE as u64 + (1 << 20), "{what}: what was here was not sent again");
}

/// S23: an answer of a registry that is not about the blob gives its clients nothing of what
/// another registry sends into the same download.
#[test]
fn s23_what_another_registry_sends_is_given_to_its_own_clients() {
    let raw = |head: &str, body: &str| Fault::Garbage(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").into());
    let cases = [
        ("chunks without a byte", raw("Transfer-Encoding: chunked", "")),
        ("some chunks", raw("Transfer-Encoding: chunked", "5\r\nhello\r\n")),
        ("another length, and nothing", raw("Content-Length: 777", "")),
        ("another length, and some", raw("Content-Length: 777", "hello")),
        ("another blob", raw("Content-Type: application/octet-stream\r\nContent-Length: 7", "welcome")),
        ("another blob in chunks", raw("Transfer-Encoding: chunked", "7\r\nwelcome\r\n0\r\n\r\n")),
    ];
    thread::scope(|scope| {
        for (what, fault) in cases {
            scope.spawn(move || gives_nothing(what, fault));
        }
    });
}

fn gives_nothing(what: &str, fault: Fault) {
    let (hub, stranger) = (Hub::builder().without_cdn().start(), Hub::builder().without_cdn().start());
    let bytes: Vec<u8> = (0..300_000_usize).map(|at| (at.wrapping_mul(31) ^ (at >> 9)) as u8).collect();
    let digest = hub.put_blob(bytes);
    hub.image(REPO, "latest").publish();
    stranger.image(OTHER, "latest").publish();
    let other = format!("[[upstream]]\nname = \"stranger.lan\"\nurl = \"{}\"\n", stranger.url());
    let lanyard = Lanyard::start(&config(&hub, &other));
    let (ours, theirs) = (blob(REPO, &digest), blob(&format!("stranger.lan/{OTHER}"), &digest));
    // At the most what their own registry has sent.
    let nothing = |answer: &Answer| {
        let own = [&b"hello"[..], b"welcome"].iter().any(|sent| sent.starts_with(&answer.body));
        assert!(answer.status != 200 || own, "{what}: {} with {} bytes", answer.status, answer.body.len());
    };
    let gate = Gate::shut();
    let get_of_it = || On::blob(&digest).in_repo(OTHER);
    stranger.fault(get_of_it(), Fault::All(vec![Fault::HoldHead(gate.clone()), fault.clone()]));
    stranger.fault(get_of_it().always(), fault);
    thread::scope(|scope| {
        let gate = Opens(gate);
        let asked = scope.spawn(|| get(lanyard.port(), &theirs));
        assert!(gate.0.wait_for_arrivals(1, PATIENCE), "{what}");
        let joined = scope.spawn(|| get(lanyard.port(), &ours));
        eventually("it has joined", || {
            get(lanyard.port(), "/metrics").text().contains("lanyard_fill_joins_total{upstream=\"docker.io\"} 1")
        });
        drop(gate);
        nothing(&asked.join().unwrap());
        let _ = joined.join().unwrap();
    });
    assert_eq!(digest_of(&get(lanyard.port(), &ours).body), digest, "{what}");
    for _ in 0..3 {
        nothing(&get(lanyard.port(), &theirs));
    }
}
