//! Tags that are frozen at a day, by lanyard's own record.

use super::{ALWAYS_DUE, REPO, asked_by_tag, command, day, digest, mirror, record, rewrite, rule, tag};
use crate::{
    cli::{stderr, stdout},
    hub::Hub,
    lanyard::Lanyard,
    pull::config,
    wire::{head, manifest},
};

/// A lanyard that has seen `latest` name three images, from October, from 2 November and from today
/// on. It is stopped.
fn three_moves(hub: &Hub) -> (Lanyard, [String; 3]) {
    let mut lanyard = mirror(hub, ALWAYS_DUE);
    let digests = [10, 20, 30].map(|size| {
        let image = hub.image(REPO, "latest").layer(size).publish();
        assert_eq!(tag(&lanyard, "latest").body, image.bytes);
        image.digest
    });
    lanyard.stop();
    rewrite(&lanyard, "latest", |record| {
        let (first, second) = (day("2026-10-01"), day("2026-11-02"));
        let now = record["since"].clone();
        record["before"][0]["from"] = first.into();
        record["before"][0]["until"] = second.into();
        record["before"][1]["from"] = second.into();
        record["before"][1]["until"] = now;
    });
    (lanyard, digests)
}

fn frozen_at(hub: &Hub, day: &str, more: &str) -> String {
    config(hub, &(ALWAYS_DUE.to_owned() + &rule(&format!("freeze = \"{day}\"\n{more}"))))
}

/// The frozen tag is one digest, whatever upstream says, and upstream is not asked for it.
#[test]
fn t1_a_frozen_tag_is_one_digest() {
    let hub = Hub::start();
    let (mut lanyard, [first, second, last]) = three_moves(&hub);
    for (day, expected) in [("2026-11-01", &first), ("2026-11-02", &second), ("2026-11-01", &first)] {
        lanyard.reconfigure(&frozen_at(&hub, day, ""));
        lanyard.restart();
        let asked = asked_by_tag(&hub);
        for _ in 0..3 {
            let answer = tag(&lanyard, "latest");
            assert_eq!((answer.status, answer.outcome(), digest(&answer)), (200, "hit", expected.as_str()));
            assert_eq!(answer.header("x-lanyard-frozen"), Some(day));
            let head = head(lanyard.port(), &manifest(REPO, "latest"));
            assert_eq!(
                (head.status, digest(&head), head.header("x-lanyard-frozen")),
                (200, expected.as_str(), Some(day))
            );
            hub.image(REPO, "latest").layer(99).publish();
        }
        assert_eq!(asked_by_tag(&hub), asked, "upstream is never asked for the tag");
        hub.go_down();
        assert_eq!(digest(&tag(&lanyard, "latest")), expected);
        hub.come_back();
    }
    assert_eq!(record(&lanyard, "latest")["digest"], last.as_str(), "a rule changes no record");
    // Without the rule it is as ever (T3).
    lanyard.reconfigure(&config(&hub, ALWAYS_DUE));
    lanyard.restart();
    let answer = tag(&lanyard, "latest");
    assert_eq!((answer.outcome(), answer.header("x-lanyard-frozen")), ("filled", None));
}

#[test]
fn what_was_not_seen_by_then_is_refused_with_the_day_of_its_first_sight() {
    let hub = Hub::start();
    let (mut lanyard, _) = three_moves(&hub);
    lanyard.reconfigure(&frozen_at(&hub, "2026-09-30", ""));
    lanyard.restart();
    let asked = asked_by_tag(&hub);
    for (name, why) in [("latest", "frozen at 2026-09-30, first seen on 2026-10-01"), ("other", "never seen")] {
        let answer = tag(&lanyard, name);
        assert_eq!((answer.status, answer.error_code().as_str()), (404, "MANIFEST_UNKNOWN"));
        assert!(answer.text().contains(why), "{}", answer.text());
    }
    assert_eq!(asked_by_tag(&hub), asked);
}

/// The record of a tag that flapped has gaps.
#[test]
fn a_day_that_the_record_has_lost_is_refused() {
    let hub = Hub::start();
    let (mut lanyard, [first, ..]) = three_moves(&hub);
    rewrite(&lanyard, "latest", |record| record["before"][0]["until"] = day("2026-10-20").into());
    for (day, expected) in [("2026-10-10", Some(&first)), ("2026-10-25", None)] {
        lanyard.reconfigure(&frozen_at(&hub, day, ""));
        lanyard.restart();
        let answer = tag(&lanyard, "latest");
        match expected {
            Some(expected) => assert_eq!(digest(&answer), expected),
            None => {
                assert_eq!((answer.status, answer.error_code().as_str()), (404, "MANIFEST_UNKNOWN"));
                let text = answer.text();
                assert!(text.contains("frozen at 2026-10-25, of which it has no record any more"), "{text}");
            }
        }
    }
}

#[test]
fn what_was_not_seen_by_then_passes_if_the_rule_says_so() {
    let hub = Hub::start();
    let (mut lanyard, [_, _, last]) = three_moves(&hub);
    hub.image(REPO, "other").layer(40).publish();
    lanyard.reconfigure(&frozen_at(&hub, "2026-09-30", "unlisted = \"pass\""));
    lanyard.restart();
    let answer = tag(&lanyard, "latest");
    assert_eq!((answer.outcome(), digest(&answer)), ("revalidated", last.as_str()));
    assert_eq!(answer.header("x-lanyard-frozen"), None);
    assert_eq!(tag(&lanyard, "other").outcome(), "filled");
}

/// Its record says what it is frozen at.
#[test]
fn t2_a_frozen_tag_is_removed_by_force_alone() {
    let hub = Hub::start();
    let (mut lanyard, [first, ..]) = three_moves(&hub);
    lanyard.reconfigure(&frozen_at(&hub, "2026-11-01", ""));
    lanyard.restart();
    let rm = |words: &[&str]| command(&lanyard, &[&["rm", "busybox:latest"], words].concat());
    for words in [&["--dry-run"][..], &[], &["--bytes-only"]] {
        let refused = rm(words);
        assert_eq!((refused.status.code(), stdout(&refused).as_str()), (Some(1), ""));
        let told = stderr(&refused);
        assert!(told.contains("docker.io/library/busybox:latest is frozen by a rule of [[tags]]"), "{told}");
        assert_eq!(digest(&tag(&lanyard, "latest")), first);
    }
    let forced = rm(&["--force"]);
    assert!(forced.status.success(), "{}", stderr(&forced));
    assert_eq!(tag(&lanyard, "latest").status, 404);
}

/// Content that is not here is fetched by its digest; a client that knows no indexes is served as
/// without the rule.
#[test]
fn the_content_of_a_frozen_tag_is_fetched_by_digest() {
    let hub = Hub::start();
    let old = hub.image(REPO, "latest").layer(10).platforms(&["linux/amd64", "linux/arm64"]).publish();
    let mut lanyard = mirror(&hub, ALWAYS_DUE);
    tag(&lanyard, "latest");
    hub.image(REPO, "latest").layer(20).publish();
    lanyard.stop();
    rewrite(&lanyard, "latest", |record| record["since"] = day("2026-10-01").into());
    lanyard.reconfigure(&frozen_at(&hub, "2026-11-01", ""));
    lanyard.restart();
    let accept = [("Accept", "application/vnd.docker.distribution.manifest.v2+json")];
    let child = crate::wire::ask(lanyard.port(), "GET", &manifest(REPO, "latest"), &accept);
    assert_eq!((child.status, digest(&child)), (200, old.platforms[0].digest.as_str()));
    assert_eq!(child.header("x-lanyard-frozen"), Some("2026-11-01"));
    assert_eq!(digest(&tag(&lanyard, "latest")), old.digest);
}
