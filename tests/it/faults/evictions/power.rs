//! K4: power cuts in the middle of evictions: ext4 on a loop device, shut down by its ioctl without
//! flushing anything, and mounted again.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use super::{
    KIB, REPO, cap, contents, evicted, fetch, give_order, hub, pin, remove, starts_again, tags_name_what_is_here,
};
use crate::{
    faults::{
        figure,
        plight::Plight,
        rounds,
        shelf::{cached, check_blobs, images, keep, pull},
    },
    hub::Image,
    lanyard::Lanyard,
    pull::config,
    wire::eventually,
};

/// Clients fill a cache that is full, an operator trims it, removes names and pins others, and the
/// power goes. Each blob is gone or whole, all are counted right after the start, no tag is without
/// its manifest, what was removed stays away, and a pin that was acknowledged is there and holds.
#[test]
fn k4_a_power_cut_in_an_eviction_leaves_a_blob_gone_or_whole() {
    let hub = hub();
    let mut lanyard = Lanyard::prepare(&config(&hub, &cap("3 MiB")));
    let Some(plight) = Plight::ext4(&mut lanyard, 256 << 20) else { return };
    let Some(power) = plight.power() else { return };
    let data = plight.data();
    lanyard.restart();
    let kept = images(&hub, "kept", 1, &[200 << 10]).remove(0);
    keep(lanyard.port(), &kept);
    assert_eq!(pin(&data, &format!(":{}", kept.tag)), Some(true));
    // Twice as much as fits.
    let news = contents(&hub, 0..60, 100 * KIB);
    let (count, mut blobs, mut went) = (rounds(2, 200), 0, 0);
    for round in 0..count {
        let point = format!("cut {round}");
        let old = images(&hub, &format!("old{round}-"), 6, &[20 << 10]);
        old.iter().for_each(|image| drop(pull(lanyard.port(), image).unwrap()));
        let (next, over, before) = (AtomicUsize::new(0), AtomicBool::new(false), evicted(&lanyard));
        let goes_on = || !over.load(Ordering::Relaxed);
        let (removed, pinned) = thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while goes_on() {
                        drop(fetch(&lanyard, &news[next.fetch_add(1, Ordering::Relaxed) % news.len()]));
                    }
                });
            }
            scope.spawn(|| {
                while goes_on() {
                    give_order(&data, "POST", "/api/v1/trim?to=1MiB");
                }
            });
            eventually("it evicts", || evicted(&lanyard) > before);
            let orders = scope.spawn(|| {
                let is_removed = |image: &&Image| goes_on() && remove(&data, &format!(":{}", image.tag)) == Some(true);
                let removed = old[1..].iter().take_while(is_removed).count();
                (removed, goes_on() && pin(&data, &format!(":{}", old[0].tag)) == Some(true))
            });
            // The random moment of the cut is the point of this test.
            thread::sleep(Duration::from_millis((round as u64 * 37) % 300));
            power.cut(&plight);
            over.store(true, Ordering::Relaxed);
            orders.join().unwrap()
        });
        went += evicted(&lanyard);
        lanyard.kill9();
        power.back(&plight);
        starts_again(&mut lanyard, &data, &point);
        blobs += check_blobs(&data);
        let tags = tags_name_what_is_here(&data, REPO, &point);
        assert!(old[1..].iter().take(removed).all(|image| !tags.contains(&image.tag)), "{point}: a removal came back");
        assert!(
            !pinned || data.join("pins/docker.io/library+busybox").join(&old[0].tag).exists(),
            "{point}: a pin is lost"
        );
        let outcomes = pull(lanyard.port(), &kept).unwrap();
        assert!(cached(&outcomes), "{point}: what is pinned is gone: {outcomes:?}");
        give_order(&data, "DELETE", &format!("/api/v1/pins/busybox:{}", old[0].tag)).unwrap();
        for image in &old {
            assert!(remove(&data, &format!(":{}", image.tag)).is_some(), "{point}: no answer");
        }
    }
    assert!(!lanyard.logs().contains("panicked at"), "a panic");
    figure(&format!("{count} cuts, {} MiB evicted before them, {blobs} blobs looked at, all right", went >> 20));
}
