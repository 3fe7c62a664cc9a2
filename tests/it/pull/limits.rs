//! A 429 with `Retry-After`: a client that goes to the registry itself would wait and continue, so
//! lanyard waits for it, up to 10 s in all.

use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::mirror_with;
use crate::{
    hub::{Fault, Hub, Image, On},
    lanyard::Lanyard,
    wire::{Answer, ask, blob, get, manifest},
};

const REPO: &str = "library/busybox";
const ALWAYS_DUE: &str = "[cache]\ntag_ttl = \"0s\"\nnegative_ttl = \"0s\"";

fn world() -> (Hub, Image, Lanyard) {
    let hub = Hub::builder().without_cdn().start();
    let image = hub.image(REPO, "latest").layer(5000).publish();
    let lanyard = mirror_with(&hub, ALWAYS_DUE);
    (hub, image, lanyard)
}

/// One request, and how long it took.
fn timed(lanyard: &Lanyard, method: &str, path: &str) -> (Answer, Duration) {
    let begun = Instant::now();
    (ask(lanyard.port(), method, path, &[]), begun.elapsed())
}

fn in_seconds(seconds: u64) -> String {
    httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds))
}

#[test]
fn a_short_limit_is_waited_for() {
    for (said, times) in [("0", 2), ("1", 1), ("1", 2), ("2", 1), ("a date", 1)] {
        let (hub, image, lanyard) = world();
        let limit = |at: On| {
            let said = if said == "a date" { in_seconds(3) } else { said.to_owned() };
            hub.fault(at.any_method().times(times), Fault::too_many_requests(Some(&said)));
        };
        limit(On::any_manifest());
        let (answer, took) = timed(&lanyard, "GET", &manifest(REPO, "latest"));
        assert_eq!((answer.status, &answer.body), (200, &image.bytes), "{said}: {}", answer.text());
        assert!(took < Duration::from_secs(11), "{said}: {took:?}");
        assert_eq!(hub.manifest_gets(), 1 + times, "{said}");
        let layer = blob(REPO, image.layer(0));
        for method in ["HEAD", "GET"] {
            limit(On::any_blob());
            let (answer, took) = timed(&lanyard, method, &layer);
            assert_eq!(answer.status, 200, "{method} {said}: {}", answer.text());
            assert!(took < Duration::from_secs(11), "{method} {said}: {took:?}");
        }
    }
}

#[test]
fn a_long_limit_is_told_at_once_and_in_its_own_words() {
    let dated = in_seconds(120);
    for (said, least, most) in [("60", 30, 60), ("3600", 3500, 3600), (dated.as_str(), 60, 120)] {
        let (hub, image, lanyard) = world();
        for on in [On::any_manifest(), On::any_blob()] {
            hub.fault(on.any_method().always(), Fault::too_many_requests(Some(said)));
        }
        let (tag, other, layer) = (manifest(REPO, "latest"), manifest(REPO, "other"), blob(REPO, image.layer(0)));
        for (method, path) in [("GET", &tag), ("HEAD", &other), ("GET", &layer), ("HEAD", &layer)] {
            let (answer, took) = timed(&lanyard, method, path);
            let told: Option<u64> = answer.header("retry-after").and_then(|told| told.parse().ok());
            assert_eq!(answer.status, 503, "{method} {path} {said}: {}", answer.text());
            assert!(told.is_some_and(|told| (least..=most).contains(&told)), "{method} {path} {said}: {told:?}");
            assert!(took < Duration::from_secs(5), "{method} {path} {said}: {took:?}");
        }
    }
}

/// A limit that lasts longer is told to the client after ten seconds.
#[test]
fn a_limit_without_end_is_told_in_time() {
    let (hub, image, lanyard) = world();
    for on in [On::any_manifest(), On::any_blob()] {
        hub.fault(on.any_method().always(), Fault::too_many_requests(Some("1")));
    }
    thread::scope(|scope| {
        for path in [manifest(REPO, "latest"), blob(REPO, image.layer(0))] {
            let lanyard = &lanyard;
            scope.spawn(move || {
                let (answer, took) = timed(lanyard, "GET", &path);
                assert_eq!(answer.status, 503, "{path}: {}", answer.text());
                assert!(answer.header("retry-after").is_some() && took < Duration::from_secs(13), "{path}: {took:?}");
            });
        }
    });
    assert!(hub.manifest_gets() <= 10, "{}", hub.manifest_gets());
}

#[test]
fn who_waits_together_asks_once_and_a_tag_that_is_here_waits_for_nothing() {
    let (hub, image, lanyard) = world();
    hub.fault(On::any_manifest().any_method(), Fault::too_many_requests(Some("1")));
    let all = |path: &str| {
        thread::scope(|scope| {
            let clients: Vec<_> = (0..50).map(|_| scope.spawn(|| get(lanyard.port(), path).status)).collect();
            clients.into_iter().map(|client| client.join().unwrap()).filter(|status| *status == 200).count()
        })
    };
    assert_eq!((all(&manifest(REPO, "latest")), hub.manifest_gets()), (50, 2));
    hub.fault(On::any_blob().any_method(), Fault::too_many_requests(Some("1")));
    assert_eq!((all(&blob(REPO, image.layer(0))), hub.blob_gets(image.layer(0))), (50, 2));
    hub.fault(On::any_manifest().any_method().always(), Fault::too_many_requests(Some("5")));
    for _ in 0..5 {
        let (answer, took) = timed(&lanyard, "GET", &manifest(REPO, "latest"));
        assert_eq!((answer.status, answer.outcome()), (200, "stale"));
        assert!(took < Duration::from_millis(1500), "{took:?}");
    }
}
