//! S23, S30: a download that two registries share. Nothing that one registry says, does or leaves
//! undone gives its clients bytes of the other, and it costs the other's clients nothing.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{config, leftovers::Opens};
use crate::{
    hub::{Cut, Fault, Gate, Hub, On, digest_of},
    lanyard::Lanyard,
    wire::{ask, blob, eventually, get},
};

const REPO: &str = "library/busybox";
const OTHER: &str = "library/other";
const SIZE: usize = 600_000;
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an event that is due at once may take on a slow machine.
const SOON: Duration = Duration::from_secs(30);

/// An honest registry, another one, and the digest that both are asked for.
struct Two {
    hub: Hub,
    stranger: Hub,
    lanyard: Lanyard,
    bytes: Vec<u8>,
    digest: String,
}

impl Two {
    fn new() -> Two {
        let (hub, stranger) = (Hub::builder().without_cdn().start(), Hub::builder().without_cdn().start());
        let bytes: Vec<u8> = (0..SIZE).map(|at| (at.wrapping_mul(31) ^ (at >> 9)) as u8).collect();
        let digest = hub.put_blob(bytes.clone());
        hub.image(REPO, "latest").publish();
        for n in 0..14 {
            stranger.image(&format!("{OTHER}{n}"), "latest").publish();
        }
        let more = format!(
            "[[upstream]]\nname = \"stranger.lan\"\nurl = \"{}\"\n[cache]\nnegative_ttl = \"0s\"\n",
            stranger.url()
        );
        let lanyard = Lanyard::start(&config(&hub, &more));
        Two { hub, stranger, lanyard, bytes, digest }
    }

    fn get_of_it(&self) -> On {
        On::blob(&self.digest)
    }

    fn ours(&self) -> String {
        blob(REPO, &self.digest)
    }

    fn theirs(&self, n: usize) -> String {
        blob(&format!("stranger.lan/{OTHER}{n}"), &self.digest)
    }

    fn has_joined(&self, upstream: &str, times: usize) {
        let line = format!("lanyard_fill_joins_total{{upstream=\"{upstream}\"}} {times}");
        eventually("it has joined", || get(self.lanyard.port(), "/metrics").text().contains(&line));
    }

    /// The honest registry's client has its blob, soon.
    fn is_served(&self, what: &str, begun: Instant) {
        let answer = get(self.lanyard.port(), &self.ours());
        assert_eq!((answer.status, digest_of(&answer.body)), (200, self.digest.clone()), "{what}");
        assert!(begun.elapsed() < SOON, "{what}: {:?}", begun.elapsed());
    }
}

/// A length that came without a byte is not the length of another registry's leftover: a registry
/// that states it once more is not believed to have those bytes.
#[test]
fn s23_a_length_without_bytes_speaks_for_no_leftover() {
    thread::scope(|scope| {
        for more in [1, 1000, -300_000] {
            for restarted in [false, true] {
                scope.spawn(move || speaks_for_nothing(more, restarted));
            }
        }
    });
}

fn speaks_for_nothing(more: i64, restarted: bool) {
    const LEFT: usize = 200_000;
    let what = format!("{more} more, restarted: {restarted}");
    let mut two = Two::new();
    let stated = SIZE as i64 + more;
    let gate = Gate::shut();
    let raw = |head: String| Fault::Garbage(format!("HTTP/1.1 {head}\r\n\r\n").into());
    let page = raw(format!("200 OK\r\nContent-Type: text/html\r\nContent-Length: {stated}"));
    let page = Fault::All(vec![page, Fault::HoldHead(gate.clone())]);
    two.stranger.fault(two.get_of_it().in_repo(&format!("{OTHER}0")), page);
    two.hub.fault(two.get_of_it().head().always(), raw("200 OK".to_owned()));
    two.hub.fault(
        two.get_of_it(),
        Fault::All(vec![Fault::Chunked, Fault::CutAfter { bytes: LEFT as u64, how: Cut::Fin }]),
    );
    two.hub.fault(two.get_of_it().always(), Fault::status(403));
    thread::scope(|scope| {
        let gate = Opens(gate);
        scope.spawn(|| get(two.lanyard.port(), &two.theirs(0)));
        assert!(gate.0.wait_for_arrivals(1, PATIENCE), "{what}");
        scope.spawn(|| get(two.lanyard.port(), &two.ours()));
        two.has_joined("docker.io", 1);
    });
    if restarted {
        two.lanyard.restart();
    }
    let theirs = || two.get_of_it().in_repo(&format!("{OTHER}1")).always();
    two.stranger.fault(theirs().head(), raw(format!("200 OK\r\nContent-Length: {stated}")));
    let range = format!("Content-Range: bytes {LEFT}-{}/{stated}", stated - 1);
    two.stranger.fault(theirs(), raw(format!("206 Partial\r\n{range}\r\nContent-Length: {}", stated - LEFT as i64)));
    for range in [None, Some(("Range", "bytes=0-999"))] {
        let answer = ask(two.lanyard.port(), "GET", &two.theirs(1), range.as_slice());
        let shown = answer.body.iter().zip(&two.bytes).take_while(|(shown, right)| shown == right).count();
        assert!(shown < 100, "{what}, {range:?}: {} with {shown} bytes of another registry", answer.status);
    }
}

/// A registry's words about its failure are for its own clients.
#[test]
fn s23_the_words_of_a_failure_are_told_to_its_own_clients() {
    let two = Two::new();
    two.stranger.put_blob(two.bytes.clone());
    let says = |status, words: &str| Fault::Status {
        status,
        headers: vec![("Content-Type".to_owned(), "text/plain".to_owned())],
        body: words.to_owned(),
    };
    let gate = Gate::shut();
    two.hub.fault(two.get_of_it().always(), says(500, "the hub has moved"));
    let theirs = says(400, "the stranger has moved");
    two.stranger.fault(two.get_of_it(), Fault::All(vec![theirs.clone(), Fault::HoldHead(gate.clone())]));
    two.stranger.fault(two.get_of_it().always(), theirs);
    thread::scope(|scope| {
        let gate = Opens(gate);
        let theirs = scope.spawn(|| get(two.lanyard.port(), &two.theirs(0)));
        assert!(gate.0.wait_for_arrivals(1, PATIENCE));
        let ours = scope.spawn(|| get(two.lanyard.port(), &two.ours()));
        two.has_joined("docker.io", 1);
        drop(gate);
        let (theirs, ours) = (theirs.join().unwrap(), ours.join().unwrap());
        assert!(theirs.status >= 500 && theirs.text().contains("the stranger has moved"), "{}", theirs.text());
        assert!(ours.status >= 500 && ours.text().contains("the hub has moved"), "{}", ours.text());
    });
}

/// A registry that states one length after another hits the right one at some time, and still has
/// nothing.
#[test]
fn s23_a_registry_that_guesses_lengths_is_not_believed() {
    let two = Two::new();
    assert_eq!(get(two.lanyard.port(), &two.ours()).status, 200);
    for (n, length) in (SIZE - 11..=SIZE).enumerate() {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let theirs = two.get_of_it().in_repo(&format!("{OTHER}{n}"));
        two.stranger.fault(theirs.head().always(), Fault::Garbage(head.into()));
        let answer = get(two.lanyard.port(), &two.theirs(n));
        assert!(answer.status >= 400, "{length}: {}", answer.status);
    }
    // A registry that sends the blob has it, whatever it said before.
    two.stranger.clear_faults();
    two.stranger.put_blob(two.bytes.clone());
    let answer = get(two.lanyard.port(), &two.theirs(13));
    assert_eq!((answer.status, digest_of(&answer.body)), (200, two.digest.clone()));
}

/// A download that failed for the registry that began it has not failed for another registry, whose
/// own answer comes a moment later.
#[test]
fn s30_what_fails_for_another_registry_fails_for_it_alone() {
    let cut = Fault::All(vec![
        Fault::Replace(b"welcome".to_vec()),
        Fault::LengthOff(770),
        Fault::CutAfter { bytes: 2, how: Cut::Fin },
    ]);
    let cases = [
        ("an error", Fault::status(500)),
        ("another blob", Fault::Replace(b"welcome".to_vec())),
        ("a cut", cut),
        ("a page", Fault::HtmlPage),
        ("too many requests", Fault::too_many_requests(None)),
        ("no answer", Fault::Drop(Cut::Rst)),
    ];
    thread::scope(|scope| {
        for (what, fault) in &cases {
            scope.spawn(move || fails_alone(what, fault));
        }
    });
}

fn fails_alone(what: &str, fault: &Fault) {
    let two = Two::new();
    let (theirs, ours) = (Gate::shut(), Gate::shut());
    two.stranger.fault(two.get_of_it(), Fault::All(vec![fault.clone(), Fault::HoldHead(theirs.clone())]));
    two.stranger.fault(two.get_of_it().always(), fault.clone());
    two.hub.fault(two.get_of_it().head(), Fault::HoldHead(ours.clone()));
    thread::scope(|scope| {
        let (theirs, ours) = (Opens(theirs), Opens(ours));
        let failing = scope.spawn(|| get(two.lanyard.port(), &two.theirs(0)));
        assert!(theirs.0.wait_for_arrivals(1, PATIENCE), "{what}");
        let served = scope.spawn(|| two.is_served(what, Instant::now()));
        two.has_joined("docker.io", 1);
        drop(theirs);
        let _ = failing.join().unwrap();
        drop(ours);
        served.join().unwrap();
    });
}

/// The behaviour of another registry that is asked in place of one that is slow or silent for a
/// while.
#[test]
fn s30_a_slow_registry_is_not_given_up_for_one_that_brings_nothing() {
    let slow = || Fault::Slow { bytes_per_second: 40_000 };
    let hold = |gate: &Gate| Fault::HoldHead(gate.clone());
    let cut = || Fault::CutAfter { bytes: 300_000, how: Cut::Rst };
    let junk = |_: &Gate| Fault::All(vec![Fault::Replace(b"welcome".to_vec()), Fault::Chunked]);
    type Theirs<'a> = &'a (dyn Fn(&Gate) -> Fault + Sync);
    let cases: [(&str, Fault, Theirs<'_>, usize); 9] = [
        ("slow, an error", slow(), &|_| Fault::status(500), 1),
        ("slow, another length", slow(), &|_| Fault::LengthOff(1), 1),
        ("slow, silence", slow(), &hold, 14),
        ("slow in chunks, junk", Fault::All(vec![slow(), Fault::Chunked]), &junk, 1),
        ("silent, silence", Fault::StallAt { bytes: 300_000, gate: Gate::shut() }, &hold, 14),
        ("cut, silence", cut(), &hold, 14),
        ("cut, no length, and a HEAD that hangs", cut(), &|_| Fault::Chunked, 1),
        ("cut and in trouble, an error", cut(), &|_| Fault::status(400), 1),
        ("silent from the start, an error", Fault::HoldHead(Gate::shut()), &|_| Fault::status(400), 1),
    ];
    thread::scope(|scope| {
        for (what, fault, theirs, repositories) in &cases {
            scope.spawn(move || is_not_given_up(what, fault, theirs, *repositories));
        }
    });
}

fn is_not_given_up(what: &str, fault: &Fault, theirs: &dyn Fn(&Gate) -> Fault, repositories: usize) {
    let two = Two::new();
    two.stranger.put_blob(two.bytes.clone());
    let (begins, hangs) = (Gate::shut(), Gate::shut());
    two.hub.fault(two.get_of_it(), Fault::All(vec![Fault::HoldHead(begins.clone()), fault.clone()]));
    if matches!(fault, Fault::Slow { .. } | Fault::All(_)) {
        two.hub.fault(two.get_of_it().always(), fault.clone());
    }
    if what.contains("in trouble") {
        (0..4).for_each(|_| two.hub.fault(two.get_of_it(), Fault::status(503)));
    }
    two.stranger.fault(two.get_of_it().always(), theirs(&hangs));
    // After each has said that it has the blob.
    two.stranger.fault(two.get_of_it().head().after(repositories).always(), Fault::HoldHead(hangs.clone()));
    thread::scope(|scope| {
        let (begins, hangs) = (Opens(begins), Opens(hangs));
        let served = scope.spawn(|| two.is_served(what, Instant::now()));
        assert!(begins.0.wait_for_arrivals(1, PATIENCE), "{what}");
        for n in 0..repositories {
            let path = two.theirs(n);
            let port = two.lanyard.port();
            scope.spawn(move || get(port, &path));
        }
        two.has_joined("stranger.lan", repositories);
        drop(begins);
        served.join().unwrap();
        drop(hangs);
        if let Fault::StallAt { gate, .. } | Fault::HoldHead(gate) = fault {
            gate.open();
        }
    });
}

/// Bytes without an end that no registry vouches for: a client that joined does not wait for it.
#[test]
fn s30_a_download_that_tells_nothing_is_waited_for_ten_seconds() {
    thread::scope(|scope| {
        scope.spawn(|| {
            is_left("an endless body", |_| Fault::All(vec![Fault::Endless, Fault::Slow { bytes_per_second: 100_000 }]))
        });
        scope.spawn(|| {
            is_left("a body that stands still", |gate| {
                Fault::All(vec![Fault::Chunked, Fault::StallAt { bytes: 5000, gate }])
            });
        });
    });
}

fn is_left(what: &str, fault: fn(Gate) -> Fault) {
    let two = Two::new();
    two.stranger.put_blob(two.bytes.clone());
    let gate = Gate::shut();
    two.stranger.fault(two.get_of_it().head().always(), Fault::status(405));
    two.stranger.fault(two.get_of_it().always(), fault(gate.clone()));
    thread::scope(|scope| {
        let gate = Opens(gate);
        scope.spawn(|| ask(two.lanyard.port(), "GET", &two.theirs(0), &[]));
        eventually("it is asked", || two.stranger.requests().iter().any(|r| r.is_blob_get(&two.digest)));
        two.is_served(what, Instant::now());
        drop(gate);
        two.stranger.clear_faults();
    });
}
