//! S30: one repository's failures never cost another repository.
//!
//! Six clients hammer a repository that is broken in one way or another. Meanwhile sixty honest
//! repositories are pulled cold.

use std::{
    any::Any,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::{
    hub::{
        Cut, Fault, Hub, Image, On, digest_of,
        silent::{Refusing, Silent},
    },
    lanyard::Lanyard,
    wire::{Connection, blob, eventually, get, manifest},
};

const BROKEN: &str = "library/broken";
const HONEST: usize = 60;

/// Breaks the repository. The servers that the fault needs live as long as the result.
type Trouble = fn(&Hub) -> Option<Box<dyn Any>>;

fn everything(hub: &Hub, fault: Fault) -> Option<Box<dyn Any>> {
    for on in [On::any_manifest(), On::any_blob()] {
        hub.fault(on.in_repo(BROKEN).any_method().always(), fault.clone());
    }
    None
}

fn token(hub: &Hub, fault: Fault) -> Option<Box<dyn Any>> {
    let on = On::when(|request, _| request.query.contains("broken")).any_method().challenges().always();
    hub.fault(on, fault);
    None
}

const TROUBLES: [(&str, Trouble); 17] = [
    ("500", |hub| everything(hub, Fault::status(500))),
    ("502", |hub| everything(hub, Fault::status(502))),
    ("503 with Retry-After", |hub| {
        let headers = vec![("Retry-After".into(), "3600".into())];
        everything(hub, Fault::Status { status: 503, headers, body: String::new() })
    }),
    ("504", |hub| everything(hub, Fault::status(504))),
    ("429 for an hour", |hub| everything(hub, Fault::too_many_requests(Some("3600")))),
    ("429 for a second", |hub| everything(hub, Fault::too_many_requests(Some("1")))),
    ("403", |hub| everything(hub, Fault::status(403))),
    ("nonsense", |hub| everything(hub, Fault::Garbage(b"SSH-2.0-x\r\n".to_vec()))),
    ("resets", |hub| everything(hub, Fault::Drop(Cut::Rst))),
    ("cut short", |hub| everything(hub, Fault::CutAfter { bytes: 5, how: Cut::Rst })),
    ("a page", |hub| everything(hub, Fault::HtmlPage)),
    ("never answers", |hub| everything(hub, Fault::BlackHole)),
    ("redirects to a dead place", |hub| {
        let place = Refusing::start();
        everything(hub, Fault::RedirectTo(format!("{}/x", place.url())));
        Some(Box::new(place))
    }),
    ("redirects to a place that is switched off", |hub| {
        let place = Silent::start();
        everything(hub, Fault::RedirectTo(format!("{}/x", place.url())));
        Some(Box::new(place))
    }),
    ("redirects to a place that never answers", |hub| {
        let place = Hub::builder().open().start();
        place.go_deaf(true);
        everything(hub, Fault::RedirectTo(format!("{}/x", place.url())));
        Some(Box::new(place))
    }),
    ("its tokens fail", |hub| token(hub, Fault::status(500))),
    ("its tokens hang", |hub| token(hub, Fault::BlackHole)),
];

/// A hub with a broken repository, whose manifest is here, and honest ones, whose manifests are
/// not.
fn world(connections: usize) -> (Hub, Lanyard, Vec<Image>) {
    let hub = Hub::builder().without_cdn().start();
    hub.image(BROKEN, "latest").layer(100).publish();
    let honest = (0..HONEST).map(|n| hub.image(&format!("library/honest{n}"), "v1").layer(1000).publish()).collect();
    let cache = "[cache]\ntag_ttl = \"0s\"\nnegative_ttl = \"0s\"";
    let lanyard = Lanyard::start(&format!("{}connections = {connections}\n", super::config(&hub, cache)));
    assert_eq!(get(lanyard.port(), &manifest(BROKEN, "latest")).status, 200);
    (hub, lanyard, honest)
}

/// Asks the broken repository for one thing after another, and does not wait for requests that
/// hang.
fn hammer(port: u16, client: usize, over: &AtomicBool) {
    for n in 0.. {
        if over.load(Relaxed) {
            return;
        }
        let path = match n % 3 {
            0 => manifest(BROKEN, &format!("v{client}-{n}")),
            1 => manifest(BROKEN, "latest"),
            _ => blob(BROKEN, &digest_of(format!("{client} {n}").as_bytes())),
        };
        let mut connection = Connection::open(port);
        connection.request("GET", &path, &[("Connection", "close")]);
        connection.patience(Duration::from_millis(300));
        let _ = connection.head();
        // The rate of the load, not a wait for an event: six clients and no flood, as the machine
        // is not under test.
        thread::sleep(Duration::from_millis(5));
    }
}

/// A cold pull. Returns its time, and the failure if there was one.
fn pull(port: u16, image: &Image) -> (Duration, Option<String>) {
    let begun = Instant::now();
    let mut paths = vec![manifest(&image.repo, "v1")];
    paths.extend(image.blobs().iter().map(|digest| blob(&image.repo, digest)));
    let failed = paths.into_iter().find_map(|path| {
        let answer = get(port, &path);
        (answer.status != 200).then(|| format!("{} {path}: {}", answer.status, answer.text()))
    });
    (begun.elapsed(), failed)
}

#[test]
fn s30_a_broken_repository_costs_no_other_one() {
    for (name, trouble) in TROUBLES {
        for connections in [16, 8] {
            // With few connections only troubles that hang differ.
            if connections == 8 && !name.contains("hang") && !name.contains("never") {
                continue;
            }
            // A blob's head may take 30 s: a client that waits for another repository's blob waits
            // as long. A machine that stood still for a while is no failure.
            let mut slowest = (0..3).map(|_| pulled_beside(name, trouble, connections));
            let quick = slowest.find(|slowest| *slowest < Duration::from_secs(20));
            let quick = quick.unwrap_or_else(|| panic!("{name}, {connections} connections: honest pulls wait"));
            println!("{name}, {connections} connections: the slowest honest pull took {quick:?}");
        }
    }
}

/// Pulls everything honest while the broken repository is hammered. No pull may fail. Returns how
/// long the slowest took.
fn pulled_beside(name: &str, trouble: Trouble, connections: usize) -> Duration {
    let (hub, lanyard, honest) = world(connections);
    let _place = trouble(&hub);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for client in 0..6 {
            let (over, port) = (&over, lanyard.port());
            scope.spawn(move || hammer(port, client, over));
        }
        // The worst moment: requests that hang have taken all connections that they can get.
        let asked = |records: &[crate::hub::Record]| {
            records.iter().filter(|r| r.path.contains("broken") || r.query.contains("broken")).count() > 12
        };
        hub.wait_for(Duration::from_secs(3), asked);
        let pulls: Vec<_> = honest
            .chunks(HONEST / 4)
            .map(|some| {
                let port = lanyard.port();
                scope.spawn(move || some.iter().map(|image| pull(port, image)).collect::<Vec<_>>())
            })
            .collect();
        let pulls: Vec<_> = pulls.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Relaxed);
        let pulls: Vec<_> = pulls.into_iter().flat_map(Result::unwrap).collect();
        let failed: Vec<_> = pulls.iter().filter_map(|(_, failed)| failed.as_ref()).collect();
        assert!(failed.is_empty(), "{name}: {} of {HONEST} failed: {failed:#?}", failed.len());
        pulls.iter().map(|(took, _)| *took).max().unwrap_or_default()
    })
}

/// A repository that fails again and again fails fast for its own clients, and is asked again when
/// it is healed.
#[test]
fn a_broken_repository_fails_fast_by_itself_and_heals_within_ten_seconds() {
    for (name, fault) in [("500", Fault::status(500)), ("resets", Fault::Drop(Cut::Rst))] {
        let (hub, lanyard, _) = world(16);
        everything(&hub, fault);
        let port = lanyard.port();
        let tag = |n: usize| manifest(BROKEN, &format!("new{n}"));
        for n in 0..4 {
            assert_eq!(get(port, &tag(n)).status / 100, 5, "{name}");
        }
        let asked = hub.requests().len();
        let mut took: Vec<_> = (0..21)
            .map(|n| {
                let begun = Instant::now();
                let answer = get(port, &tag(n));
                assert!((502..=504).contains(&answer.status), "{name}: {}", answer.text());
                begun.elapsed()
            })
            .collect();
        took.sort();
        assert!(took[5] < Duration::from_millis(100), "{name}: {took:?}");
        assert!(hub.requests().len() - asked <= 8, "{name}: a rest is a rest");
        hub.clear_faults();
        hub.image(BROKEN, "new0").publish();
        let healed = Instant::now();
        eventually("it is asked again", || get(port, &tag(0)).status == 200);
        assert!(healed.elapsed() < Duration::from_secs(10), "{name}: {:?}", healed.elapsed());
    }
}

/// A failure of the registry itself is different: it fails for all, at once.
#[test]
fn a_registry_that_is_down_fails_fast_for_every_repository() {
    for deaf in [false, true] {
        let (hub, lanyard, honest) = world(16);
        match deaf {
            true => hub.go_deaf(true),
            false => hub.go_down(),
        }
        hub.end_connections();
        let ask = |image: &Image| {
            let begun = Instant::now();
            let answer = get(lanyard.port(), &manifest(&image.repo, "v1"));
            assert!((502..=504).contains(&answer.status), "{}", answer.text());
            begun.elapsed()
        };
        ask(&honest[0]);
        ask(&honest[1]);
        let mut took: Vec<_> = honest[2..].iter().map(ask).collect();
        took.sort();
        // The long ones are those of a busy machine; a client that waits for a timeout waits for
        // seconds.
        let (usual, longest) = (took[took.len() / 4], took[took.len() - 1]);
        assert!(usual < Duration::from_millis(100), "deaf: {deaf}: {usual:?}");
        assert!(longest < Duration::from_secs(2), "deaf: {deaf}: {longest:?}");
        hub.go_deaf(false);
        if !deaf {
            hub.come_back();
        }
        eventually("it is back", || get(lanyard.port(), &manifest(&honest[9].repo, "v1")).status == 200);
    }
}
