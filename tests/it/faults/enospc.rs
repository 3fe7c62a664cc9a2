//! A full disk (F7). Seen in other caches: "disk full: every pull fails until somebody deletes
//! something".

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    figure,
    plight::Plight,
    rounds,
    shelf::{cached, check_blobs, fetch, images, keep, list, pull},
};
use crate::{
    hub::{Fault, Gate, Hub, On, digest_of},
    lanyard::Lanyard,
    pull::config,
    push::Pusher,
    wire::{Connection, blob, eventually, get, manifest},
};

/// Above the space that the index wants free, so that the index is open when the disk fills up.
const SIZE: u64 = 96 << 20;

/// Fills the disk to its last byte with a file beside the data, and then frees `leave` bytes.
pub(super) fn fill(data: &Path, leave: u64) {
    let path = data.join("filler");
    let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
    let block = vec![b'x'; 1 << 20];
    for size in [1 << 20, 4096, 1] {
        while file.write(&block[..size]).is_ok() {}
    }
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(leave)).unwrap();
}

/// Frees the whole file. The bytes go before the name: a program that another test is starting may
/// still have the file open, and would keep the bytes for a while.
pub(super) fn unfill(data: &Path) {
    let path = data.join("filler");
    File::create(&path).unwrap();
    fs::remove_file(&path).unwrap();
}

/// A disk with bytes and without files (inodes): cached content makes room, for downloads and for
/// a push.
#[test]
fn f7_a_disk_without_files_goes_on_caching() {
    let hub = Hub::start();
    let mut lanyard = Lanyard::prepare(&config(&hub, "[cache]\nmin_free = \"0%\"\ntag_ttl = \"1h\"\n"));
    let Some(plight) = Plight::tmpfs_of_files(&mut lanyard, SIZE, 1200) else { return };
    let data = plight.data();
    lanyard.restart();
    // An image takes four blobs, their links, and a tag: the first hundred take all files. For the
    // others less than half of the cache goes.
    let all = images(&hub, "small", 108, &[1000, 2000]);
    for image in &all {
        pull(lanyard.port(), image).unwrap_or_else(|error| panic!("{}: {error}", image.name()));
    }
    let free = || rustix::fs::statvfs(&data).unwrap().f_favail;
    eventually("some files are free", || free() >= 12);
    keep(lanyard.port(), all.last().unwrap());
    Pusher(lanyard.port()).image("team/app", "v1", b"pushed");
    let evicted = get(lanyard.port(), "/metrics").text();
    let evicted = evicted.lines().find_map(|line| line.strip_prefix("lanyard_evicted_bytes_total{why=\"floor\"} "));
    assert!(evicted.unwrap().parse::<u64>().unwrap() > 0);
    check_blobs(&data);
}

/// 50 fills into a full disk: every client gets its exact bytes, nothing hangs, no partial blob
/// stays, and caching resumes within 10 s after there is space.
#[test]
fn f7_a_full_disk_passes_everything_through() {
    let hub = Hub::start();
    // Cached content makes room on a full disk; what is pinned does not.
    let cache = "[cache]\nmin_free = \"0%\"\ntag_ttl = \"1h\"\nkeep = [\"docker.io/library/busybox:kept*\"]\n";
    let mut lanyard = Lanyard::prepare(&config(&hub, cache));
    let Some(plight) = Plight::tmpfs(&mut lanyard, SIZE) else { return };
    let data = plight.data();
    lanyard.restart();
    let kept = images(&hub, "kept", 1, &[100 << 10, 1 << 20]).remove(0);
    keep(lanyard.port(), &kept);
    let count = rounds(50, 500);
    let all = images(&hub, "new", count, &[150 << 10, 2 << 20]);
    let next = AtomicUsize::new(0);
    let passed = AtomicUsize::new(0);
    fill(&data, 0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(image) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // The space ends at another place each time: before the part, in the part, in
                    // its record, in its manifest.
                    let round = next.load(Ordering::Relaxed) as u64;
                    fill(&data, (round % 16) * 12 * 4096);
                    let outcomes = pull(lanyard.port(), image).unwrap_or_else(|error| panic!("{error}"));
                    passed.fetch_add(usize::from(!cached(&outcomes)), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(passed.load(Ordering::Relaxed), count);
    fill(&data, 0);
    assert!(cached(&pull(lanyard.port(), &kept).unwrap()), "what is here is served from here");
    // A client has its last byte before the disk has reported its error.
    eventually("nothing is left of what was refused", || {
        list(&data.join("tmp")).is_empty() && list(&data.join("fills")).is_empty()
    });
    restarts_while_full(&mut lanyard, &plight, &hub);
    unfill(&data);
    recovers(&lanyard, &hub);
    assert!(lanyard.stop().success());
    let checked = check_blobs(&data);
    assert!(!lanyard.logs().contains("panicked at"), "a panic");
    figure(&format!("{count} fills into a full disk, {checked} blobs right afterwards"));
}

/// It starts on the full disk, with an index or without, and serves the content that it has.
fn restarts_while_full(lanyard: &mut Lanyard, plight: &Plight, hub: &Hub) {
    let kept = images(hub, "kept", 1, &[100 << 10, 1 << 20]).remove(0);
    for round in 0..rounds(4, 20) {
        fill(&plight.data(), (round as u64 % 2) * 8192);
        if round % 2 == 0 {
            assert!(lanyard.stop().success())
        } else {
            lanyard.kill9()
        }
        let began = Instant::now();
        lanyard.restart();
        assert!(began.elapsed() < Duration::from_secs(5), "started after {:?}", began.elapsed());
        assert!(cached(&pull(lanyard.port(), &kept).unwrap()));
        let new = images(hub, &format!("restart{round}-"), 1, &[300 << 10]).remove(0);
        pull(lanyard.port(), &new).unwrap();
    }
}

/// Within 10 s of space, new images are stored again.
fn recovers(lanyard: &Lanyard, hub: &Hub) {
    let began = Instant::now();
    for round in 0.. {
        let image = images(hub, &format!("later{round}-"), 1, &[300 << 10]).remove(0);
        pull(lanyard.port(), &image).unwrap();
        if cached(&pull(lanyard.port(), &image).unwrap()) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "nothing is kept though there is space");
        thread::yield_now();
    }
    figure(&format!("caching again {:?} after there was space", began.elapsed()));
}

/// The disk fills up in the middle of a download whose size was unknown: the client continues
/// straight from upstream.
#[test]
fn f7_a_disk_that_fills_up_in_mid_download_is_not_noticed() {
    let hub = Hub::start();
    let mut lanyard = Lanyard::prepare(&config(&hub, "[cache]\nmin_free = \"0%\"\n"));
    let Some(plight) = Plight::tmpfs(&mut lanyard, 8 << 20) else { return };
    lanyard.restart();
    // The repository that the blobs below are asked for in.
    images(&hub, "some", 1, &[]);
    for round in 0..rounds(8, 40) {
        let bytes: Vec<u8> = (0..3 << 20).map(|at: usize| (at * 7 + round + at / 251) as u8).collect();
        let digest = hub.put_blob(bytes);
        let chunked = round % 2 == 0;
        if chunked {
            hub.fault(On::blob(&digest).always(), Fault::Chunked);
        }
        fill(&plight.data(), (round as u64 % 8) * (400 << 10));
        let outcome = fetch(lanyard.port(), &blob("library/busybox", &digest), &digest);
        assert!(outcome.is_ok(), "round {round}, chunked {chunked}: {outcome:?}");
    }
    check_blobs(&plight.data());
}

/// F2 holds on a full disk as well: an upstream's lie does not become a whole answer because
/// nothing can be stored.
#[test]
fn f2_a_full_disk_believes_no_lie() {
    let hub = Hub::start();
    let mut lanyard = Lanyard::prepare(&config(&hub, "[cache]\nmin_free = \"0%\"\n"));
    let Some(plight) = Plight::tmpfs(&mut lanyard, 8 << 20) else { return };
    lanyard.restart();
    // The repository that the blobs below are asked for in.
    images(&hub, "some", 1, &[]);
    for round in 0..rounds(16, 100) {
        let bytes: Vec<u8> = (0..2 << 20).map(|at: usize| (at * 11 + round + at / 253) as u8).collect();
        let digest = hub.put_blob(bytes);
        hub.fault(On::blob(&digest).always(), Fault::FlipByte { at: (round as u64 * 131_071) % (2 << 20) });
        if round % 2 == 0 {
            hub.fault(On::blob(&digest).always(), Fault::Chunked);
        }
        fill(&plight.data(), (round as u64 % 8) * (200 << 10));
        let answer = get(lanyard.port(), &blob("library/busybox", &digest));
        assert!(hub.blob_gets(&digest) > 0, "the lie was not told: {}", answer.status);
        let whole = answer.status == 200 && answer.looks_complete();
        assert!(!whole || digest_of(&answer.body) == digest, "round {round}: a whole lie");
    }
    check_blobs(&plight.data());
}

/// F2 when the disk fills up in mid-body: the bytes from the disk and the bytes that are passed
/// through must together be the blob.
#[test]
fn f2_a_disk_that_fills_up_in_mid_body_believes_no_lie() {
    const SIZE: u64 = 200 << 10;
    let hub = Hub::start();
    let mut lanyard = Lanyard::prepare(&config(&hub, "[cache]\nmin_free = \"0%\"\n"));
    let Some(plight) = Plight::tmpfs(&mut lanyard, 8 << 20) else { return };
    lanyard.restart();
    for (tag, lies) in [("honest", false), ("lying", true)] {
        let _ = fs::remove_file(plight.data().join("filler"));
        let image = images(&hub, tag, 1, &[SIZE]).remove(0);
        let (layer, gate) = (image.layer(0), Gate::shut());
        fetch(lanyard.port(), &manifest(&image.repo, &image.tag), &image.digest).unwrap();
        hub.fault(On::blob(layer), Fault::StallAt { bytes: SIZE / 2, gate: gate.clone() });
        if lies {
            // The rest has another first byte, in whichever way it is asked for.
            hub.fault(On::blob(layer).always(), Fault::FlipByte { at: 0 });
        }
        let mut client = Connection::open(lanyard.port());
        client.request("GET", &blob(&image.repo, layer), &[]);
        assert_eq!(client.head().unwrap().0, 200);
        let mut body = client.read_body(SIZE as usize / 2);
        fill(&plight.data(), 0);
        gate.open();
        body.extend(client.read_body(SIZE as usize / 2));
        assert!(hub.blob_gets(layer) >= 2, "the disk was not full: {} requests", hub.blob_gets(layer));
        let whole = body.len() as u64 == SIZE;
        assert_eq!(whole && digest_of(&body) == layer, !lies, "{tag}: {} bytes", body.len());
        assert!(!lies || !whole, "a whole lie");
    }
    check_blobs(&plight.data());
}
