//! The leases alone, without a disk.

use super::*;
use crate::storage::tests::digest;

fn leases() -> Leases {
    let leases = Leases::new();
    leases.set_grace(Duration::ZERO);
    leases
}

#[test]
fn everything_is_protected_for_an_hour_after_the_start_and_what_is_touched_from_then_on() {
    let leases = Leases::new();
    let x = digest(b"x");
    assert_eq!(leases.grace(), Duration::from_secs(3600));
    assert!(leases.protects(&x) && leases.begin_reclaim(&x, Respect::All).is_none());
    // As if the start were long ago.
    leases.shared.lock().began = Instant::now().checked_sub(Duration::from_secs(3601)).unwrap();
    assert!(!leases.protects(&x));
    drop(leases.begin_reclaim(&x, Respect::All).unwrap());
    leases.touch(&x);
    assert!(
        leases.begin_reclaim(&x, Respect::All).is_none() && leases.begin_reclaim(&digest(b"y"), Respect::All).is_some()
    );
    leases.shared.lock().touched.get_mut(&x.beginning()).unwrap().at =
        Instant::now().checked_sub(Duration::from_secs(3601)).unwrap();
    assert!(leases.begin_reclaim(&x, Respect::All).is_some());
}

/// `lanyard gc --now`: answers from before count no more, answers that are given meanwhile do,
/// and so does a hold.
#[test]
fn an_operator_may_end_the_leases_from_before_a_moment() {
    let leases = Leases::new();
    let [before, after, held, never] = [b"b", b"a", b"h", b"n"].map(|name| digest(name));
    leases.touch(&before);
    let hold = leases.hold([held]);
    let now = Respect::Since(Instant::now());
    leases.touch(&after);
    for (digest, stays) in [(before, false), (after, true), (held, true), (never, false)] {
        assert!(leases.begin_reclaim(&digest, Respect::All).is_none(), "an ordinary removal respects all of them");
        assert_eq!(leases.begin_reclaim(&digest, now).is_none(), stays);
        assert_eq!(leases.left(&digest, now).is_some(), stays);
    }
    drop(hold);
    assert!(leases.begin_reclaim(&held, now).is_none(), "a hold leaves a lease");
    // Too many leases protect every digest from then on, and that is not a start.
    leases.shared.lock().dropped = Some(Instant::now());
    assert!(leases.begin_reclaim(&before, now).is_none());
    let left = leases.left(&never, Respect::All).unwrap();
    assert!(left <= GRACE && left > GRACE / 2);
}

/// The eviction respects what clients were told, and neither a start nor a download that was
/// just kept.
#[test]
fn only_promises_keep_cached_content() {
    let leases = Leases::new();
    let [told, kept, both, never] = [b"t", b"k", b"b", b"n"].map(|name| digest(name));
    leases.touch(&told);
    drop(leases.hold_cached([kept]));
    leases.touch(&both);
    drop(leases.hold_cached([both]));
    let held = leases.hold_cached([never]);
    let may_go = |digest| leases.begin_reclaim(digest, Respect::Promises).is_some();
    assert_eq!([&told, &kept, &both, &never].map(may_go), [false, true, false, false]);
    drop(held);
    assert!(may_go(&never));
    assert!([told, kept, both, never].iter().all(|digest| leases.protects(digest)), "the collector keeps them all");
    leases.shared.lock().dropped = Some(Instant::now());
    assert!(may_go(&kept), "no promise is among those that were dropped");
    leases.shared.lock().dropped_promises = Some(Instant::now());
    assert!(!may_go(&kept), "a promise may be among those that were dropped");
}

#[test]
fn a_hold_outlasts_any_grace_and_may_be_taken_twice() {
    let leases = leases();
    let x = digest(b"x");
    let first = leases.hold([x, x, digest(b"y")]);
    let second = leases.hold([x]);
    drop(first);
    assert!(
        leases.begin_reclaim(&x, Respect::All).is_none() && leases.begin_reclaim(&digest(b"y"), Respect::All).is_some()
    );
    drop(second);
    let right = leases.begin_reclaim(&x, Respect::All).unwrap();
    assert!(leases.begin_reclaim(&x, Respect::All).is_none(), "one removes at a time");
    drop(right);
    assert!(leases.begin_reclaim(&x, Respect::All).is_some());
}

#[test]
fn whoever_counts_on_it_waits_for_the_removal() {
    let leases = leases();
    let x = digest(b"x");
    let gone = std::sync::atomic::AtomicBool::new(false);
    let right = leases.begin_reclaim(&x, Respect::All).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let hold = leases.hold([digest(b"y"), x]);
            assert!(gone.load(std::sync::atomic::Ordering::SeqCst), "it looks when the removal is over");
            hold
        });
        leases.touch(&digest(b"z"));
        assert!(!waiting.is_finished());
        gone.store(true, std::sync::atomic::Ordering::SeqCst);
        drop(right);
        drop(waiting.join().unwrap());
    });
}

#[test]
fn what_is_forgotten_leaves_no_lease() {
    let leases = leases();
    leases.set_grace(GRACE);
    leases.shared.lock().began = Instant::now().checked_sub(2 * GRACE).unwrap();
    let [here, absent, other] = [b"h", b"a", b"o"].map(|name| digest(name));
    let mut hold = leases.hold([here, absent, other, absent]);
    let second = leases.hold([other]);
    hold.forget(&[absent, other, digest(b"never held")]);
    assert!(leases.protects(&here) && leases.protects(&other) && !leases.protects(&absent));
    drop((hold, second));
    assert!(leases.protects(&here) && leases.protects(&other), "a hold of its own leaves a lease");
    assert!(leases.begin_reclaim(&absent, Respect::All).is_some());
    leases.hold([here]).forget(&[here]);
    assert!(leases.protects(&here), "nor does it end one that was there before");
    let state = leases.shared.lock();
    assert!(state.touched.len() == 2 && state.held.is_empty());
}

#[test]
fn too_many_leases_protect_everything_instead() {
    let leases = leases();
    leases.set_grace(GRACE);
    leases.shared.lock().began = Instant::now().checked_sub(2 * GRACE).unwrap();
    let [first, never] = [0, u64::MAX].map(|n: u64| digest(&n.to_le_bytes()));
    for n in 0..MOST as u64 - 1 {
        drop(leases.hold([digest(&n.to_le_bytes())]));
    }
    assert!(leases.protects(&first) && !leases.protects(&never));
    leases.touch(&digest(&u64::MAX.to_be_bytes()[1..]));
    let state = leases.shared.lock();
    let protects = |digest| state.left(digest, Respect::All).is_some();
    assert!(state.touched.is_empty() && protects(&first) && protects(&never));
    assert!(state.left(&never, Respect::Promises).is_some());
}

/// A mirror of many images has that many leases of cached content: it may be evicted all the same.
#[test]
fn too_many_leases_of_cached_content_promise_nothing() {
    let leases = leases();
    leases.set_grace(GRACE);
    for n in 0..MOST as u64 {
        drop(leases.hold_cached([digest(&n.to_le_bytes())]));
    }
    let state = leases.shared.lock();
    let first = digest(&0_u64.to_le_bytes());
    assert!(state.touched.is_empty() && state.left(&first, Respect::All).is_some());
    assert_eq!(state.left(&first, Respect::Promises), None);
}

#[test]
fn leases_that_have_run_out_take_no_memory() {
    let leases = leases();
    for n in 0..10_000_u32 {
        leases.touch(&digest(&n.to_le_bytes()));
    }
    assert!(leases.shared.lock().touched.len() < 2 * SPARE);
    // Also where nobody touches anything any more.
    leases.set_grace(GRACE);
    for n in 0..10_000_u32 {
        leases.touch(&digest(&n.to_le_bytes()));
    }
    leases.tidy();
    assert!(leases.shared.lock().touched.len() >= 10_000, "they last for the grace");
    leases.set_grace(Duration::ZERO);
    leases.tidy();
    let state = leases.shared.lock();
    assert!(state.touched.is_empty() && state.touched.capacity() < 4 * SPARE);
}
