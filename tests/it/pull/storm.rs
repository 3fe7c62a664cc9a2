//! Everything at once: many clients, many digests, and an upstream that misbehaves at random.
//!
//! The test runs one short round with a fixed seed. `LANYARD_STORM=180 cargo test --test it storm
//! -- --nocapture` continues with other seeds for that many seconds, and prints what it counted. In
//! each round, with every fault:
//!
//! - F2: an answer that looks complete has its digest, or is the range of the blob that was asked
//!   for;
//! - F4: while nothing is broken, one digest is downloaded once, and with faults never twice at a
//!   time;
//! - F5: clients that leave in mid-answer spoil nothing;
//! - F7: every request is answered, with a status that a client may be given;
//! - when the faults are over every blob and every tag can be pulled whole.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use super::mirror_with;
use crate::{
    hub::{Cut, Fault, Hub, Image, On, digest_of},
    lanyard::Lanyard,
    wire::{Connection, ask, blob, eventually, get, manifest},
};

const CLIENTS: usize = 300;
const IMAGES: usize = 5;
const LAYERS: usize = 4;
const REPOS: [&str; 2] = ["library/busybox", "library/other"];

/// xorshift: the same rounds for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// The answers that all clients of all rounds got, by status and outcome.
#[derive(Default)]
struct Figures(Mutex<BTreeMap<String, usize>>);

impl Figures {
    fn count(&self, what: impl Into<String>) {
        *self.0.lock().unwrap().entry(what.into()).or_default() += 1;
    }
}

#[test]
fn a_storm_of_clients_and_faults() {
    let long = std::env::var("LANYARD_STORM").ok().and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    let (started, figures) = (Instant::now(), Figures::default());
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let mut rounds = 0;
    while rounds < 1 || long.is_some_and(|long| started.elapsed() < long) {
        round(seed, rounds % 4 == 3, &figures);
        (seed, rounds) = (seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1), rounds + 1);
    }
    println!("{rounds} rounds of {CLIENTS} clients in {:?}: {:#?}", started.elapsed(), figures.0.lock().unwrap());
}

/// A new stand-in and a new lanyard. If `kill`, lanyard is killed in the middle.
fn round(seed: u64, kill: bool, figures: &Figures) {
    let hub = Hub::start();
    let mut dice = Dice(seed);
    let images: Vec<Image> = (0..IMAGES).map(|n| publish(&hub, &mut dice, n)).collect();
    let digests: Vec<(String, Vec<u8>)> = images
        .iter()
        .flat_map(|image| (0..LAYERS).map(|n| image.layer(n).to_owned()))
        .map(|digest| (digest.clone(), hub.blob(&digest).unwrap()))
        .collect();
    let mut lanyard = mirror_with(&hub, "[cache]\ntag_ttl = \"1s\"\nnegative_ttl = \"0s\"");
    for (digest, bytes) in &digests {
        for _ in 0..dice.below(5) {
            hub.fault(On::blob(digest), fault(&mut dice, bytes.len() as u64));
        }
    }
    crowd(&lanyard, &images, &digests, &mut dice, figures);
    for (digest, _) in &digests {
        // A client that joined a download with a wrong length is passed through, beside the
        // download.
        let passed = |line: &&str| line.contains(digest) && line.contains("outcome=\"bypassed\"");
        eventually("one download at a time (F4)", || {
            let at_once = hub.most_at_once(|r| r.is_blob_get(digest) && r.header("range").is_none());
            at_once <= 1 + lanyard.logs().lines().filter(passed).count()
        });
    }
    assert!(hub.manifest_gets() <= 2 * IMAGES, "one by tag and one by digest");
    figures.count("rounds");
    if kill {
        lanyard.kill9();
        lanyard.restart();
    }
    hub.clear_faults();
    everything_can_be_pulled(&lanyard, &images, &digests);
    hub.reset_counts();
    everything_can_be_pulled(&lanyard, &images, &digests);
    assert_eq!(hub.any_blob_gets(), 0, "it is all here");
    assert!(!lanyard.logs().contains("panicked"), "{}", lanyard.logs());
}

fn publish(hub: &Hub, dice: &mut Dice, n: usize) -> Image {
    let mut image = hub.image(REPOS[n % 2], &format!("v{n}"));
    for _ in 0..LAYERS {
        image = image.layer(1 + dice.below(700_000));
    }
    image.publish()
}

fn fault(dice: &mut Dice, size: u64) -> Fault {
    let at = dice.below(size);
    match dice.below(9) {
        0 => Fault::CutAfter { bytes: at, how: Cut::Fin },
        1 => Fault::CutAfter { bytes: at, how: Cut::Rst },
        2 => Fault::FlipByte { at },
        3 => Fault::status([403, 404, 429, 500, 503][at as usize % 5]),
        4 => Fault::Slow { bytes_per_second: 2_000_000 },
        5 => Fault::Chunked,
        6 => Fault::Drop(Cut::Rst),
        7 => Fault::LengthOff(if at.is_multiple_of(2) { 3 } else { -1 }),
        _ => Fault::All(vec![Fault::Chunked, Fault::CutAfter { bytes: at, how: Cut::Fin }]),
    }
}

fn crowd(lanyard: &Lanyard, images: &[Image], digests: &[(String, Vec<u8>)], dice: &mut Dice, figures: &Figures) {
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let mut dice = Dice(dice.below(u64::MAX) | 1);
            scope.spawn(move || {
                for _ in 0..4 {
                    one(lanyard, images, digests, &mut dice, figures);
                }
            });
        }
    });
}

/// One request of one client.
fn one(lanyard: &Lanyard, images: &[Image], digests: &[(String, Vec<u8>)], dice: &mut Dice, figures: &Figures) {
    if dice.below(4) == 0 {
        let image = &images[dice.below(IMAGES as u64) as usize];
        let reference = if dice.below(2) == 0 { &image.tag } else { &image.digest };
        let answer = get(lanyard.port(), &manifest(&image.repo, reference));
        figures.count(format!("manifest {} {}", answer.status, answer.outcome()));
        assert_eq!((answer.status, &answer.body), (200, &image.bytes), "nothing was wrong with manifests");
        return;
    }
    let (digest, bytes) = &digests[dice.below(digests.len() as u64) as usize];
    let path = blob(REPOS[dice.below(2) as usize], digest);
    match dice.below(6) {
        0 => {
            let first = dice.below(bytes.len() as u64) as usize;
            let answer = ask(lanyard.port(), "GET", &path, &[("Range", &format!("bytes={first}-"))]);
            figures.count(format!("range {} {}", answer.status, answer.outcome()));
            // Bytes that are still to come are not proven, so a part of them may be wrong; it is
            // never stored.
            allowed(answer.status, &answer.text());
            assert!(answer.status != 206 || answer.body.len() <= bytes.len() - first);
        }
        1 => {
            let mut connection = Connection::open(lanyard.port());
            connection.request("GET", &path, &[]);
            if connection.head().is_ok_and(|(status, _)| status == 200) {
                connection.read_body(dice.below(bytes.len() as u64) as usize);
                figures.count("left in the middle");
            }
        }
        _ => {
            let answer = get(lanyard.port(), &path);
            let whole = answer.status == 200 && answer.looks_complete();
            figures.count(format!(
                "blob {} {} {}",
                answer.status,
                answer.outcome(),
                if whole { "whole" } else { "not" }
            ));
            allowed(answer.status, "");
            assert!(!whole || digest_of(&answer.body) == *digest, "F2: wrong bytes looked complete");
        }
    }
}

/// 404 where the upstream said so; never 401, 403, 429 or 500.
fn allowed(status: u16, text: &str) {
    assert!(matches!(status, 200 | 206 | 404 | 502..=504), "{status} {text}");
}

fn everything_can_be_pulled(lanyard: &Lanyard, images: &[Image], digests: &[(String, Vec<u8>)]) {
    for image in images {
        eventually("the tag can be pulled", || {
            let answer = get(lanyard.port(), &manifest(&image.repo, &image.tag));
            answer.status == 200 && answer.body == image.bytes
        });
    }
    for (digest, bytes) in digests {
        eventually("the blob can be pulled", || {
            let answer = get(lanyard.port(), &blob(REPOS[0], digest));
            assert!(!answer.looks_complete() || answer.status != 200 || answer.body == *bytes, "F2");
            answer.status == 200 && answer.looks_complete()
        });
    }
}
