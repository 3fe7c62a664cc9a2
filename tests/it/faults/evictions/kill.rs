//! K4: SIGKILL at the Nth system call of an eviction. A blob is gone or whole.

use std::{collections::BTreeMap, time::Duration};

use super::{KIB, REPO, cap, contents, fetch, give_order, has_died, hub, is_idle, keep, points, starts_again};
use crate::{
    faults::{
        figure, rounds,
        shelf::check_blobs,
        strace::{Ambush, available},
    },
    hub::{Hub, Image},
    lanyard::Lanyard,
    pull::config,
    wire::{eventually, get, manifest},
};

/// The calls that an eviction, and the download for which it is, change the disk by.
const CALLS: [&str; 8] = ["unlink", "rename", "openat", "write", "pwrite64", "fdatasync", "fsync", "mkdir"];

#[test]
fn k4_killed_at_any_step_of_an_eviction_a_blob_is_gone_or_whole() {
    if !available() {
        return;
    }
    let hub = hub();
    let image = hub.image(REPO, "kept").layer(1000).publish();
    let mut lanyard = Lanyard::start(&config(&hub, &cap("1 MiB")));
    get(lanyard.port(), &manifest(REPO, &image.tag));
    let wanted = rounds(10, 1_000);
    let (mut deaths, mut new, mut slowest, mut collected) = (BTreeMap::new(), 0, Duration::ZERO, 0);
    for (call, nth) in points(&CALLS, 12).take(wanted * 3) {
        // Four of them fill the cache, and each later one takes the place of one or two.
        let names = contents(&hub, new..new + 8, 230 * KIB);
        new += 8;
        names[..4].iter().for_each(|name| keep(&lanyard, name));
        let ambush = Ambush::lay(&lanyard, call, &format!("signal=KILL:when={nth}"));
        let lost = names[4..].iter().any(|name| fetch(&lanyard, name).is_err());
        let dead = has_died(&mut lanyard, lost, &format!("{call} {nth}"));
        drop(ambush);
        if dead {
            *deaths.entry(call).or_insert(0) += 1;
        } else {
            lanyard.kill9();
        }
        let took = comes_back(&mut lanyard, &hub, &image, &names, &format!("{call} {nth}"));
        slowest = slowest.max(took);
        collected += collect(&lanyard);
        if deaths.values().sum::<usize>() >= wanted {
            break;
        }
    }
    figure(&format!("{deaths:?}, slowest start {slowest:?}, without a link {collected}"));
    assert!(deaths.values().sum::<usize>() >= wanted / 2, "hardly a call was met: {deaths:?}");
}

/// Content that is on disk before its link is the collector's after a death. It would be here for
/// an hour, and fill so small a cache in the end. How many there were.
fn collect(lanyard: &Lanyard) -> u64 {
    let answer = give_order(&lanyard.data_dir(), "POST", "/api/v1/gc?now=true").unwrap();
    answer.json()["blobs"].as_u64().unwrap()
}

/// It starts as it should, and goes on evicting.
fn comes_back(lanyard: &mut Lanyard, hub: &Hub, image: &Image, names: &[String], point: &str) -> Duration {
    let data = lanyard.data_dir();
    let took = starts_again(lanyard, &data, point);
    hub.go_down();
    let tag = get(lanyard.port(), &manifest(REPO, &image.tag));
    assert_eq!((tag.status, &tag.body), (200, &image.bytes), "{point}: a tag names what is here");
    hub.come_back();
    // Upstream is asked again a moment later.
    names.iter().for_each(|name| eventually(point, || fetch(lanyard, name).is_ok()));
    is_idle(lanyard);
    check_blobs(&data);
    took
}
