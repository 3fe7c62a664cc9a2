//! The fill, F1–F8 (src/pull/fill/mod.rs), seen from outside.

use std::{sync::Barrier, thread, time::Duration};

use super::{config, mirror, mirror_with};
use crate::{
    hub::{Cut, Fault, Gate, Hub, On, digest_of},
    lanyard::Lanyard,
    wire::{Connection, ask, blob, eventually, get, head, manifest},
};

const REPO: &str = "library/busybox";
const PATIENCE: Duration = Duration::from_secs(60);

/// Seen in other caches: "N cold clients cost N upstream downloads".
#[test]
fn f4_a_hundred_clients_cost_one_download() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(8 << 20).publish();
    let layer = image.layer(0).to_owned();
    let lanyard = mirror(&hub);
    // The first client has its first byte before the others come, so they join in mid-download.
    let gate = Gate::shut();
    hub.fault(On::blob(&layer), Fault::StallAt { bytes: 1 << 20, gate: gate.clone() });
    let barrier = Barrier::new(100);
    let answers: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..100)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    get(lanyard.port(), &blob(REPO, &layer))
                })
            })
            .collect();
        assert!(gate.wait_for_arrivals(1, PATIENCE));
        gate.open();
        clients.into_iter().map(|c| c.join().unwrap()).collect()
    });
    for answer in &answers {
        assert_eq!((answer.status, digest_of(&answer.body)), (200, layer.clone()));
    }
    assert_eq!(hub.blob_gets(&layer), 1, "one download");
    assert_eq!(hub.blob_bytes_sent(&layer), 8 << 20, "of exactly its bytes");
    assert_eq!(answers.iter().filter(|a| a.outcome() == "filled").count(), 1);
    assert_eq!(get(lanyard.port(), &blob(REPO, &layer)).outcome(), "hit");
}

/// Seen in other caches: "a waiter gets nothing until the whole blob is stored". F1: bytes that are
/// advertised can be read.
#[test]
fn f1_bytes_arrive_while_the_download_runs() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(4 << 20).publish();
    let layer = image.layer(0).to_owned();
    let lanyard = mirror(&hub);
    let gate = Gate::shut();
    hub.fault(On::blob(&layer), Fault::StallAt { bytes: 1 << 20, gate: gate.clone() });
    let mut clients: Vec<_> = (0..3).map(|_| Connection::open(lanyard.port())).collect();
    let mut begun = Vec::new();
    for client in &mut clients {
        client.request("GET", &blob(REPO, &layer), &[]);
        assert_eq!(client.head().unwrap().0, 200);
        // Upstream is stopped at the gate, and yet its first MiB is here.
        begun.push(client.read_body(1 << 20));
    }
    gate.open();
    for (client, mut body) in clients.iter_mut().zip(begun) {
        body.extend(client.read_body(3 << 20));
        assert_eq!(digest_of(&body), layer);
    }
    assert_eq!(hub.blob_gets(&layer), 1);
}

/// F2, S11: an answer with a wrong byte never looks complete, and the byte is never stored.
#[test]
fn f2_wrong_bytes_are_never_complete() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(300_000).publish();
    let layer = image.layer(0).to_owned();
    let lanyard = mirror(&hub);
    for at in [0, 1, 65_535, 150_000, 299_998, 299_999] {
        hub.fault(On::blob(&layer), Fault::FlipByte { at });
        let answer = get(lanyard.port(), &blob(REPO, &layer));
        assert!(answer.status >= 500 || !answer.looks_complete(), "a flip at {at} came through as {}", answer.status);
    }
    let answer = get(lanyard.port(), &blob(REPO, &layer));
    assert_eq!((answer.status, digest_of(&answer.body)), (200, layer.clone()), "nothing wrong was kept");
    assert_eq!(hub.blob_gets(&layer), 7);
}

/// A slow reader and one that leaves do not touch the fill. Seen in other caches: "a client that
/// leaves cancels it".
#[test]
fn f5_clients_leave_and_the_fill_goes_on() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(8 << 20).publish();
    let layer = image.layer(0).to_owned();
    let lanyard = mirror(&hub);
    let gate = Gate::shut();
    hub.fault(On::blob(&layer), Fault::StallAt { bytes: 4 << 20, gate: gate.clone() });
    let mut first = Connection::open(lanyard.port());
    first.request("GET", &blob(REPO, &layer), &[]);
    assert_eq!(first.head().unwrap().0, 200);
    first.read_body(1 << 20);
    let mut lazy = Connection::open(lanyard.port());
    lazy.request("GET", &blob(REPO, &layer), &[]);
    assert_eq!(lazy.head().unwrap().0, 200);
    drop(first);
    gate.open();
    // No client reads now, and the blob is filled nevertheless.
    eventually("the blob is stored", || get(lanyard.port(), &blob(REPO, &layer)).outcome() == "hit");
    assert_eq!(digest_of(&lazy.read_body(8 << 20)), layer, "the lazy one gets all of it at its own pace");
    assert_eq!(hub.blob_gets(&layer), 1);
}

/// F6: a source that is cut by FIN and by RST, stalled, or short is resumed with Range from the
/// last good byte; the client notices nothing.
#[test]
fn f6_a_broken_source_is_resumed() {
    let hub = Hub::start();
    let size: u64 = 6 << 20;
    let image = hub.image(REPO, "latest").layer(size).publish();
    let layer = image.layer(0).to_owned();
    let lanyard = mirror(&hub);
    hub.fault(On::blob(&layer), Fault::CutAfter { bytes: 1 << 20, how: Cut::Fin });
    hub.fault(On::blob(&layer), Fault::CutAfter { bytes: 1 << 20, how: Cut::Rst });
    hub.fault(On::blob(&layer), Fault::CutAfter { bytes: 1 << 20, how: Cut::Fin });
    let answer = get(lanyard.port(), &blob(REPO, &layer));
    assert_eq!((answer.status, digest_of(&answer.body)), (200, layer.clone()));
    let ranges: Vec<_> =
        hub.requests().iter().filter(|r| r.is_blob_get(&layer)).map(|r| r.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges.len(), 4, "{ranges:?}");
    assert!(ranges[0].is_none() && ranges[1..].iter().all(Option::is_some), "{ranges:?}");
    // RST may destroy bytes on the way; FIN may not.
    assert!(hub.blob_bytes_sent(&layer) <= size + size / 10, "{} bytes for {size}", hub.blob_bytes_sent(&layer));
}

/// F6: a source that ignores Range sends all of the blob again; no byte is doubled.
#[test]
fn f6_a_source_without_ranges_is_skipped_through() {
    let hub = Hub::builder().without_ranges().start();
    let image = hub.image(REPO, "latest").layer(2 << 20).publish();
    let layer = image.layer(0).to_owned();
    let lanyard = mirror(&hub);
    hub.fault(On::blob(&layer), Fault::CutAfter { bytes: 1 << 20, how: Cut::Fin });
    let answer = get(lanyard.port(), &blob(REPO, &layer));
    assert_eq!((answer.status, digest_of(&answer.body)), (200, layer.clone()));
    assert_eq!(hub.blob_gets(&layer), 2);
}

/// F6: another repository that was asked for the same digest serves as the second source.
#[test]
fn f6_another_repository_serves_as_the_source() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(2 << 20).publish();
    hub.image("library/other", "latest").layer(2 << 20).publish();
    let layer = image.layer(0).to_owned();
    let other = hub.image("library/other", "same").layer_of(hub.blob(&layer).unwrap()).publish();
    assert_eq!(other.layer(0), layer);
    let lanyard = mirror(&hub);
    let gate = Gate::shut();
    let stall = Fault::StallAt { bytes: 1 << 20, gate: gate.clone() };
    let cut = Fault::CutAfter { bytes: (1 << 20) + 1, how: Cut::Fin };
    hub.fault(On::redirect_of(&layer).in_repo(REPO).after(1).always(), Fault::status(404));
    hub.fault(On::blob(&layer), Fault::All(vec![stall, cut]));
    thread::scope(|scope| {
        let first = scope.spawn(|| get(lanyard.port(), &blob(REPO, &layer)));
        assert!(gate.wait_for_arrivals(1, PATIENCE));
        let second = scope.spawn(|| {
            let mut client = Connection::open(lanyard.port());
            client.request("GET", &blob("library/other", &layer), &[]);
            assert_eq!(client.head().unwrap().0, 200);
            gate.open();
            client.read_body(2 << 20)
        });
        assert_eq!(digest_of(&second.join().unwrap()), layer);
        assert_eq!(digest_of(&first.join().unwrap().body), layer);
    });
}

/// Seen in other caches: "cold Range: bytes=0-99 answers 200 with the whole blob"; F8.
#[test]
fn f8_a_cold_range_is_206_as_soon_as_its_bytes_are_there() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(2 << 20).publish();
    let layer = image.layer(0).to_owned();
    let bytes = hub.blob(&layer).unwrap();
    let lanyard = mirror(&hub);
    let gate = Gate::shut();
    hub.fault(On::blob(&layer), Fault::StallAt { bytes: 1 << 20, gate: gate.clone() });
    let range = |range: &str| ask(lanyard.port(), "GET", &blob(REPO, &layer), &[("Range", range)]);
    let answer = range("bytes=0-99");
    assert_eq!((answer.status, &answer.body[..]), (206, &bytes[..100]));
    assert_eq!(answer.header("content-range"), Some("bytes 0-99/2097152"));
    let answer = range("bytes=1000-1999");
    assert_eq!((answer.status, &answer.body[..]), (206, &bytes[1000..2000]));
    assert_eq!(range("bytes=2097152-").status, 416);
    gate.open();
    let answer = range("bytes=-500");
    assert_eq!((answer.status, &answer.body[..]), (206, &bytes[bytes.len() - 500..]));
    assert_eq!(hub.blob_gets(&layer), 1);
}

/// F8: a range far past the mark is passed through, and the fill goes on.
#[test]
fn f8_a_range_far_ahead_is_passed_through() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(48 << 20).publish();
    let layer = image.layer(0).to_owned();
    let lanyard = mirror(&hub);
    let gate = Gate::shut();
    hub.fault(On::blob(&layer), Fault::StallAt { bytes: 1 << 20, gate: gate.clone() });
    let at = 47 << 20;
    let answer = ask(lanyard.port(), "GET", &blob(REPO, &layer), &[("Range", &format!("bytes={at}-{}", at + 99))]);
    assert_eq!((answer.status, answer.outcome()), (206, "bypassed"));
    assert_eq!(answer.body, hub.blob(&layer).unwrap()[at..at + 100]);
    gate.open();
    eventually("the blob is stored", || head(lanyard.port(), &blob(REPO, &layer)).outcome() == "hit");
}

/// F7: no space on the disk; the client gets its bytes all the same, and nothing is stored.
#[test]
fn f7_a_full_disk_is_passed_through() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(2 << 20).publish();
    let layer = image.layer(0).to_owned();
    let lanyard = mirror_with(&hub, "[cache]\nmax_size = \"1 MiB\"");
    // Its manifest states the blob's length, so that no download is begun in vain.
    assert_eq!(get(lanyard.port(), &manifest(REPO, "latest")).status, 200);
    for _ in 0..2 {
        let answer = get(lanyard.port(), &blob(REPO, &layer));
        assert_eq!((answer.status, answer.outcome(), digest_of(&answer.body)), (200, "bypassed", layer.clone()));
    }
    let range = ask(lanyard.port(), "GET", &blob(REPO, &layer), &[("Range", "bytes=5-9")]);
    assert_eq!((range.status, range.outcome()), (206, "bypassed"));
    hub.fault(On::blob(&layer), Fault::FlipByte { at: 77 });
    assert!(!get(lanyard.port(), &blob(REPO, &layer)).looks_complete(), "also what passes is proven");
    assert_eq!(hub.blob_gets(&layer), 4);
}

/// F7: a user who starts lanyard on a disk that is too full is told so at once.
#[test]
fn f7_a_disk_that_is_full_from_the_start_is_told() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1 << 10).publish();
    let lanyard = Lanyard::start_with(&config(&hub, ""), &[("LANYARD__CACHE__MIN_FREE", "100%")]);
    let words = "cache.min_free is reached: new content is passed on and not kept";
    eventually("it is said", || lanyard.logs().contains(words));
    let answer = get(lanyard.port(), &blob(REPO, image.layer(0)));
    assert_eq!((answer.status, answer.outcome()), (200, "bypassed"));
    assert!(!mirror(&hub).logs().contains("is reached"), "there is room for what nobody wants to keep free");
}

/// F7: upstream refuses, or does not answer; every client is told, within seconds.
#[test]
fn f7_every_claim_ends() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror_with(&hub, "[cache]\nnegative_ttl = \"0s\"");
    let missing = digest_of(b"nobody has this");
    let answer = get(lanyard.port(), &blob(REPO, &missing));
    assert_eq!((answer.status, answer.error_code()), (404, "BLOB_UNKNOWN".to_owned()));
    let faults = [
        Fault::status(500),
        Fault::CloseDelimited,
        Fault::ClaimGzip,
        Fault::RedirectLoop,
        Fault::Drop(Cut::Rst),
        Fault::BothLengths,
        Fault::InterimOnly(vec![103]),
        Fault::Garbage(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        let digest = hub.put_blob(format!("blob number {n}").into_bytes());
        hub.fault(On::blob(&digest).always(), fault.clone());
        let answer = get(lanyard.port(), &blob(REPO, &digest));
        assert!((502..=504).contains(&answer.status), "{fault:?} gave {}: {}", answer.status, answer.text());
        hub.clear_faults();
        eventually("it works again", || get(lanyard.port(), &blob(REPO, &digest)).status == 200);
    }
}

/// FAULTS: a download that upstream always ends early is never taken for a whole blob. The long
/// form is in docs/NUMBERS.md.
#[test]
fn f2_truncations_are_never_complete() {
    let hub = Hub::builder().without_ranges().start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror(&hub);
    thread::scope(|scope| {
        for n in 0..24u64 {
            let (hub, lanyard) = (&hub, &lanyard);
            scope.spawn(move || {
                let body: Vec<u8> = (0..40_000u64).map(|i| ((i * 31 + n * 7) % 251) as u8).collect();
                let digest = hub.put_blob(body);
                // The whole length is announced, and fewer bytes are sent, again and again.
                let (bytes, how) = ((n * 1_700).min(39_999), if n % 2 == 0 { Cut::Fin } else { Cut::Rst });
                hub.fault(On::blob(&digest).times(2), Fault::CutAfter { bytes, how });
                hub.fault(On::blob(&digest).always(), Fault::status(404));
                let mut client = Connection::open(lanyard.port());
                client.request("GET", &blob(REPO, &digest), &[]);
                let answer = client.answer("GET").unwrap();
                assert!(answer.status != 200 || !answer.looks_complete(), "cut at {bytes} looked complete");
            });
        }
    });
    assert!(hub.any_blob_gets() >= 24, "the cuts were met");
    assert_eq!(stored(&lanyard), 0, "nothing was stored");
}

/// How many blobs are stored under their final names.
fn stored(lanyard: &crate::lanyard::Lanyard) -> usize {
    let Ok(folders) = std::fs::read_dir(lanyard.data_dir().join("blobs/sha256")) else { return 0 };
    folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
}
