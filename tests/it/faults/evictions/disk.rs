//! A disk that others fill, that cannot remove a file, or on which a push needs room while an
//! upstream is away.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{KIB, MIB, REPO, cap, contents, counted, fetch, here, hub, keep, said};
use crate::{
    faults::{
        enospc::{fill, unfill},
        figure,
        plight::Plight,
        rounds, series,
        shelf::{blob_file, check_blobs, list},
        strace::{Ambush, available},
    },
    lanyard::Lanyard,
    pull::config,
    push::Pusher,
    wire::{blob, eventually, get, manifest},
};

/// Above the space that the index wants free.
const SIZE: u64 = 128 << 20;
const FLOOR: u64 = 32 << 20;

/// No `max_size`; the disk is the limit.
const FLOORED: &str = "[cache]\nmin_free = \"32 MiB\"\n";

/// K13: a neighbour takes each byte that an eviction sets free. Half of the cache is left, the log
/// has one line of it, clients notice nothing, and when the neighbour is gone content is kept
/// again.
#[test]
fn k13_a_neighbour_that_fills_the_disk_costs_half_of_the_cache_at_most() {
    let hub = hub();
    for round in 0..rounds(1, 50) {
        let mut lanyard = Lanyard::prepare(&config(&hub, FLOORED));
        let Some(plight) = Plight::tmpfs(&mut lanyard, SIZE) else { return };
        let data = plight.data();
        lanyard.restart();
        let names = contents(&hub, round * 100..round * 100 + 20, 2 * MIB);
        for name in &names {
            fetch(&lanyard, name).unwrap();
            eventually("it is stored", || blob_file(&data, name).exists());
        }
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    fill(&data, 0);
                }
            });
            // Needs come until the evictor has given up, and for a while longer.
            let more = contents(&hub, round * 100 + 20..round * 100 + 40, 200 * KIB);
            eventually("it gives up", || {
                more.iter().for_each(|name| drop(fetch(&lanyard, name).unwrap()));
                said(&lanyard, "the disk stays full") > 0
            });
            more.iter().for_each(|name| drop(fetch(&lanyard, name).unwrap()));
            over.store(true, Ordering::Relaxed);
        });
        let left = names.iter().filter(|name| blob_file(&data, name).exists()).count();
        assert!(left >= 9, "{left} of 20 are left: half, and one that was more than the rest of it");
        unfill(&data);
        let (began, late) = (Instant::now(), &contents(&hub, round * 100 + 50..round * 100 + 51, 300 * KIB)[0]);
        eventually("content is kept again", || {
            fetch(&lanyard, late).unwrap();
            blob_file(&data, late).exists()
        });
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!(said(&lanyard, "the disk stays full"), 1);
        assert!(!lanyard.logs().contains("panicked at"), "a panic");
        check_blobs(&data);
        figure(&format!("{left} of 20 left, kept again after {:?}", began.elapsed()));
    }
}

/// K10: a push needs room on a disk that is full of two upstreams' content, one of which is away.
/// Its content goes last.
#[test]
fn k10_a_push_takes_what_could_not_be_had_again_last() {
    let (near, away) = (hub(), hub());
    let two = format!("{}\n[[upstream]]\nname = \"quay.io\"\nurl = \"{}\"\n", config(&near, FLOORED), away.url());
    for round in 0..rounds(1, 100) {
        let mut lanyard = Lanyard::prepare(&two);
        let Some(plight) = Plight::tmpfs(&mut lanyard, SIZE) else { return };
        let data = plight.data();
        lanyard.restart();
        let (mine, theirs) = (contents(&near, 0..4, 3 * MIB), contents(&away, 10..14, 3 * MIB));
        let far = format!("quay.io/{REPO}");
        assert_eq!(get(lanyard.port(), &manifest(&far, "latest")).status, 200);
        for (repo, names) in [(far.as_str(), &theirs), (REPO, &mine)] {
            for name in names {
                assert_eq!(get(lanyard.port(), &blob(repo, name)).status, 200);
                eventually("it is stored", || blob_file(&data, name).exists());
            }
        }
        away.go_down();
        let unknown = contents(&near, 90..91, 100).remove(0);
        eventually("its upstream is known to be away", || {
            get(lanyard.port(), &blob(&far, &unknown));
            series(&lanyard, "lanyard_upstream_circuit_open{upstream=\"quay.io\"}") == 1
        });
        fill(&data, FLOOR + (1 << 20));
        let left = |names: &[String]| names.iter().filter(|name| blob_file(&data, name).exists()).count();
        // The disk is looked at once a second. The pushes until then are small, so that they need
        // less than half of the cache.
        let mut small = 0_u32;
        eventually("a push makes room", || {
            small += 1;
            Pusher(lanyard.port()).blob("team/app", &small.to_le_bytes().repeat(KIB / 4));
            left(&mine) < 4
        });
        let mut pushes = 0;
        assert_eq!(left(&theirs), 4, "what could not be had again stays");
        while left(&mine) > 0 {
            pushes += 1;
            Pusher(lanyard.port()).blob("team/app", &vec![pushes; MIB]);
            assert!(left(&mine) == 0 || left(&theirs) == 4, "{} and {}", left(&mine), left(&theirs));
        }
        for _ in 0..4 {
            pushes += 1;
            Pusher(lanyard.port()).blob("team/app", &vec![pushes; MIB]);
        }
        assert!(left(&theirs) < 4, "it goes for a push all the same");
        check_blobs(&data);
        away.come_back();
        figure(&format!("round {round}: {pushes} pushes"));
    }
}

/// Content that cannot be removed: clients are served, the log has one line, no more than two are
/// lost at a time, and the cache does not exceed its cap. When the fault is over it goes on.
#[test]
fn an_error_of_the_disk_pauses_the_eviction() {
    if !available() {
        return;
    }
    let hub = hub();
    for round in 0..rounds(1, 67) {
        for (at, error) in ["EIO", "EROFS", "EACCES"].into_iter().enumerate() {
            let lanyard = Lanyard::start(&config(&hub, &cap("2 MiB")));
            let from = round * 1000 + at * 100;
            let names = contents(&hub, from..from + 4, 450 * KIB);
            names.iter().for_each(|name| keep(&lanyard, name));
            // What is evicted is renamed, and then removed.
            let (call, paths) = if at % 2 == 0 {
                let tmp = lanyard.data_dir().join("tmp");
                ("unlink", (0..500).map(|n| tmp.join(format!("e{n}")).display().to_string()).collect::<Vec<_>>())
            } else {
                let path = |name: &String| blob_file(&lanyard.data_dir(), name).display().to_string();
                ("rename", names.iter().map(path).collect())
            };
            let ambush = Ambush::lay_at_any(&lanyard, call, &format!("error={error}"), &paths);
            let more = contents(&hub, from + 4..from + 40, 450 * KIB);
            let began = Instant::now();
            let mut slowest = Duration::ZERO;
            for name in &more {
                let began = Instant::now();
                fetch(&lanyard, name).unwrap_or_else(|failed| panic!("{call} {error}: {failed}"));
                slowest = slowest.max(began.elapsed());
            }
            let pauses = began.elapsed().as_secs() as usize / 10 + 1;
            // A disk that turned read-only is said elsewhere.
            let lines = usize::from(error != "EROFS");
            assert_eq!(said(&lanyard, "cannot be removed"), lines, "{call} {error}");
            assert!(here(&lanyard, &names).len() + 2 * pauses >= 4, "{call} {error}: {:?}", here(&lanyard, &names));
            let tmp = list(&lanyard.data_dir().join("tmp")).len();
            assert!(tmp <= 2 * pauses + 1, "{call} {error}: {tmp} files have no name");
            assert!(counted(&lanyard) <= 2 << 20);
            drop(ambush);
            let late = contents(&hub, from + 50..from + 51, 450 * KIB).remove(0);
            eventually("it goes on", || {
                fetch(&lanyard, &late).unwrap();
                blob_file(&lanyard.data_dir(), &late).exists()
            });
            assert!(!lanyard.logs().contains("panicked at"), "a panic");
            check_blobs(&lanyard.data_dir());
            figure(&format!("{call} {error}: the slowest of {} in {slowest:?}", more.len()));
        }
    }
}
