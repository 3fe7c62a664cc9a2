//! K4, K5, K6: SIGKILL at the Nth system call of an operator's order. A name that is removed is
//! gone or whole, and a pin that was acknowledged is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    KIB, REPO, cap, folder, give_order, has_died, here, hub, keep_image, names, points, remove, starts_again,
    tags_name_what_is_here, told,
};
use crate::{
    faults::{
        figure, rounds,
        shelf::{cached, check_blobs, pull},
        strace::{Ambush, available},
    },
    hub::{Hub, Image},
    lanyard::Lanyard,
    pull::config,
    wire::eventually,
};

/// The calls that an order changes the disk by, and a few beside them.
const CALLS: &[&str] = &["unlink", "rename", "fsync", "openat", "fdatasync", "write", "pwrite64", "mkdir"];

/// An image of two platforms every other time, with a layer that all of them share.
fn image(hub: &Hub, tag: &str, number: usize) -> Image {
    let image = hub.image(REPO, tag).layer_of(vec![7; 20 * KIB]).layer(3000);
    let platforms: &[&str] = if number.is_multiple_of(2) { &[] } else { &["linux/amd64", "linux/arm64"] };
    image.platforms(platforms).publish()
}

/// `lanyard rm` of three images, which share a layer with one that stays. No tag without its
/// manifest; a removal that was acknowledged has happened; what the others need is here; and the
/// same order made again completes it.
#[test]
fn k5_killed_at_any_step_of_a_removal_no_tag_is_without_its_manifest() {
    if !available() {
        return;
    }
    let hub = hub();
    let mut lanyard = Lanyard::start(&config(&hub, &cap("1 GiB")));
    let data = lanyard.data_dir();
    let kept = image(&hub, "kept", 1);
    keep_image(&lanyard, &kept);
    let parts: BTreeSet<_> = names(&folder(&data, REPO).join("links"));
    let wanted = rounds(5, 500);
    let (mut deaths, mut slowest, mut gone) = (BTreeMap::new(), Duration::ZERO, 0);
    for (round, (call, nth)) in points(CALLS, 12).take(wanted * 3).enumerate() {
        let point = format!("{call} {nth}");
        let images: Vec<_> = (0..3).map(|n| image(&hub, &format!("old{round}-{n}"), round + n)).collect();
        images.iter().for_each(|image| keep_image(&lanyard, image));
        let ambush = Ambush::lay(&lanyard, call, &format!("signal=KILL:when={nth}"));
        let is_removed = |image: &&Image| remove(&data, &format!(":{}", image.tag)) == Some(true);
        let done: Vec<_> = images.iter().take_while(is_removed).collect();
        let dead = has_died(&mut lanyard, done.len() < images.len(), &point);
        drop(ambush);
        if dead {
            *deaths.entry(call).or_insert(0) += 1;
        } else {
            lanyard.kill9();
        }
        slowest = slowest.max(starts_again(&mut lanyard, &data, &point));
        let tags = tags_name_what_is_here(&data, REPO, &point);
        assert!(done.iter().all(|image| !tags.contains(&image.tag)), "{point}: a removal came back: {tags:?}");
        gone += done.len();
        let outcomes = pull(lanyard.port(), &kept).unwrap();
        assert!(cached(&outcomes), "{point}: what another image needs is gone: {outcomes:?}");
        // By name, or by digest where only the name is gone.
        for image in &images {
            let (by_name, by_digest) = (format!(":{}", image.tag), format!("@{}", image.digest));
            assert!(remove(&data, &by_name).is_some() && remove(&data, &by_digest).is_some(), "{point}: no answer");
        }
        assert_eq!(tags_name_what_is_here(&data, REPO, &point), BTreeSet::from(["kept".to_owned()]), "{point}");
        let links = names(&folder(&data, REPO).join("links"));
        assert_eq!(links, parts, "{point}: the links of another image, and no more");
        check_blobs(&data);
        if deaths.values().sum::<usize>() >= wanted {
            break;
        }
    }
    figure(&format!("{deaths:?}, {gone} removals acknowledged, slowest start {slowest:?}"));
    assert!(deaths.values().sum::<usize>() >= wanted / 2, "hardly a call was met: {deaths:?}");
}

/// What may be pinned, and the notes that the pin may have: `None` is no pin.
type Allowed = BTreeMap<String, BTreeSet<Option<String>>>;

/// An order about a pin. A note makes one, or writes it anew; without one it is removed.
fn change(lanyard: &Lanyard, image: &str, note: Option<&str>, allowed: &mut Allowed) -> bool {
    let (method, query) = note.map_or(("DELETE", String::new()), |note| ("PUT", format!("?note={note}")));
    let answer = give_order(&lanyard.data_dir(), method, &format!("/api/v1/pins/{image}{query}"));
    let acknowledged = answer.is_some_and(|answer| matches!(answer.status, 200 | 404));
    let states = allowed.entry(image.to_owned()).or_insert_with(|| BTreeSet::from([None]));
    if acknowledged {
        states.clear();
    }
    states.insert(note.map(str::to_owned));
    acknowledged
}

/// `lanyard pin` and `unpin`: what was acknowledged is so after the restart, an order without an
/// answer is done or not done, no pin is unreadable, and what is pinned stays when all else goes.
#[test]
fn k6_killed_at_any_step_of_a_pin_what_was_acknowledged_is_there() {
    if !available() {
        return;
    }
    let hub = hub();
    let mut lanyard = Lanyard::start(&config(&hub, &cap("1 GiB")));
    let data = lanyard.data_dir();
    let (kept, other) = (image(&hub, "kept", 0), hub.image("library/other", "1").layer(5000).publish());
    keep_image(&lanyard, &kept);
    let mut allowed = Allowed::new();
    assert!(change(&lanyard, "docker.io/library/busybox:kept", Some("stays"), &mut allowed));
    let wanted = rounds(5, 500);
    let (mut deaths, mut slowest, mut done) = (BTreeMap::new(), Duration::ZERO, 0);
    for (round, (call, nth)) in points(CALLS, 14).take(wanted * 3).enumerate() {
        let point = format!("{call} {nth}");
        keep_image(&lanyard, &other);
        let ambush = Ambush::lay(&lanyard, call, &format!("signal=KILL:when={nth}"));
        let note = format!("n{round}");
        let names = (0..4).map(|n| format!("docker.io/library/r{}:t{n}", round % 7 * 3 + n));
        let fresh = format!("docker.io/library/fresh{round}@{}", kept.digest);
        let orders = names.chain([fresh]).flat_map(|image| {
            let notes = [Some("first"), Some(note.as_str()), None, Some("again")];
            notes.map(|note| (image.clone(), note))
        });
        let unanswered = |(image, note): &(String, Option<&str>)| !change(&lanyard, image, *note, &mut allowed);
        let lost = orders.inspect(|_| done += 1).collect::<Vec<_>>().iter().any(unanswered);
        let dead = has_died(&mut lanyard, lost, &point);
        drop(ambush);
        if dead {
            *deaths.entry(call).or_insert(0) += 1;
        } else {
            lanyard.kill9();
        }
        slowest = slowest.max(starts_again(&mut lanyard, &data, &point));
        is_as_allowed(&lanyard, &mut allowed, &point);
        // All else may go, and goes once it is not read any more.
        eventually(&format!("{point}: what is not pinned is evicted"), || {
            give_order(&data, "POST", "/api/v1/trim?to=0").unwrap();
            here(&lanyard, &[other.layer(0).to_owned()]).is_empty()
        });
        let layers: Vec<_> = kept.blobs().into_iter().map(str::to_owned).collect();
        assert_eq!(here(&lanyard, &layers).len(), layers.len(), "{point}: what is pinned was evicted");
        if deaths.values().sum::<usize>() >= wanted {
            break;
        }
    }
    figure(&format!("{deaths:?}, {done} orders, slowest start {slowest:?}"));
    assert!(deaths.values().sum::<usize>() >= wanted / 2, "hardly a call was met: {deaths:?}");
}

/// Compares the pins with those that may be there, which are then the ones that are.
fn is_as_allowed(lanyard: &Lanyard, allowed: &mut Allowed, point: &str) {
    let pins = told(&lanyard.data_dir(), "/api/v1/pins");
    assert_eq!(pins["unreadable"], serde_json::json!([]), "{point}");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let found: BTreeMap<_, _> =
        pins["pins"].as_array().unwrap().iter().map(|pin| (text(&pin["image"]), text(&pin["note"]))).collect();
    assert!(found.keys().all(|image| allowed.contains_key(image)), "{point}: {found:?}");
    for (image, states) in allowed {
        let is = found.get(image).cloned();
        assert!(states.contains(&is), "{point}: {image} is pinned as {is:?}, and may be {states:?}");
        *states = BTreeSet::from([is]);
    }
}
