//! F5, F6: a client that joins a download that hangs soon gets the bytes from its own source.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{config, leftovers::Opens};
use crate::{
    hub::{Fault, Gate, Hub, On, digest_of},
    lanyard::Lanyard,
    push::Pusher,
    wire::{Answer, ask, blob, eventually, get, manifest},
};

const REPO: &str = "library/busybox";
const OTHER: &str = "library/other";
const SIZE: usize = 3 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// A request is given up after 25 s: this is well below, also on a slow machine.
const SOON: Duration = Duration::from_secs(18);

#[test]
fn f6_a_strangers_hanging_source_delays_nobody_for_long() {
    thread::scope(|scope| {
        for same_registry in [false, true] {
            for hang in [Hang::Head, Hang::Body, Hang::Drip] {
                scope.spawn(move || joins(same_registry, hang));
            }
        }
    });
}

/// The place where a source hangs.
#[derive(Clone, Copy, Debug)]
enum Hang {
    Head,
    Body,
    /// Bytes keep coming, a few at a time.
    Drip,
}

fn joins(same_registry: bool, hang: Hang) {
    let what = format!("the same registry: {same_registry}, {hang:?}");
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
    let hangs = match hang {
        Hang::Head => Fault::HoldHead(gate.clone()),
        Hang::Body => Fault::StallAt { bytes: 1 << 20, gate: gate.clone() },
        Hang::Drip => Fault::Slow { bytes_per_second: 20_000 },
    };
    let (at, theirs) = match same_registry {
        true => (&hub, blob(OTHER, &digest)),
        false => (&stranger, blob(&format!("stranger.lan/{OTHER}"), &digest)),
    };
    at.fault(On::blob(&digest).in_repo(OTHER).always(), hangs);
    thread::scope(|scope| {
        let gate = Opens(gate);
        scope.spawn(|| get(lanyard.port(), &theirs));
        match hang {
            Hang::Head | Hang::Body => assert!(gate.0.wait_for_arrivals(1, PATIENCE), "{what}"),
            Hang::Drip => eventually("it is asked", || at.requests().iter().any(|r| r.is_blob_get(&digest))),
        }
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

/// S23: after an answer that is not about the blob, a registry's clients get nothing that another
/// registry sends into the same download, whether the answer states a length or not.
#[test]
fn s23_what_another_registry_sends_is_given_to_its_own_clients() {
    let raw = |head: &str, body: &str| Fault::Garbage(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").into());
    let cases = [
        ("chunks without a byte", raw("Transfer-Encoding: chunked", "")),
        ("some chunks", raw("Transfer-Encoding: chunked", "5\r\nhello\r\n")),
        ("a short length, and nothing", raw("Content-Length: 777", "")),
        ("a short length, and some", raw("Content-Length: 777", "hello")),
        ("a great length, and nothing", raw("Content-Length: 1000000", "")),
        ("a great length, and some", raw("Content-Length: 1000000", "hello")),
        ("another blob", raw("Content-Type: application/octet-stream\r\nContent-Length: 7", "welcome")),
        ("another blob in chunks", raw("Transfer-Encoding: chunked", "7\r\nwelcome\r\n0\r\n\r\n")),
    ];
    for chunked in [false, true] {
        for range in [None, Some("bytes=0-999"), Some("bytes=1000-")] {
            thread::scope(|scope| {
                for (what, fault) in &cases {
                    scope.spawn(move || gives_nothing(&format!("{what}, {chunked}, {range:?}"), fault, chunked, range));
                }
            });
        }
    }
}

/// At most the bytes that the registry itself has sent.
fn is_nothing(what: &str, answer: &Answer) {
    let own = [&b"hello"[..], b"welcome"].iter().any(|sent| sent.starts_with(&answer.body));
    assert!(!matches!(answer.status, 200 | 206) || own, "{what}: {} with {} bytes", answer.status, answer.body.len());
}

fn gives_nothing(what: &str, fault: &Fault, chunked: bool, range: Option<&str>) {
    let (hub, stranger) = (Hub::builder().without_cdn().start(), Hub::builder().without_cdn().start());
    let bytes: Vec<u8> = (0..300_000_usize).map(|at| (at.wrapping_mul(31) ^ (at >> 9)) as u8).collect();
    let digest = hub.put_blob(bytes);
    hub.image(REPO, "latest").publish();
    stranger.image(OTHER, "latest").publish();
    let other = format!("[[upstream]]\nname = \"stranger.lan\"\nurl = \"{}\"\n", stranger.url());
    let lanyard = Lanyard::start(&config(&hub, &other));
    let (ours, theirs) = (blob(REPO, &digest), blob(&format!("stranger.lan/{OTHER}"), &digest));
    let gate = Gate::shut();
    let get_of_it = || On::blob(&digest).in_repo(OTHER);
    if chunked {
        hub.fault(On::blob(&digest).always(), Fault::Chunked);
    }
    stranger.fault(get_of_it(), Fault::All(vec![Fault::HoldHead(gate.clone()), fault.clone()]));
    stranger.fault(get_of_it().always(), fault.clone());
    let headers: Vec<_> = range.iter().map(|range| ("Range", *range)).collect();
    thread::scope(|scope| {
        let gate = Opens(gate);
        let asked = scope.spawn(|| ask(lanyard.port(), "GET", &theirs, &headers));
        assert!(gate.0.wait_for_arrivals(1, PATIENCE), "{what}");
        let joined = scope.spawn(|| get(lanyard.port(), &ours));
        eventually("it has joined", || {
            get(lanyard.port(), "/metrics").text().contains("lanyard_fill_joins_total{upstream=\"docker.io\"} 1")
        });
        drop(gate);
        is_nothing(what, &asked.join().unwrap());
        let _ = joined.join().unwrap();
    });
    assert_eq!(digest_of(&get(lanyard.port(), &ours).body), digest, "{what}");
    stranger.clear_faults();
    for _ in 0..3 {
        is_nothing(what, &get(lanyard.port(), &theirs));
    }
}

/// S23: while the download of a registry that has nothing hangs, its clients get nothing that came
/// in another way meanwhile.
#[test]
fn s23_a_download_that_hangs_speaks_for_nothing_that_was_stored() {
    let lies: [fn(Gate) -> Fault; 3] = [
        |gate| Fault::All(vec![page(), Fault::Chunked, Fault::StallAt { bytes: 0, gate }]),
        |gate| Fault::All(vec![page(), Fault::StallAt { bytes: 0, gate }]),
        |gate| Fault::All(vec![page(), Fault::LengthOff(1_000_000), Fault::StallAt { bytes: 3, gate }]),
    ];
    for lie in lies {
        thread::scope(|scope| {
            for way in [Way::Push, Way::Mount, Way::Manifest] {
                scope.spawn(move || hangs(lie, way));
            }
        });
    }
}

fn page() -> Fault {
    let headers = vec![("Content-Type".to_owned(), "application/octet-stream".to_owned())];
    Fault::Status { status: 200, headers, body: "hello".to_owned() }
}

/// The ways in which content gets into the store.
#[derive(Clone, Copy, Debug)]
enum Way {
    Push,
    Mount,
    Manifest,
}

fn hangs(lie: fn(Gate) -> Fault, way: Way) {
    let (hub, stranger) = (Hub::builder().without_cdn().start(), Hub::builder().without_cdn().start());
    let image = hub.image(REPO, "latest").publish();
    stranger.image(OTHER, "latest").publish();
    let other = format!("[[upstream]]\nname = \"stranger.lan\"\nurl = \"{}\"\n", stranger.url());
    let lanyard = Lanyard::start(&config(&hub, &other));
    let pusher = Pusher(lanyard.port());
    let secret: Vec<u8> = (0..300_000_usize).map(|at| (at.wrapping_mul(37) ^ (at >> 9)) as u8).collect();
    let digest = match way {
        Way::Push | Way::Mount => digest_of(&secret),
        Way::Manifest => image.digest.clone(),
    };
    let theirs = blob(&format!("stranger.lan/{OTHER}"), &digest);
    let gate = Gate::shut();
    stranger.fault(On::blob(&digest).in_repo(OTHER).always(), lie(gate.clone()));
    thread::scope(|scope| {
        let gate = Opens(gate);
        scope.spawn(|| get(lanyard.port(), &theirs));
        assert!(gate.0.wait_for_arrivals(1, PATIENCE), "{way:?}");
        match way {
            Way::Push | Way::Mount => drop(pusher.blob("team/app", &secret)),
            Way::Manifest => assert_eq!(get(lanyard.port(), &manifest(REPO, &digest)).status, 200),
        }
        if let Way::Mount = way {
            let path = format!("/v2/team/other/blobs/uploads/?mount={digest}&from=stranger.lan/{OTHER}");
            assert_eq!(ask(lanyard.port(), "POST", &path, &[]).status, 202, "{way:?}: nothing to mount there");
        }
        thread::scope(|scope| {
            for (method, range) in [("GET", None), ("HEAD", None), ("GET", Some(("Range", "bytes=0-999")))] {
                let (lanyard, theirs) = (&lanyard, &theirs);
                scope.spawn(move || {
                    let answer = ask(lanyard.port(), method, theirs, range.as_slice());
                    is_nothing(&format!("{way:?}, {method}, {range:?}"), &answer);
                    assert_ne!((method, answer.status), ("HEAD", 200), "{way:?}: not even how long it is");
                });
            }
        });
        stranger.clear_faults();
    });
    is_nothing("afterwards", &get(lanyard.port(), &theirs));
}

/// S30: a registry that states a wrong length, and stays silent, costs the clients of another
/// registry nothing.
#[test]
fn s30_a_wrong_length_that_hangs_blocks_no_other_registry() {
    thread::scope(|scope| {
        for (chunked, more) in [(false, 700), (false, -200_000), (true, 700), (true, -200_000)] {
            scope.spawn(move || is_not_blocked(chunked, more));
        }
    });
}

fn is_not_blocked(chunked: bool, more: i64) {
    let what = format!("chunked: {chunked}, {more} more");
    let (hub, stranger) = (Hub::builder().without_cdn().start(), Hub::builder().without_cdn().start());
    let bytes: Vec<u8> = (0..300_000_usize).map(|at| (at.wrapping_mul(31) ^ (at >> 9)) as u8).collect();
    let digest = hub.put_blob(bytes.clone());
    stranger.put_blob(bytes.clone());
    hub.image(REPO, "latest").publish();
    stranger.image(OTHER, "latest").publish();
    let other = format!("[[upstream]]\nname = \"stranger.lan\"\nurl = \"{}\"\n", stranger.url());
    let lanyard = Lanyard::start(&config(&hub, &other));
    let gate = Gate::shut();
    let lie = Fault::All(vec![Fault::LengthOff(more), Fault::StallAt { bytes: 5000, gate: gate.clone() }]);
    stranger.fault(On::blob(&digest).in_repo(OTHER).always(), lie);
    if chunked {
        hub.fault(On::blob(&digest).always(), Fault::Chunked);
    }
    let (ours, theirs) = (blob(REPO, &digest), blob(&format!("stranger.lan/{OTHER}"), &digest));
    thread::scope(|scope| {
        let gate = Opens(gate);
        scope.spawn(|| get(lanyard.port(), &theirs));
        assert!(gate.0.wait_for_arrivals(1, PATIENCE), "{what}");
        for _ in 0..3 {
            let answer = get(lanyard.port(), &ours);
            assert_eq!((answer.status, digest_of(&answer.body)), (200, digest.clone()), "{what}");
            let answer = ask(lanyard.port(), "GET", &ours, &[("Range", "bytes=1000-200999")]);
            assert_eq!((answer.status, &answer.body[..]), (206, &bytes[1000..201_000]), "{what}");
        }
    });
}
