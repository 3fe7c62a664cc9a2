//! F8: until a blob is proven, a range of it has only bytes that the client's own registry has just
//! sent. A leftover of an earlier download may hold a liar's bytes, or rot, and a range of it would
//! be complete long before the digest is proven.

use std::{fs, os::unix::fs::FileExt as _, thread, time::Duration};

use super::{config, mirror_with};
use crate::{
    hub::{Cut, DOCKER_MANIFEST, Fault, Gate, Hub, On, digest_of},
    lanyard::Lanyard,
    wire::{Answer, Connection, blob, eventually, get, manifest},
};

const REPO: &str = "library/busybox";
const PATIENCE: Duration = Duration::from_secs(60);
const SIZE: usize = 4 << 20;
/// The bytes that the earlier download left.
const LEFT: usize = 3 << 20;
/// The bytes that come then, before upstream stands still.
const MORE: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    Honest,
    Wrong,
    /// One byte is wrong, so a sample would not find it.
    OneByte,
    /// The disk has lost it.
    Rotten,
}

fn content(seed: usize) -> Vec<u8> {
    (0..SIZE).map(|at| (at.wrapping_mul(31) ^ (at >> 9) ^ seed.wrapping_mul(7)) as u8 | 1).collect()
}

/// Opens the gate also when an assertion fails, so that no thread waits for ever.
pub(crate) struct Opens(pub(crate) Gate);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

type Ranges = Vec<(usize, usize)>;

/// The header of a request, the ranges that it means, and whether it is answered while upstream
/// stands still.
fn table() -> Vec<(String, Ranges, bool)> {
    let last = SIZE - 1;
    vec![
        ("bytes=0-0".to_owned(), vec![(0, 0)], true),
        ("bytes=4900-5100".to_owned(), vec![(4900, 5100)], true),
        ("bytes=0-999,4900-5100,6000-6999".to_owned(), vec![(0, 999), (4900, 5100), (6000, 6999)], true),
        (format!("bytes=4000-{}", 4000 + (1 << 20) - 1), vec![(4000, 4000 + (1 << 20) - 1)], true),
        (format!("bytes={}-{}", LEFT - 10, LEFT + 9), vec![(LEFT - 10, LEFT + 9)], true),
        // Outside the leftover: the download brings it.
        (format!("bytes={LEFT}-{}", LEFT + 99), vec![(LEFT, LEFT + 99)], true),
        (format!("bytes={}-{}", LEFT + 500, LEFT + MORE - 1), vec![(LEFT + 500, LEFT + MORE - 1)], true),
        // Too many bytes to be fetched twice.
        (format!("bytes=4000-{}", 4000 + (1 << 20)), vec![(4000, 4000 + (1 << 20))], false),
        ("bytes=0-2999999".to_owned(), vec![(0, 2_999_999)], false),
        ("bytes=0-".to_owned(), vec![(0, last)], false),
        ("bytes=5000-".to_owned(), vec![(5000, last)], false),
        (format!("bytes=-{}", SIZE - 4000), vec![(4000, last)], false),
        ("bytes=0-2000000,2000001-".to_owned(), vec![(0, 2_000_000), (2_000_001, last)], false),
        ("bytes=5000-5009,2500000-2500009".to_owned(), vec![(5000, 5009), (2_500_000, 2_500_009)], false),
        ("bytes=6000-6009,4999-5009".to_owned(), vec![(6000, 6009), (4999, 5009)], false),
        (format!("bytes={LEFT}-{},5000-5009", LEFT + 9), vec![(LEFT, LEFT + 9), (5000, 5009)], false),
    ]
}

/// The body that is due.
fn due(answer: &Answer, right: &[u8], ranges: &[(usize, usize)]) -> Vec<u8> {
    let &[(first, last)] = ranges else {
        let boundary = answer.header("content-type").and_then(|kind| kind.split_once("boundary=")).unwrap().1;
        let mut body = Vec::new();
        for (n, (first, last)) in ranges.iter().enumerate() {
            let line = if n == 0 { "" } else { "\r\n" };
            let range = format!("Content-Range: bytes {first}-{last}/{SIZE}\r\n\r\n");
            let head = format!("{line}--{boundary}\r\nContent-Type: application/octet-stream\r\n{range}");
            body.extend([head.as_bytes(), &right[*first..=*last]].concat());
        }
        body.extend(format!("\r\n--{boundary}--\r\n").as_bytes());
        return body;
    };
    right[first..=last].to_vec()
}

/// Asks for ranges, and checks every byte that comes. Returns whether all came.
fn brings(port: u16, path: &str, range: &str, ranges: &[(usize, usize)], right: &[u8], what: &str) -> bool {
    let mut client = Connection::open(port);
    client.request("GET", path, &[("Range", range), ("Connection", "close")]);
    let Ok(answer) = client.answer("GET") else { return false };
    if answer.status >= 500 {
        return false;
    }
    assert_eq!(answer.status, 206, "{what}, {range}: {}", answer.text());
    let due = due(&answer, right, ranges);
    let same = due.iter().zip(&answer.body).take_while(|(due, came)| due == came).count();
    assert_eq!(same, answer.body.len(), "{what}, {range}: a wrong byte");
    answer.body.len() == due.len()
}

/// A manifest names the blob.
fn name(hub: &Hub, lanyard: &Lanyard, digest: &str) {
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}","config":{{"mediaType":"c","digest":"{digest}","size":{SIZE}}},
        "layers":[]}}"#
    );
    let named = hub.put_untagged(REPO, DOCKER_MANIFEST, text.as_bytes());
    assert_eq!(get(lanyard.port(), &manifest(REPO, &named)).status, 200);
}

fn part(lanyard: &Lanyard) -> fs::File {
    let folder = fs::read_dir(lanyard.data_dir().join("fills")).unwrap().next().unwrap().unwrap();
    fs::File::options().write(true).open(folder.path().join("part")).unwrap()
}

/// Leaves part of a blob on disk.
fn leave(hub: &Hub, lanyard: &mut Lanyard, digest: &str, left: Left, restarted: bool) {
    let mut faults = vec![Fault::CutAfter { bytes: LEFT as u64, how: Cut::Fin }];
    match left {
        Left::Honest | Left::Rotten => {}
        Left::Wrong => faults.insert(0, Fault::Replace(vec![0; SIZE])),
        Left::OneByte => faults.push(Fault::FlipByte { at: 5000 }),
    }
    hub.fault(On::blob(digest), Fault::All(faults));
    hub.fault(On::blob(digest).always(), Fault::status(404));
    let lied = get(lanyard.port(), &blob(REPO, digest));
    assert!(!lied.looks_complete());
    eventually("the download is over", || {
        get(lanyard.port(), "/metrics").text().lines().any(|line| line == "lanyard_fills_active 0")
    });
    hub.clear_faults();
    if restarted {
        lanyard.stop();
    }
    assert_eq!(part(lanyard).metadata().unwrap().len(), LEFT as u64);
    if left == Left::Rotten {
        part(lanyard).write_all_at(&[0], 5000).unwrap();
    }
    if restarted {
        lanyard.restart();
    }
}

fn one_leftover(left: Left, named: bool, restarted: bool) {
    let what = format!("{left:?}, named {named}, restarted {restarted}");
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let mut lanyard = mirror_with(&hub, "[cache]\nnegative_ttl = \"0s\"");
    let right = content(left as usize);
    let digest = hub.put_blob(right.clone());
    if named {
        name(&hub, &lanyard, &digest);
    }
    leave(&hub, &mut lanyard, &digest, left, restarted);
    hub.reset_counts();
    let (port, path, gate) = (lanyard.port(), blob(REPO, &digest), Gate::shut());
    hub.fault(On::blob(&digest), Fault::StallAt { bytes: MORE as u64, gate: gate.clone() });
    thread::scope(|scope| {
        let gate = Opens(gate);
        let whole = scope.spawn(|| get(port, &path));
        assert!(gate.0.wait_for_arrivals(1, PATIENCE), "{what}: the download goes on");
        let asked = |early: bool| {
            let (path, right, what) = (&path, &right, &what);
            let rows = table().into_iter().filter(move |row| row.2 == early);
            rows.map(|(range, ranges, _)| {
                let asked = format!("{what}, {range}");
                (asked, scope.spawn(move || brings(port, path, &range, &ranges, right, what)))
            })
            .collect::<Vec<_>>()
        };
        let late = asked(false);
        for (asked, early) in asked(true) {
            assert!(early.join().unwrap(), "{asked}: it is answered while upstream stands still");
        }
        assert!(late.iter().all(|(_, late)| !late.is_finished()), "{what}: nothing is proven yet");
        drop(gate);
        for (asked, late) in late {
            assert_eq!(late.join().unwrap(), left == Left::Honest, "{asked}");
        }
        let whole = whole.join().unwrap();
        assert_eq!(whole.looks_complete(), left == Left::Honest, "{what}");
    });
    let passed = table().iter().filter(|(_, ranges, early)| *early && ranges[0].0 < LEFT).count();
    assert_eq!(hub.blob_gets(&digest), 1 + passed, "{what}: the others cost upstream nothing");
    // Afterwards every blob is complete, and comes from the disk.
    assert_eq!(digest_of(&get(port, &path).body), digest, "{what}");
    for (range, ranges, _) in table() {
        assert!(brings(port, &path, &range, &ranges, &right, &what), "{what}, {range}");
    }
}

#[test]
fn f8_no_range_shows_a_leftover_before_its_proof() {
    thread::scope(|scope| {
        for left in [Left::Honest, Left::Wrong, Left::OneByte, Left::Rotten] {
            scope.spawn(move || {
                for (named, restarted) in [(true, true), (false, true), (true, false)] {
                    one_leftover(left, named, restarted);
                }
            });
        }
    });
}

/// A download that another registry's repository began, and that lies.
#[test]
fn f8_no_range_shows_another_registrys_bytes_before_their_proof() {
    let (hub, stranger) = (Hub::start(), Hub::start());
    let right = content(50);
    let digest = hub.put_blob(right.clone());
    stranger.put_blob(right.clone());
    for hub in [&hub, &stranger] {
        hub.image(REPO, "latest").publish();
    }
    let other = format!("[[upstream]]\nname = \"stranger.lan\"\nurl = \"{}\"\n", stranger.url());
    let lanyard = Lanyard::start(&config(&hub, &other));
    let (port, gate) = (lanyard.port(), Gate::shut());
    let stall = Fault::StallAt { bytes: LEFT as u64, gate: gate.clone() };
    stranger.fault(On::blob(&digest), Fault::All(vec![Fault::Replace(vec![0; SIZE]), stall]));
    let (theirs, ours) = (blob(&format!("stranger.lan/{REPO}"), &digest), blob(REPO, &digest));
    thread::scope(|scope| {
        let gate = Opens(gate);
        let lied = scope.spawn(|| get(port, &theirs));
        assert!(gate.0.wait_for_arrivals(1, PATIENCE));
        let (ours, right) = (&ours, &right);
        let ask = |range: &'static str, ranges: &'static [(usize, usize)]| {
            scope.spawn(move || brings(port, ours, range, ranges, right, "ours"))
        };
        let late = [ask("bytes=0-1999999", &[(0, 1_999_999)]), ask("bytes=9-9,5-5", &[(9, 9), (5, 5)])];
        for early in [ask("bytes=0-99", &[(0, 99)]), ask("bytes=5-5,900000-900009", &[(5, 5), (900_000, 900_009)])] {
            assert!(early.join().unwrap(), "our registry answers");
        }
        assert_eq!(get_range(port, &theirs), vec![0; 10], "their own word is theirs");
        drop(gate);
        late.into_iter().for_each(|late| assert!(!late.join().unwrap(), "the lie is found out"));
        assert!(!lied.join().unwrap().looks_complete());
    });
    assert_eq!(digest_of(&get(port, &ours).body), digest);
}

fn get_range(port: u16, path: &str) -> Vec<u8> {
    crate::wire::ask(port, "GET", path, &[("Range", "bytes=0-9")]).body
}
