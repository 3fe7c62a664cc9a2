//! K13: removed bytes that do not become free: another process has the files open, or a snapshot
//! holds them; and a file system that counts them as free only later.

use std::{
    fs::File,
    thread,
    time::{Duration, Instant},
};

use super::{KIB, MIB, contents, evicted, fetch, hub, said};
use crate::{
    faults::{
        enospc::{fill, unfill},
        figure,
        plight::Plight,
        rounds,
        shelf::{blob_file, check_blobs},
    },
    hub::Hub,
    lanyard::Lanyard,
    pull::config,
    wire::eventually,
};

/// Above the space that the index wants free.
const SIZE: u64 = 128 << 20;
const FLOOR: u64 = 32 << 20;

/// The content that is here when the disk becomes full.
const BLOBS: usize = 20;

/// So many are left: half, less one for the new content that counts too, and one that was more than
/// the rest.
const LEAST: usize = BLOBS / 2 - 2;

fn floor(bytes: u64) -> String {
    format!("[cache]\nmin_free = \"{} KiB\"\n", bytes >> 10)
}

/// Another process has all stored content open, so that an eviction sets nothing free. No more than
/// half of it goes, the log has one line, clients notice nothing, and when the files are closed new
/// content is kept again.
#[test]
fn k13_content_that_another_process_has_open_costs_half_of_the_cache_at_most() {
    let hub = hub();
    let (names, news) = (contents(&hub, 0..BLOBS, 2 * MIB), contents(&hub, 100..120, 200 * KIB));
    let late = contents(&hub, 200..201, 200 * KIB).remove(0);
    for _ in 0..rounds(1, 50) {
        let mut lanyard = Lanyard::prepare(&config(&hub, &floor(FLOOR)));
        let Some(plight) = Plight::tmpfs(&mut lanyard, SIZE) else { return };
        let data = plight.data();
        lanyard.restart();
        for name in &names {
            fetch(&lanyard, name).unwrap();
            eventually("it is stored", || blob_file(&data, name).exists());
        }
        let open: Vec<_> = names.iter().map(|name| File::open(blob_file(&data, name)).unwrap()).collect();
        // Less is missing than half of the content has, so that all is well when the files are
        // closed. It is missing again as soon as the disk is asked again.
        fill(&data, FLOOR - (14 << 20));
        eventually("it gives up", || {
            news.iter().for_each(|name| drop(fetch(&lanyard, name).unwrap()));
            said(&lanyard, "the disk stays full") > 0
        });
        for _ in 0..3 {
            news.iter().for_each(|name| drop(fetch(&lanyard, name).unwrap()));
        }
        let left = names.iter().filter(|name| blob_file(&data, name).exists()).count();
        assert!((LEAST..=BLOBS / 2 + 1).contains(&left), "{left} of {BLOBS} are left");
        drop(open);
        let began = Instant::now();
        is_kept(&lanyard, &plight, &late);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert_eq!(said(&lanyard, "the disk stays full"), 1);
        assert!(!lanyard.logs().contains("panicked at"), "a panic");
        check_blobs(&data);
        unfill(&data);
        figure(&format!("{left} of {BLOBS} left, kept again after {took:?}"));
    }
}

fn is_kept(lanyard: &Lanyard, plight: &Plight, name: &str) {
    eventually("content is kept again", || {
        fetch(lanyard, name).unwrap();
        blob_file(&plight.data(), name).exists()
    });
}

/// A lanyard on a btrfs that has all of the content and a file beside it of as many bytes as half
/// of that. It is to leave `more` bytes more than are free. `None`: this machine has no btrfs.
fn on_btrfs(options: &str, names: &[String], hub: &Hub, more: u64) -> Option<(Lanyard, Plight)> {
    let mut lanyard = Lanyard::prepare(&config(hub, &floor(0)));
    let plight = Plight::btrfs(&mut lanyard, 768 << 20, options)?;
    let folder = plight.inside();
    lanyard.restart();
    names.iter().for_each(|name| is_kept(&lanyard, &plight, name));
    lanyard.stop();
    plight.must(&format!("head -c 40M /dev/urandom > {folder}/beside && sync -f {folder}"));
    let free: u64 = plight.must(&format!("df -B1 --output=avail {folder} | tail -n 1")).parse().unwrap();
    lanyard.reconfigure(&config(hub, &floor(free + more)));
    Some((lanyard, plight))
}

/// A real snapshot holds what is evicted. Half of the content goes at most, the log has one line,
/// clients notice nothing, and when the snapshot is deleted new content is kept again.
#[test]
fn k13_a_snapshot_costs_half_of_the_cache_at_most() {
    let hub = hub();
    let (names, news) = (contents(&hub, 0..BLOBS, 4 * MIB), contents(&hub, 100..108, 200 * KIB));
    let late = contents(&hub, 200..201, 200 * KIB).remove(0);
    for _ in 0..rounds(1, 50) {
        // Transactions are short, so that only the snapshot holds anything.
        let Some((mut lanyard, plight)) = on_btrfs("commit=1", &names, &hub, 60 << 20) else { return };
        let folder = plight.inside();
        plight.must(&format!("btrfs subvolume snapshot -r {folder} {folder}/held"));
        lanyard.restart();
        eventually("it gives up", || {
            news.iter().for_each(|name| drop(fetch(&lanyard, name).unwrap()));
            said(&lanyard, "the disk stays full") > 0
        });
        for _ in 0..3 {
            news.iter().for_each(|name| drop(fetch(&lanyard, name).unwrap()));
        }
        let left = names.iter().filter(|name| blob_file(&plight.data(), name).exists()).count();
        assert!((LEAST..=BLOBS / 2 + 1).contains(&left), "{left} of {BLOBS} are left");
        check_blobs(&plight.data());
        plight.must(&format!("btrfs subvolume delete -C {folder}/held && rm {folder}/beside"));
        plight.must(&format!("btrfs subvolume sync {folder} && sync -f {folder}"));
        let began = Instant::now();
        is_kept(&lanyard, &plight, &late);
        let took = began.elapsed();
        assert_eq!(said(&lanyard, "the disk stays full"), 1);
        figure(&format!("{left} of {BLOBS} left, kept again after {took:?}"));
    }
}

/// A btrfs counts removed bytes as free when its transaction ends, which here is after this test.
/// The lack is made up for once, and then each new content costs as much as it takes.
#[test]
fn k13_what_a_file_system_counts_as_free_later_is_not_evicted_twice() {
    const LACK: u64 = 8 << 20;
    let hub = hub();
    let (names, news) = (contents(&hub, 0..BLOBS, 4 * MIB), contents(&hub, 100..106, MIB));
    for _ in 0..rounds(1, 20) {
        let Some((mut lanyard, plight)) = on_btrfs("commit=300", &names, &hub, LACK) else { return };
        lanyard.restart();
        for name in &news {
            fetch(&lanyard, name).unwrap();
            // The file system is asked once a second.
            thread::sleep(Duration::from_millis(1100));
        }
        let kept = news.iter().filter(|name| blob_file(&plight.data(), name).exists()).count();
        let (went, needed) = (evicted(&lanyard), LACK + (kept * MIB) as u64);
        assert!(kept > 0 && went > 0, "{kept} kept, {went} bytes evicted");
        // One blob more than the lack, and one more than the rest.
        assert!(went <= needed + 8 * MIB as u64, "{went} bytes were evicted for {needed}");
        assert_eq!(said(&lanyard, "the disk stays full"), 0);
        check_blobs(&plight.data());
        figure(&format!("{kept} of {} kept, {went} bytes evicted for {needed}", news.len()));
    }
}
