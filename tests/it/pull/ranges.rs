//! Several ranges in one request (RFC 9110 section 14.6): of a blob that is here, that is coming,
//! and that no client has asked for.

use std::{collections::BTreeSet, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::{mirror, mirror_with};
use crate::{
    hub::{Fault, Gate, Hub, On},
    lanyard::Lanyard,
    wire::{Answer, Connection, ask, blob, eventually, get, head, manifest, send},
};

const REPO: &str = "library/busybox";
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;

/// The ranges and the bytes of an answer's parts, read strictly: every byte of the body is
/// accounted for.
fn parts(answer: &Answer) -> Vec<(usize, Vec<u8>)> {
    assert_eq!(answer.status, 206, "{}", answer.text());
    assert!(answer.looks_complete(), "Content-Length is exact");
    assert_eq!(answer.header("content-range"), None, "it is the parts' own");
    let boundary = answer.header("content-type").and_then(|kind| kind.strip_prefix("multipart/byteranges; boundary="));
    let boundary = boundary.unwrap_or_else(|| panic!("{:?}", answer.headers));
    assert!(boundary.len() >= 16 && boundary.bytes().all(|b| b.is_ascii_alphanumeric()), "{boundary}");
    let mut rest = answer.body.as_slice();
    let mut delimiter = format!("--{boundary}");
    let mut all = Vec::new();
    loop {
        rest = rest.strip_prefix(delimiter.as_bytes()).expect("a delimiter");
        if let Some(behind) = rest.strip_prefix(b"--\r\n") {
            assert!(behind.is_empty());
            return all;
        }
        delimiter = format!("\r\n--{boundary}");
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("a part's head ends");
        let lines = std::str::from_utf8(&rest[..end]).unwrap().strip_prefix("\r\n").unwrap();
        let lines: Vec<_> = lines.split("\r\n").map(|line| line.split_once(": ").unwrap()).collect();
        assert_eq!(lines[0], ("Content-Type", "application/octet-stream"));
        assert_eq!((lines.len(), lines[1].0), (2, "Content-Range"));
        let (range, total) = lines[1].1.strip_prefix("bytes ").unwrap().split_once('/').unwrap();
        assert!(total.parse::<usize>().is_ok());
        let (first, last) = range.split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        rest = &rest[end + 4..];
        all.push((first, rest[..=last - first].to_vec()));
        rest = &rest[last - first + 1..];
    }
}

/// The expected parts: ranges, first and last.
fn slices(bytes: &[u8], ranges: &[(usize, usize)]) -> Vec<(usize, Vec<u8>)> {
    ranges.iter().map(|(first, last)| (*first, bytes[*first..=*last].to_vec())).collect()
}

fn ranged(port: u16, path: &str, range: &str) -> Answer {
    ask(port, "GET", path, &[("Range", range)])
}

/// Sets of ranges over 300,000 bytes, and the expected parts of the answers.
fn table() -> Vec<(&'static str, Vec<(usize, usize)>)> {
    vec![
        ("bytes=0-0,299999-299999", vec![(0, 0), (299_999, 299_999)]),
        ("bytes=0-99,200-299,1000-70000", vec![(0, 99), (200, 299), (1000, 70_000)]),
        ("bytes=0-99, 100-199", vec![(0, 99), (100, 199)]),
        ("bytes=,5-5 ,, 7-7,", vec![(5, 5), (7, 7)]),
        ("bytes=200-299,0-99", vec![(200, 299), (0, 99)]),
        ("bytes=-10,0-9", vec![(299_990, 299_999), (0, 9)]),
        ("bytes=0-9,299000-", vec![(0, 9), (299_000, 299_999)]),
        ("bytes=0-9,5-19,100-109", vec![(0, 19), (100, 109)]),
        ("bytes=100-109,0-9,105-119,300000-", vec![(100, 119), (0, 9)]),
        ("bytes=0-149999,150000-299999", vec![(0, 149_999), (150_000, 299_999)]),
        ("bytes=4095-4097,8191-8193,65535-131073", vec![(4_095, 4_097), (8_191, 8_193), (65_535, 131_073)]),
    ]
}

/// One answer for each row; with `fresh`, each row has a blob of its own.
fn holds_the_table(lanyard: &Lanyard, mut place: impl FnMut() -> (String, Vec<u8>)) {
    for (range, expected) in table() {
        let (path, bytes) = place();
        assert!(parts(&ranged(lanyard.port(), &path, range)) == slices(&bytes, &expected), "{range}");
    }
}

fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    StdRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}

/// A pushed blob's path.
fn pushed(lanyard: &Lanyard, bytes: &[u8]) -> String {
    let digest = crate::hub::digest_of(bytes);
    let path = format!("/v2/team/app/blobs/uploads/?digest={digest}");
    assert_eq!(send(lanyard.port(), "POST", &path, &[], bytes).status, 201);
    blob("team/app", &digest)
}

#[test]
fn several_ranges_of_what_is_here_are_parts() {
    let lanyard = Lanyard::start("mode = \"offline\"\n");
    let bytes = noise(1, 300_000);
    let path = pushed(&lanyard, &bytes);
    holds_the_table(&lanyard, || (path.clone(), bytes.clone()));
    let boundary = || ranged(lanyard.port(), &path, "bytes=0-1,3-4").header("content-type").map(str::to_owned);
    assert_ne!(boundary(), boundary(), "nobody guesses it");
}

/// Pipelined, in HTTP/1.0, and with a client that leaves within a part: as for single ranges.
#[test]
fn parts_keep_step_with_other_answers() {
    let lanyard = Lanyard::start("mode = \"offline\"\n");
    let bytes = noise(2, 9 * MIB);
    let path = pushed(&lanyard, &bytes);
    let range = "bytes=0-9,100-5000000,9000000-";
    let expected = slices(&bytes, &[(0, 9), (100, 5_000_000), (9_000_000, 9 * MIB - 1)]);
    let mut connection = Connection::open(lanyard.port());
    for _ in 0..3 {
        let two = [("Range", range)];
        connection.request("GET", &path, &two);
        connection.request("HEAD", &path, &two);
        connection.request("GET", &path, &[("Range", "bytes=5-6")]);
    }
    for _ in 0..3 {
        assert!(parts(&connection.answer("GET").unwrap()) == expected);
        assert_eq!(connection.answer("HEAD").unwrap().header("content-length"), Some("9437184"));
        assert_eq!(connection.answer("GET").unwrap().body, bytes[5..7]);
    }
    let mut old = Connection::open(lanyard.port());
    old.send(format!("GET {path} HTTP/1.0\r\nRange: {range}\r\n\r\n").as_bytes());
    let answer = old.answer("GET").unwrap();
    assert!(parts(&answer) == expected);
    assert_eq!(old.read_body(1), b"", "the connection ends behind it");
    for at in [1, 200, 3 * MIB] {
        let mut leaves = Connection::open(lanyard.port());
        leaves.request("GET", &path, &[("Range", range)]);
        assert_eq!(leaves.head().unwrap().0, 206);
        leaves.read_body(at);
    }
    assert!(parts(&ranged(lanyard.port(), &path, range)) == expected);
    assert!(!lanyard.logs().contains("panicked at"));
}

/// RFC 9110 sections 13.1.5, 14.2, 15.5.17, and S9.
#[test]
fn what_is_no_set_of_ranges_is_the_whole_or_refused() {
    let lanyard = Lanyard::start("mode = \"offline\"\n");
    let bytes = noise(3, 300_000);
    let path = pushed(&lanyard, &bytes);
    let digest = path.rsplit('/').next().unwrap().to_owned();
    for range in
        ["bytes=0-9,x", "bytes=0-9;20-29", "lines=0-9,20-29", "bytes=9-0,20-29", "bytes=", "bytes=,", "0-9,20-29"]
    {
        let answer = ranged(lanyard.port(), &path, range);
        assert_eq!((answer.status, answer.body == bytes), (200, true), "{range}");
    }
    for range in ["bytes=300000-,300001-", "bytes=-0,400000-500000"] {
        let answer = ranged(lanyard.port(), &path, range);
        assert_eq!((answer.status, answer.header("content-range")), (416, Some("bytes */300000")), "{range}");
    }
    // If only one range is left over, or several merge into one, the answer is a single range.
    for (range, first, last) in [("bytes=5-9,300000-", 5, 9), ("bytes=0-9,5-19", 0, 19), ("bytes=0-,-5", 0, 299_999)] {
        let answer = ranged(lanyard.port(), &path, range);
        assert_eq!(answer.header("content-range"), Some(&*format!("bytes {first}-{last}/300000")), "{range}");
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        assert_eq!((answer.status, answer.body == bytes[first..=last]), (206, true), "{range}");
    }
    let two = ("Range", "bytes=0-1,3-4");
    for (condition, status) in [(format!("\"{digest}\""), 206), (format!("W/\"{digest}\""), 200), ("\"x\"".into(), 200)]
    {
        assert_eq!(ask(lanyard.port(), "GET", &path, &[two, ("If-Range", &condition)]).status, status, "{condition}");
    }
    let known = format!("\"{digest}\"");
    assert_eq!(ask(lanyard.port(), "GET", &path, &[two, ("If-None-Match", &known)]).status, 304);
    let answer = ask(lanyard.port(), "HEAD", &path, &[two]);
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("300000")), "Range is defined for GET");
    let set = |count: usize| {
        let specs: Vec<_> = (0..count).map(|n| format!("{}-{}", 250 * n, 250 * n + 9)).collect();
        format!("bytes={}", specs.join(","))
    };
    let expected: Vec<_> = (0..1000).map(|n| (250 * n, 250 * n + 9)).collect();
    assert!(parts(&ranged(lanyard.port(), &path, &set(1000))) == slices(&bytes, &expected));
    for count in [1001, 1023, 3000] {
        let answer = ranged(lanyard.port(), &path, &set(count));
        assert_eq!((answer.status, answer.error_code()), (400, "RANGE_INVALID".to_owned()), "{count}");
    }
    // All of the ranges name one byte: no byte is sent twice.
    let again = format!("bytes={}", vec!["0-"; 1000].join(","));
    let answer = ranged(lanyard.port(), &path, &again);
    assert_eq!((answer.status, answer.body == bytes), (206, true));
}

/// Cold: the first request for a blob asks for several ranges of it. The whole blob is filled,
/// once.
#[test]
fn several_ranges_of_what_nobody_has_asked_for_are_parts() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror(&hub);
    let mut digests = BTreeSet::new();
    let mut seed = 100;
    holds_the_table(&lanyard, || {
        seed += 1;
        let bytes = noise(seed, 300_000);
        let digest = hub.put_blob(bytes.clone());
        digests.insert(digest.clone());
        (blob(REPO, &digest), bytes)
    });
    for digest in digests {
        eventually("it is filled", || get(lanyard.port(), &blob(REPO, &digest)).outcome() == "hit");
        assert_eq!(hub.blob_gets(&digest), 1, "one download");
    }
    let digest = hub.put_blob(noise(99, 300_000));
    let answer = ranged(lanyard.port(), &blob(REPO, &digest), "bytes=300000-,400000-");
    assert_eq!((answer.status, answer.header("content-range")), (416, Some("bytes */300000")));
}

/// F1, F8: a part is sent as soon as its bytes are there, in the order of the request.
#[test]
fn f8_parts_arrive_while_the_download_runs() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(4 << 20).publish();
    let layer = image.layer(0).to_owned();
    let bytes = hub.blob(&layer).unwrap();
    let lanyard = mirror(&hub);
    let gate = Gate::shut();
    hub.fault(On::blob(&layer), Fault::StallAt { bytes: 1 << 20, gate: gate.clone() });
    let path = blob(REPO, &layer);
    let here = ranged(lanyard.port(), &path, "bytes=70000-70099,0-9,500000-500099");
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    assert!(parts(&here) == slices(&bytes, &[(70_000, 70_099), (0, 9), (500_000, 500_099)]), "all is here");
    // The first two are here, the others are not.
    let mut client = Connection::open(lanyard.port());
    client.request("GET", &path, &[("Range", "bytes=5-9,900000-900099,3000000-3000099,100-199,-100")]);
    let (status, headers) = client.head().unwrap();
    let mut body = Vec::new();
    while !body.windows(100).any(|window| window == &bytes[900_000..900_100]) {
        let more = client.read_body(1);
        assert_eq!(more.len(), 1, "the second part comes while upstream stalls");
        body.extend(more);
    }
    let mut ahead = Connection::open(lanyard.port());
    ahead.request("GET", &path, &[("Range", "bytes=3000000-3000099,0-9")]);
    gate.open();
    let length: usize = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
    body.extend(client.read_body(length - body.len()));
    let answer = Answer { status, headers, body, first_byte: None };
    let end = bytes.len() - 100;
    let expected = [(5, 9), (900_000, 900_099), (3_000_000, 3_000_099), (100, 199), (end, end + 99)];
    assert!(parts(&answer) == slices(&bytes, &expected));
    let answer = ahead.answer("GET").unwrap();
    assert!(parts(&answer) == slices(&bytes, &[(3_000_000, 3_000_099), (0, 9)]), "a part behind is not lost");
    assert_eq!(hub.blob_gets(&layer), 1);
}

/// F8: podman asks first for the table of contents at the end of a layer. It is passed through by
/// one request upstream. Parts that lie far apart are waited for: no request costs one upstream
/// request for each of its parts.
#[test]
fn f8_parts_far_ahead_cost_one_request_upstream_or_none() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(48 << 20).publish();
    let layer = image.layer(0).to_owned();
    let bytes = hub.blob(&layer).unwrap();
    let lanyard = mirror(&hub);
    let gate = Gate::shut();
    hub.fault(On::blob(&layer), Fault::StallAt { bytes: 1 << 20, gate: gate.clone() });
    let path = blob(REPO, &layer);
    let (first, second) = (47 * MIB, 47 * MIB + 50_000);
    let near = format!("bytes={first}-{},{second}-{},{}-", first + 9_999, second + 9_999, bytes.len() - 100);
    let answer = ranged(lanyard.port(), &path, &near);
    assert_eq!(answer.outcome(), "bypassed");
    let end = (bytes.len() - 100, bytes.len() - 1);
    assert!(parts(&answer) == slices(&bytes, &[(first, first + 9_999), (second, second + 9_999), end]));
    assert_eq!(hub.blob_gets(&layer), 2, "the download, and one more for all parts");
    // Far apart, or in another order, or one of them near: they wait for the download.
    let apart = format!("bytes={}-{},{first}-{}", 40 * MIB, 40 * MIB + 9, first + 9);
    let back = format!("bytes={second}-{},{first}-{}", second + 9, first + 9);
    let mixed = format!("bytes=0-9,{first}-{}", first + 9);
    let sets = [
        (apart, vec![(40 * MIB, 40 * MIB + 9), (first, first + 9)]),
        (back, vec![(second, second + 9), (first, first + 9)]),
        (mixed, vec![(0, 9), (first, first + 9)]),
    ];
    let mut clients: Vec<_> = sets.iter().map(|_| Connection::open(lanyard.port())).collect();
    for (client, (range, _)) in clients.iter_mut().zip(&sets) {
        client.request("GET", &path, &[("Range", range)]);
    }
    assert_eq!(clients[2].head().unwrap().0, 206, "its first part is here");
    gate.open();
    for (client, (range, expected)) in clients.iter_mut().zip(&sets).take(2) {
        assert!(parts(&client.answer("GET").unwrap()) == slices(&bytes, expected), "{range}");
    }
    eventually("the blob is stored", || head(lanyard.port(), &path).outcome() == "hit");
    assert_eq!(hub.blob_gets(&layer), 2);
}

/// F2: parts that together are the whole blob do not avoid its proof.
#[test]
fn f2_wrong_bytes_are_never_complete_in_parts() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(300_000).publish();
    let layer = image.layer(0).to_owned();
    let lanyard = mirror(&hub);
    let path = blob(REPO, &layer);
    for range in ["bytes=0-149999,150000-", "bytes=150000-,0-149999", "bytes=-1,0-299998", "bytes=0-1,2-299998,299999-"]
    {
        for at in [0, 150_000, 299_999] {
            hub.fault(On::blob(&layer), Fault::FlipByte { at });
            let answer = ranged(lanyard.port(), &path, range);
            let told = answer.status >= 500 || !answer.looks_complete();
            assert!(told, "{range}: a flip at {at} came through as {}", answer.status);
        }
    }
}

/// F7: no space on the disk. Upstream is asked once for all parts; in an order that one answer
/// cannot serve, for the whole blob.
#[test]
fn f7_a_full_disk_passes_parts_through() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(2 << 20).publish();
    let layer = image.layer(0).to_owned();
    let bytes = hub.blob(&layer).unwrap();
    let lanyard = mirror_with(&hub, "[cache]\nmax_size = \"1 MiB\"");
    // Its manifest states the blob's length, so that no download is begun in vain.
    assert_eq!(get(lanyard.port(), &manifest(REPO, "latest")).status, 200);
    let path = blob(REPO, &layer);
    let answer = ranged(lanyard.port(), &path, "bytes=5-9,70000-170000,2000000-");
    assert_eq!(answer.outcome(), "bypassed");
    assert!(parts(&answer) == slices(&bytes, &[(5, 9), (70_000, 170_000), (2_000_000, bytes.len() - 1)]));
    assert_eq!(hub.blob_gets(&layer), 1, "one request for all");
    let answer = ranged(lanyard.port(), &path, "bytes=2000000-,5-9");
    assert_eq!((answer.status, answer.outcome(), answer.body == bytes), (200, "bypassed", true));
    // Parts that are the whole blob are proven.
    for at in [0, 1_000_000, bytes.len() as u64 - 1] {
        hub.fault(On::blob(&layer), Fault::FlipByte { at });
        let answer = ranged(lanyard.port(), &path, "bytes=0-999999,1000000-");
        assert!(answer.status >= 500 || !answer.looks_complete(), "a flip at {at}");
    }
    assert_eq!(hub.blob_gets(&layer), 5);
}

/// Random sets in random states against a slicer of a byte at a time.
#[test]
fn random_sets_bring_the_bytes_that_were_asked_for() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror(&hub);
    let mut rng = StdRng::seed_from_u64(7);
    for seed in 0..12 {
        let bytes = noise(1000 + seed, rng.random_range(1..200_000));
        let digest = hub.put_blob(bytes.clone());
        for _ in 0..12 {
            one_random_set(&lanyard, &blob(REPO, &digest), &bytes, &mut rng);
        }
        assert_eq!(hub.blob_gets(&digest), 1);
    }
}

fn one_random_set(lanyard: &Lanyard, path: &str, bytes: &[u8], rng: &mut StdRng) {
    let mut ranges: Vec<(usize, usize)> = (0..rng.random_range(2..40))
        .map(|_| {
            let first = rng.random_range(0..bytes.len());
            (first, rng.random_range(first..bytes.len().min(first + 1 + bytes.len() / 20)))
        })
        .collect();
    ranges.sort_unstable();
    if rng.random() {
        ranges.shuffle(rng);
    }
    let specs: Vec<_> = ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
    let range = format!("bytes={}", specs.join(","));
    let mut asked = vec![false; bytes.len()];
    ranges.iter().for_each(|(first, last)| asked[*first..=*last].fill(true));
    let answer = ranged(lanyard.port(), path, &range);
    let parts = match answer.header("content-range") {
        None => parts(&answer),
        Some(single) => {
            let first = single.strip_prefix("bytes ").unwrap().split('-').next().unwrap();
            vec![(first.parse().unwrap(), answer.body)]
        }
    };
    for (first, part) in parts {
        assert!(part == bytes[first..first + part.len()], "{range}");
        assert!(asked[first..first + part.len()].iter().all(|asked| *asked), "{range}: once, and nothing else");
        asked[first..first + part.len()].fill(false);
    }
    assert!(!asked.contains(&true), "{range}: all of it");
}
