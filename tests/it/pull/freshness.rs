//! Tags: their TTL, their checks, and what lanyard serves when upstream gives another answer
//! (DESIGN.md section 5).

use std::thread;

use super::{mirror, mirror_with};
use crate::{
    hub::{Fault, Gate, Hub, On},
    wire::{ask, eventually, get, head, manifest},
};

const REPO: &str = "library/busybox";
const ALWAYS_DUE: &str = "[cache]\ntag_ttl = \"0s\"\nnegative_ttl = \"0s\"";

fn latest() -> String {
    manifest(REPO, "latest")
}

/// Seen in other caches: "every pull re-checks every tag".
#[test]
fn a_tag_is_asked_for_once_within_its_ttl() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").publish();
    let lanyard = mirror(&hub);
    let first = get(lanyard.port(), &latest());
    assert_eq!((first.status, first.outcome(), &first.body), (200, "filled", &image.bytes));
    for _ in 0..50 {
        assert_eq!(get(lanyard.port(), &latest()).outcome(), "hit");
    }
    assert_eq!((hub.manifest_gets(), hub.manifest_heads()), (1, 0));
}

#[test]
fn a_check_is_one_head_for_all_who_wait() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror_with(&hub, ALWAYS_DUE);
    get(lanyard.port(), &latest());
    let gate = Gate::shut();
    hub.fault(On::any_manifest().head(), Fault::HoldHead(gate.clone()));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..20).map(|_| scope.spawn(|| get(lanyard.port(), &latest()))).collect();
        assert!(gate.wait_for_arrivals(1, std::time::Duration::from_secs(60)));
        gate.open();
        for client in clients {
            assert_eq!(client.join().unwrap().status, 200);
        }
    });
    // One check waits at the gate; a client that came after its end began another check.
    assert!(hub.manifest_heads() < 20, "{} checks", hub.manifest_heads());
    assert_eq!(hub.manifest_gets(), 1, "nothing moved, nothing was fetched");
    assert_eq!(get(lanyard.port(), &latest()).outcome(), "revalidated");
}

#[test]
fn a_moved_tag_is_fetched_and_one_that_moves_back_is_not() {
    let hub = Hub::start();
    let old = hub.image(REPO, "latest").layer(100).publish();
    let lanyard = mirror_with(&hub, ALWAYS_DUE);
    assert_eq!(get(lanyard.port(), &latest()).body, old.bytes);
    let new = hub.image(REPO, "latest").layer(200).publish();
    let moved = get(lanyard.port(), &latest());
    assert_eq!((moved.outcome(), &moved.body), ("filled", &new.bytes));
    hub.move_tag(REPO, "latest", &old.digest);
    let back = get(lanyard.port(), &latest());
    assert_eq!((back.outcome(), &back.body), ("revalidated", &old.bytes));
    assert_eq!(hub.manifest_gets(), 2);
}

#[test]
fn not_found_is_an_answer_and_deletes_nothing() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").publish();
    let lanyard = mirror_with(&hub, ALWAYS_DUE);
    get(lanyard.port(), &latest());
    hub.delete_tag(REPO, "latest");
    let gone = get(lanyard.port(), &latest());
    assert_eq!((gone.status, gone.error_code()), (404, "MANIFEST_UNKNOWN".to_owned()));
    hub.go_down();
    let by_digest = get(lanyard.port(), &manifest(REPO, &image.digest));
    assert_eq!((by_digest.status, by_digest.outcome()), (200, "hit"), "nothing was deleted");
}

#[test]
fn keep_deleted_goes_on_serving() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").publish();
    let lanyard = crate::lanyard::Lanyard::start(&(super::config(&hub, ALWAYS_DUE) + "keep_deleted = true\n"));
    get(lanyard.port(), &latest());
    hub.delete_tag(REPO, "latest");
    let kept = get(lanyard.port(), &latest());
    assert_eq!((kept.status, kept.outcome(), &kept.body), (200, "stale", &image.bytes));
}

#[test]
fn a_missing_tag_costs_one_request_within_its_ttl() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror(&hub);
    for _ in 0..5 {
        assert_eq!(get(lanyard.port(), &manifest(REPO, "mistyped")).status, 404);
        assert_eq!(head(lanyard.port(), &manifest(REPO, "mistyped")).status, 404);
    }
    assert_eq!(hub.count(|r| r.is_manifest("GET") || r.is_manifest("HEAD")), 1);
}

/// 5xx, 429, connection refused: stale. WIRE.md: never 401, 403 or 429 to a client.
#[test]
fn trouble_upstream_serves_the_last_known_tag() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").publish();
    let lanyard = mirror_with(&hub, ALWAYS_DUE);
    get(lanyard.port(), &latest());
    // All of the image is here: a part of it is not given out while upstream cannot be asked for
    // the rest.
    assert_eq!(get(lanyard.port(), &crate::wire::blob(REPO, image.config())).status, 200);
    for fault in [
        Fault::status(500),
        Fault::status(503),
        Fault::status(401),
        Fault::status(403),
        Fault::too_many_requests(Some("1")),
    ] {
        hub.fault(On::any_manifest().any_method().always(), fault.clone());
        let stale = get(lanyard.port(), &latest());
        assert_eq!((stale.status, stale.outcome(), &stale.body), (200, "stale", &image.bytes), "{fault:?}");
        hub.clear_faults();
    }
    hub.go_down();
    assert_eq!(get(lanyard.port(), &latest()).outcome(), "stale");
    hub.come_back();
    eventually("upstream is asked again", || get(lanyard.port(), &latest()).outcome() == "revalidated");
}

#[test]
fn trouble_upstream_is_told_as_5xx_where_nothing_is_here() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror_with(&hub, ALWAYS_DUE);
    for (fault, status) in
        [(Fault::status(500), 502), (Fault::status(403), 404), (Fault::too_many_requests(Some("1")), 503)]
    {
        hub.fault(On::any_manifest().any_method().always(), fault);
        let answer = get(lanyard.port(), &latest());
        assert_eq!(answer.status, status, "{}", answer.text());
        hub.clear_faults();
    }
}

/// The governor: the last of the quota is spent on GETs for content that is not here.
#[test]
fn the_last_of_the_quota_is_kept_for_what_is_not_here() {
    let hub = Hub::builder().rate_limit(100, 8).start();
    let old = hub.image(REPO, "latest").layer(100).publish();
    hub.image(REPO, "other").layer(300).publish();
    let lanyard = mirror_with(&hub, ALWAYS_DUE);
    get(lanyard.port(), &latest());
    hub.image(REPO, "latest").layer(200).publish();
    let stale = get(lanyard.port(), &latest());
    assert_eq!((stale.outcome(), &stale.body), ("stale", &old.bytes), "a refresh waits");
    assert_eq!(get(lanyard.port(), &manifest(REPO, "other")).outcome(), "filled", "what is not here does not");
    let metrics = get(lanyard.port(), "/metrics").text();
    assert!(metrics.contains("ratelimit") || metrics.contains("rate_limit"), "the budget is shown:\n{metrics}");
}

/// S11: wrong bytes under a right name are neither served nor stored.
#[test]
fn a_manifest_with_the_wrong_digest_is_refused() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").publish();
    let lanyard = mirror_with(&hub, ALWAYS_DUE);
    for fault in [Fault::FlipByte { at: 20 }, Fault::HtmlPage, Fault::Replace(b"{}".to_vec())] {
        hub.fault(On::manifest(&image.digest), fault.clone());
        let answer = get(lanyard.port(), &manifest(REPO, &image.digest));
        assert!((502..=504).contains(&answer.status), "{fault:?}: {} {}", answer.status, answer.text());
    }
    let answer = get(lanyard.port(), &manifest(REPO, &image.digest));
    assert_eq!((answer.status, answer.body), (200, image.bytes));
}

/// A client that knows no indexes gets linux/amd64 for a tag, as at Docker Hub.
#[test]
fn an_old_client_gets_an_image_for_a_tag() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(10).platforms(&["linux/arm64", "linux/amd64"]).publish();
    let lanyard = mirror(&hub);
    let accept = [("Accept", "application/vnd.docker.distribution.manifest.v2+json")];
    let answer = ask(lanyard.port(), "GET", &latest(), &accept);
    assert_eq!(answer.header("docker-content-digest"), Some(image.platforms[1].digest.as_str()));
    let answer = get(lanyard.port(), &latest());
    assert_eq!(answer.header("docker-content-digest"), Some(image.digest.as_str()));
}

/// HEAD equals GET (WIRE.md, "HEAD of a manifest has the headers of GET").
#[test]
fn head_equals_get() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1000).publish();
    let lanyard = mirror(&hub);
    for path in [latest(), manifest(REPO, &image.digest), crate::wire::blob(REPO, image.layer(0))] {
        eventually("it is stored", || get(lanyard.port(), &path).outcome() == "hit");
        let (get, head) = (get(lanyard.port(), &path), head(lanyard.port(), &path));
        let headers = |a: &crate::wire::Answer| {
            let mut all: Vec<_> = a.headers.iter().filter(|(n, _)| !n.eq_ignore_ascii_case("date")).cloned().collect();
            all.sort();
            all
        };
        assert_eq!(headers(&get), headers(&head), "{path}");
        assert!(get.looks_complete() && head.body.is_empty(), "{path}");
    }
}

/// A 404 counts for as long as it is believed, also for a tag that is here and was not due.
#[test]
fn a_deleted_tag_stays_deleted() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror_with(&hub, "[cache]\ntag_ttl = \"2s\"\nnegative_ttl = \"60s\"");
    get(lanyard.port(), &latest());
    hub.delete_tag(REPO, "latest");
    eventually("the tag is due", || get(lanyard.port(), &latest()).status == 404);
    for _ in 0..3 {
        assert_eq!(get(lanyard.port(), &latest()).status, 404);
    }
}

/// "1,000 pulls of one tag within its TTL: 1 upstream request", also when they all come at once and
/// the tag is not here.
#[test]
fn a_crowd_at_first_sight_costs_one_request() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").publish();
    let lanyard = mirror(&hub);
    for reference in ["latest", &image.digest] {
        let (hub_before, barrier) = (hub.manifest_gets(), std::sync::Barrier::new(250));
        thread::scope(|scope| {
            let clients: Vec<_> = (0..250)
                .map(|n| {
                    let (barrier, lanyard, image) = (&barrier, &lanyard, &image);
                    scope.spawn(move || {
                        barrier.wait();
                        // They come one after the other, for longer than a check takes.
                        for _ in 0..4 {
                            let answer = get(lanyard.port(), &manifest(REPO, reference));
                            assert_eq!((answer.status, &answer.body), (200, &image.bytes), "client {n}");
                        }
                    })
                })
                .collect();
            clients.into_iter().for_each(|client| client.join().unwrap());
        });
        assert!(hub.manifest_gets() - hub_before <= 1);
    }
    assert_eq!((hub.manifest_gets(), hub.manifest_heads()), (1, 0));
}
