//! K1: 200 downloads that begin together on a full cache, and the blocks of the disk meanwhile.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::{KIB, cap, contents, fetch, hub, told};
use crate::{
    faults::{
        figure,
        plight::Plight,
        rounds,
        shelf::{blob_file, check_blobs, digests, list},
    },
    lanyard::Lanyard,
    pull::config,
    wire::eventually,
};

const TOGETHER: usize = 200;
const MAX: u64 = 32 << 20;

/// The record of a download under way takes a block.
const RECORDS: u64 = TOGETHER as u64 * 4096;

/// The bytes of the file system that are taken, as it says at one moment.
fn taken(data: &Path) -> u64 {
    let now = rustix::fs::statvfs(data).unwrap();
    (now.f_blocks - now.f_bfree) * now.f_frsize
}

/// The disk has the data folder alone, and is looked at each millisecond. Its blocks are those of
/// the cap and half a percent at most, beside the links and records, which the cap does not count.
/// No client sees an error.
#[test]
fn k1_downloads_that_begin_together_take_no_more_blocks_than_the_cap() {
    let hub = hub();
    let mut lanyard = Lanyard::prepare(&config(&hub, &cap("32 MiB")));
    let Some(plight) = Plight::tmpfs(&mut lanyard, 256 << 20) else { return };
    let data = plight.data();
    // There is no index, which would take blocks of its own.
    plight.must(&format!("mkdir {0}/index && mount -t tmpfs -o size=64k lanyard {0}/index", plight.inside()));
    lanyard.restart();
    // Each half is more than fits, so that none of it is here when its turn comes.
    let names = contents(&hub, 0..2 * TOGETHER, 200 * KIB);
    let idle = || eventually("no download is under way", || list(&data.join("fills")).is_empty());
    names.iter().for_each(|name| drop(fetch(&lanyard, name).unwrap()));
    idle();
    // The eviction still makes headroom, and may take one in the middle of a look.
    let blocks = |name: &String| fs::metadata(blob_file(&data, name)).map_or(0, |blob| blob.blocks() * 512);
    let beside = loop {
        let here = digests(&data);
        let beside = taken(&data).checked_sub(here.iter().map(blocks).sum::<u64>());
        if let (Some(beside), true) = (beside, digests(&data) == here) {
            break beside;
        }
    };
    let (most, samples) = (AtomicU64::new(0), AtomicU64::new(0));
    let count = rounds(2, 300);
    for round in 0..count {
        let (over, together) = (AtomicBool::new(false), Barrier::new(TOGETHER));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    most.fetch_max(taken(&data) - beside, Ordering::Relaxed);
                    samples.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(1));
                }
            });
            let half = &names[round % 2 * TOGETHER..][..TOGETHER];
            let clients = half.iter().map(|name| {
                let (lanyard, together) = (&lanyard, &together);
                scope.spawn(move || {
                    together.wait();
                    fetch(lanyard, name).map(drop)
                })
            });
            let clients: Vec<_> = clients.collect();
            let answers: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
            over.store(true, Ordering::Relaxed);
            assert!(answers.iter().all(Result::is_ok), "round {round}: {answers:?}");
        });
        let most = most.load(Ordering::Relaxed);
        assert!(most <= MAX + MAX / 200 + RECORDS, "round {round}: {most} bytes of {MAX}");
    }
    idle();
    assert_eq!(told(&data, "/api/v1/status")["kept"]["index"], false);
    // It evicts to its headroom for a while.
    assert!(lanyard.stop().success());
    check_blobs(&data);
    let (most, samples) = (most.into_inner(), samples.into_inner());
    assert!(most > MAX * 9 / 10, "the room was used: {most} bytes");
    figure(&format!("{count} rounds, {samples} looks: {most} bytes of {MAX} at most"));
}
