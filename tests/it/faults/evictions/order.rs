//! The order of eviction when the index is gone, when the clock jumps, and after a start.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::{KIB, cap, contents, fetch, here, hub, is_idle, keep, told, used};
use crate::{
    faults::{
        clock::FakeClock,
        figure, left_out, rounds,
        shelf::{blob_file, check_blobs, copy},
    },
    lanyard::Lanyard,
    pull::config,
    wire::eventually,
};

/// K12: the files tell which content was used last, to an hour, with the index or without it, or
/// with an old copy of it.
#[test]
fn k12_without_its_index_the_same_content_is_evicted() {
    let hub = hub();
    for round in 0..rounds(3, 100) {
        let mut lanyard = Lanyard::start(&config(&hub, &cap("3 MiB")));
        let index = lanyard.data_dir().join("index");
        let old = lanyard.data_dir().join("old");
        let names = contents(&hub, round * 10..round * 10 + 6, 400 * KIB);
        keep(&lanyard, &names[3]);
        if round % 3 == 2 {
            lanyard.stop();
            copy(&index, &old);
            lanyard.restart();
        }
        names.iter().for_each(|name| keep(&lanyard, name));
        lanyard.stop();
        // The number that an old copy saw is neither the first nor the last to go.
        let hours = [40, 10, 30, 20, 50, 60];
        hours.iter().zip(&names).for_each(|(hours, name)| used(&lanyard, name, *hours));
        fs::remove_dir_all(&index).unwrap();
        let off = round % 3 == 1 && without_index(&mut lanyard);
        if round % 3 == 2 {
            fs::rename(&old, &index).unwrap();
        }
        lanyard.restart();
        let new = contents(&hub, 1000 + round * 10..1000 + round * 10 + 3, 400 * KIB);
        for (went, name) in new.iter().enumerate() {
            eventually("new content is kept", || {
                fetch(&lanyard, name).unwrap();
                blob_file(&lanyard.data_dir(), name).exists()
            });
            let mut left = here(&lanyard, &names);
            left.sort_by_key(|n| std::cmp::Reverse(hours[*n]));
            let mut expected = vec![5, 4, 0, 2, 3, 1];
            expected.drain(..6 - left.len());
            assert_eq!(left, expected, "round {round}, after {}", went + 1);
        }
        assert!(here(&lanyard, &names).len() >= 3, "no more go than have to");
        let is_on = || told(&lanyard.data_dir(), "/api/v1/status")["kept"]["index"] == true;
        assert!(!off || !is_on(), "it has an index");
        check_blobs(&lanyard.data_dir());
    }
}

/// Makes the next starts ones without an index: a file system is mounted in its place, which cannot
/// be removed. `false`: this machine cannot do that.
fn without_index(lanyard: &mut Lanyard) -> bool {
    if !rustix::process::geteuid().is_root() {
        left_out("a mount namespace needs root");
        return false;
    }
    let index = lanyard.data_dir().join("index").display().to_string();
    let script = format!("mkdir {index} && mount -t tmpfs -o size=64k lanyard {index} && exec \"$@\"");
    lanyard.through(&["unshare", "-m", "sh", "-c", &script, "sh"]);
    true
}

/// A clock that is set forward or back: no more goes than is needed for what comes.
#[test]
fn a_clock_that_jumps_evicts_no_more_than_is_needed() {
    let hub = hub();
    let mut lanyard = Lanyard::prepare(&config(&hub, &cap("4 MiB")));
    let Some(clock) = FakeClock::start(&mut lanyard) else { return };
    let all = contents(&hub, 0..8 + rounds(12, 100), 450 * KIB);
    all[..8].iter().for_each(|name| keep(&lanyard, name));
    let jumps = ["+10d", "-10d", "+0d", "+3650d", "-20000d", "+0d"];
    for (round, name) in all[8..].iter().enumerate() {
        clock.set(jumps[round % jumps.len()]);
        if round % 4 == 3 {
            lanyard.restart();
        }
        let before = here(&lanyard, &all).len();
        eventually("new content is kept", || {
            fetch(&lanyard, name).unwrap();
            blob_file(&lanyard.data_dir(), name).exists()
        });
        let after = here(&lanyard, &all).len();
        // Its own room, and the headroom of a twentieth.
        assert!(after + 1 >= before, "round {round}, {}: {before} before, {after} after", jumps[round % jumps.len()]);
    }
    assert!(!lanyard.logs().contains("panicked at"), "a panic");
    check_blobs(&lanyard.data_dir());
}

/// A cache that is full when it starts, after a stop or a kill, with its index or without: the
/// first new content is kept within five seconds.
#[test]
fn a_full_cache_keeps_new_content_right_after_its_start() {
    let hub = hub();
    let mut lanyard = Lanyard::start(&config(&hub, &cap("2 MiB")));
    contents(&hub, 0..4, 450 * KIB).iter().for_each(|name| keep(&lanyard, name));
    crate::push::Pusher(lanyard.port()).image("team/app", "v1", &vec![1; 300 * KIB]);
    let mut slowest = Duration::ZERO;
    for round in 0..rounds(4, 20) {
        match round % 4 {
            0 => drop(lanyard.stop()),
            1 => lanyard.kill9(),
            _ => {
                lanyard.stop();
                fs::remove_dir_all(lanyard.data_dir().join("index")).unwrap();
            }
        }
        lanyard.restart();
        let (began, name) = (Instant::now(), contents(&hub, 100 + round..101 + round, 450 * KIB).remove(0));
        eventually("new content is kept", || {
            fetch(&lanyard, &name).unwrap();
            blob_file(&lanyard.data_dir(), &name).exists()
        });
        slowest = slowest.max(began.elapsed());
        is_idle(&lanyard);
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    figure(&format!("the first content is kept after {slowest:?} at most"));
}
