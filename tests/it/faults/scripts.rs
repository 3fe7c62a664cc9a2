//! F2 and S24 as a property: whatever an upstream answers, in whatever order, no client has a
//! complete and wrong answer. Once the upstream is honest, clients get the blob, also after a
//! restart.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{figure, rounds, shelf::check_blobs};
use crate::{
    hub::{Cut, DOCKER_MANIFEST, Fault, Hub, On, digest_of},
    lanyard::Lanyard,
    pull::mirror_with,
    wire::{Answer, blob, eventually, get, manifest},
};

const REPO: &str = "library/busybox";
const AT_ONCE: usize = 16;

/// splitmix64: the same cases in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// One answer: its status, headers, bytes, framing, and the place where it breaks off. The parts
/// that no die changes are honest.
fn answer(dice: &mut Dice, right: &[u8]) -> Fault {
    let size = right.len() as u64;
    let near = |dice: &mut Dice| (size + 3).saturating_sub(dice.roll(7)) as usize;
    let mut all = match dice.roll(10) {
        0 => vec![plain(200, &[])],
        1 => vec![Fault::HtmlPage],
        2 => vec![plain(416, &[("Content-Range", format!("bytes */{}", near(dice)))])],
        3 => {
            let range = format!("bytes {}-{}/{}", dice.roll(size), near(dice), near(dice));
            vec![plain(206, &[("Content-Range", range)])]
        }
        4 => vec![Fault::Header("Content-Range", Some(format!("bytes {}-{}/*", dice.roll(size), near(dice))))],
        _ => vec![],
    };
    match dice.roll(6) {
        0 => all.push(Fault::Replace(right.to_vec())),
        1 => all.push(Fault::Replace(vec![b'w'; near(dice)])),
        2 => all.push(Fault::Replace(right[..dice.roll(size + 1) as usize].to_vec())),
        3 => all.push(Fault::FlipByte { at: dice.roll(size) }),
        _ => {}
    }
    match dice.roll(5) {
        0 => all.push(Fault::Chunked),
        1 => all.push(Fault::LengthOff(dice.roll(7) as i64 - 3)),
        _ => {}
    }
    if dice.roll(2) == 0 {
        let how = if dice.roll(2) == 0 { Cut::Fin } else { Cut::Rst };
        all.push(Fault::CutAfter { bytes: dice.roll(size + 2), how });
    }
    Fault::All(all)
}

fn plain(status: u16, headers: &[(&str, String)]) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Fault::Status { status, headers, body: String::new() }
}

/// Whether a client would take this for the whole blob.
fn is_whole(answer: &Answer) -> bool {
    let length = answer.body.len();
    let all = |range: &str| range == format!("bytes 0-{}/{length}", length.wrapping_sub(1));
    answer.looks_complete()
        && (answer.status == 200 || answer.status == 206 && answer.header("content-range").is_some_and(all))
}

struct Case {
    seed: u64,
    right: Vec<u8>,
    digest: String,
}

impl Case {
    fn new(hub: &Hub, seed: u64) -> Case {
        let mut dice = Dice(seed);
        let size = [1, 2, 3, 1000, 40_000, 300_000][dice.roll(6) as usize] + dice.roll(3);
        let right: Vec<u8> = (0..size).map(|at| (at.wrapping_mul(31) ^ seed ^ (at >> 8)) as u8).collect();
        let digest = hub.put_blob(right.clone());
        Case { seed, right, digest }
    }

    /// A manifest names the blob: with its size, with a wrong size, or not at all.
    fn name(&self, hub: &Hub, lanyard: &Lanyard) {
        let size = match self.seed % 4 {
            0 => self.right.len(),
            1 => self.right.len() + 1 + self.seed as usize % 5000,
            _ => return,
        };
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}","config":{{"mediaType":"c","digest":"{}","size":{size}}},
            "layers":[]}}"#,
            self.digest
        );
        let manifest_digest = hub.put_untagged(REPO, DOCKER_MANIFEST, text.as_bytes());
        assert_eq!(get(lanyard.port(), &manifest(REPO, &manifest_digest)).status, 200);
    }

    /// Asks for the blob, or for a range from some byte on, and judges the answer.
    fn ask(&self, lanyard: &Lanyard, dice: &mut Dice) -> Answer {
        let range = match dice.roll(4) {
            0 => Some("bytes=0-".to_owned()),
            1 => Some(format!("bytes={}-", dice.roll(self.right.len() as u64))),
            _ => None,
        };
        let headers: Vec<_> = range.iter().map(|range| ("Range", range.as_str())).collect();
        let answer = crate::wire::ask(lanyard.port(), "GET", &blob(REPO, &self.digest), &headers);
        self.judge(&answer);
        answer
    }

    fn judge(&self, answer: &Answer) {
        let wrong = is_whole(answer) && digest_of(&answer.body) != self.digest;
        assert!(!wrong, "seed {}: a complete and wrong answer: {} {:?}", self.seed, answer.status, answer.headers);
    }

    /// The upstream is honest from now on.
    fn heals(&self, lanyard: &Lanyard) {
        let mut answers = Vec::new();
        for _ in 0..2 {
            let answer = get(lanyard.port(), &blob(REPO, &self.digest));
            self.judge(&answer);
            if answer.status == 200 && answer.body == self.right {
                return;
            }
            answers.push((answer.status, answer.body.len()));
        }
        panic!("seed {}: an honest upstream is not believed: {answers:?} of {}", self.seed, self.right.len());
    }
}

fn each(cases: &[Case], work: impl Fn(&Case) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(case);
                }
            });
        }
    });
}

fn quiet(lanyard: &Lanyard) {
    eventually("no download is under way", || {
        get(lanyard.port(), "/metrics").text().lines().any(|line| line == "lanyard_fills_active 0")
    });
}

#[test]
fn f2_no_script_of_answers_is_believed() {
    for (hub, more) in [
        (Hub::start(), "[cache]\nnegative_ttl = \"0s\"\n"),
        (Hub::builder().without_ranges().start(), "[cache]\nnegative_ttl = \"0s\"\n"),
        // Passed through, with nothing stored.
        (Hub::start(), "[cache]\nnegative_ttl = \"0s\"\nmax_size = \"1 B\"\n"),
    ] {
        hub.image(REPO, "latest").publish();
        let mut lanyard = mirror_with(&hub, more);
        let cases: Vec<_> = (0..rounds(64, 2000) as u64).map(|seed| Case::new(&hub, seed)).collect();
        let whole = AtomicUsize::new(0);
        each(&cases, |case| {
            case.name(&hub, &lanyard);
            let mut dice = Dice(case.seed ^ 0xdead);
            for _ in 0..1 + dice.roll(5) {
                hub.fault(On::blob(&case.digest), answer(&mut dice, &case.right));
            }
            if dice.roll(2) == 0 {
                hub.fault(On::blob(&case.digest).always(), Fault::status(404));
            }
            for _ in 0..1 + dice.roll(3) {
                whole.fetch_add(usize::from(is_whole(&case.ask(&lanyard, &mut dice))), Ordering::Relaxed);
            }
        });
        let told = cases.iter().filter(|case| hub.blob_gets(&case.digest) > 0).count();
        assert!(told > cases.len() / 2, "only {told} scripts were heard");
        hub.clear_faults();
        quiet(&lanyard);
        lanyard.restart();
        each(&cases, |case| case.heals(&lanyard));
        let stored = check_blobs(&lanyard.data_dir());
        figure(&format!("{} scripts, {} whole and right, {stored} stored and right", cases.len(), whole.into_inner()));
    }
}
