//! `kill -9` at random moments under load.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    figure, rounds,
    shelf::{cached, check_blobs, images, pull},
};
use crate::{
    hub::{Cut, Fault, Hub, Image, On},
    lanyard::Lanyard,
    pull::{config, mirror_with},
};

const CLIENTS: u64 = 8;

/// A small generator of its own, so that the number of a run tells everything about it.
fn scatter(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 29;
    x.wrapping_mul(0x94d0_49bb_1331_11eb) ^ (x >> 32)
}

/// Eight clients pull random images past faults at the upstream, and the process is killed at
/// random moments. It starts in time, serves nothing corrupt, gives no partial content a blob's
/// name, and at the end serves offline all content that was here.
#[test]
fn kill_9_under_load_loses_nothing() {
    let hub = Hub::start();
    let all = images(&hub, "load", 24, &[3000, 200 << 10, 900 << 10]);
    let mut lanyard = mirror_with(&hub, "[cache]\nmin_free = \"0%\"\ntag_ttl = \"1s\"\n");
    let (count, mut slowest) = (rounds(20, 300), Duration::ZERO);
    let here = Mutex::new(BTreeSet::new());
    let pulls = AtomicU64::new(0);
    for round in 0..count as u64 {
        trouble(&hub, &all, round);
        under_load(&mut lanyard, &all, round, &here, &pulls);
        let began = Instant::now();
        lanyard.restart();
        slowest = slowest.max(began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(5), "started after {:?}", began.elapsed());
    }
    hub.clear_faults();
    hub.go_down();
    lanyard.kill9();
    let blobs = check_blobs(&lanyard.data_dir());
    lanyard.restart();
    let here = here.into_inner().unwrap();
    for at in &here {
        let outcomes = pull(lanyard.port(), &all[*at]);
        assert!(outcomes.as_ref().is_ok_and(|outcomes| cached(outcomes)), "image {at} is lost: {outcomes:?}");
    }
    assert!(!here.is_empty(), "nothing was ever pulled whole");
    assert!(!lanyard.logs().contains("panicked at"), "a panic");
    figure(&format!(
        "{count} kills, {} pulls whole, {} images and {blobs} blobs right at the end, slowest start {slowest:?}",
        pulls.load(Ordering::Relaxed),
        here.len()
    ));
}

/// The faults of one round.
fn trouble(hub: &Hub, all: &[Image], round: u64) {
    hub.clear_faults();
    for n in 0..6 {
        let chance = scatter(round * 100 + n);
        let image = &all[(chance % all.len() as u64) as usize];
        let layer = image.layer((chance >> 8) as usize % 3);
        let bytes = (chance >> 16) % (900 << 10);
        let how = if chance & 1 == 0 { Cut::Rst } else { Cut::Fin };
        match n % 3 {
            0 => hub.fault(On::blob(layer), Fault::CutAfter { bytes, how }),
            1 => hub.fault(On::blob(layer), Fault::FlipByte { at: bytes % 3000 }),
            _ => hub.fault(On::manifest(&image.tag), Fault::Drop(how)),
        }
    }
    // One part in a while is slow, so that the kill meets it half-way.
    hub.fault(On::any_blob().after(3), Fault::Slow { bytes_per_second: 500 << 10 });
}

fn under_load(lanyard: &mut Lanyard, all: &[Image], round: u64, here: &Mutex<BTreeSet<usize>>, pulls: &AtomicU64) {
    let (port, over) = (lanyard.port(), AtomicBool::new(false));
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let over = &over;
            scope.spawn(move || {
                for n in 0_u64.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    // Later rounds reach more images, so that each has new ones.
                    let reach = (all.len() as u64).min(round / 2 + 4);
                    let at = (scatter(round << 32 | client << 24 | n) % reach) as usize;
                    if let Ok(outcomes) = pull(port, &all[at]) {
                        pulls.fetch_add(1, Ordering::Relaxed);
                        if cached(&outcomes) {
                            here.lock().unwrap().insert(at);
                        }
                    }
                }
            });
        }
        // The random moment is the point of this test: somewhere between the first request and a
        // few hundred pulls.
        thread::sleep(Duration::from_micros(scatter(round) % 250_000));
        lanyard.kill9();
        over.store(true, Ordering::Relaxed);
    });
}

/// A kill between a client's last byte and the end of the commit: the client may have a blob that
/// the disk does not have. The blob is then fetched once more, and is right.
#[test]
fn kill_9_right_after_the_last_byte() {
    let hub = Hub::start();
    let mut lanyard = Lanyard::start(&config(&hub, "[cache]\nmin_free = \"0%\"\n"));
    for (round, image) in images(&hub, "last", rounds(5, 100), &[700 << 10]).iter().enumerate() {
        pull(lanyard.port(), image).unwrap_or_else(|error| panic!("round {round}: {error}"));
        lanyard.kill9();
        check_blobs(&lanyard.data_dir());
        lanyard.restart();
        pull(lanyard.port(), image).unwrap_or_else(|error| panic!("round {round}, again: {error}"));
    }
}
