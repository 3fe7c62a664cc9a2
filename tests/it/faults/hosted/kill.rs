//! SIGKILL at the Nth call of the commit protocol, and at random moments under load.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use super::{
    HOSTED,
    client::{Client, STEPS},
    without_a_grace,
};
use crate::{
    faults::{
        figure, rounds,
        shelf::check_blobs,
        strace::{Ambush, available, died},
    },
    lanyard::Lanyard,
};

/// The calls that change the disk.
const CALLS: &[&str] = &[
    "write",
    "pwrite64",
    "fdatasync",
    "fsync",
    "rename",
    "unlink",
    "openat",
    "mkdir",
    "rmdir",
    "unlinkat",
    "fallocate",
];

/// A ledger is closed after so many scenes and another begun, so that reading it stays quick.
const PAGE: usize = 12;

/// After so many points in a row that were not reached, a kind of call is over. One is not enough:
/// each time other threads make the calls.
const SURVIVALS: usize = 3;

/// FAULTS.md, "kill -9 at every write step": from each step of the scene on (push, upload in
/// chunks, mount, tag, delete, collection), at the first, second, third of these calls of a thread.
#[test]
fn kill_at_the_nth_call_of_a_push_a_mount_a_tag_a_deletion_a_collection() {
    if !available() {
        return;
    }
    let wanted = rounds(14, 1_000);
    let mut deaths = Deaths::default();
    let mut points = (1..).flat_map(|nth| {
        (0..CALLS.len()).flat_map(move |call| (0..STEPS).map(move |step| Point { call: CALLS[call], step, nth }))
    });
    // The short form takes one point in so many. These are of all kinds, as the numbers share no
    // factor.
    let stride = rounds(29, 1);
    let mut seed = 0;
    while deaths.count < wanted {
        seed += PAGE;
        deaths.page(points.by_ref().step_by(stride).take(PAGE), seed);
    }
    figure(&format!("{deaths:?}"));
}

/// The point at which the server is to die.
#[derive(Debug)]
struct Point {
    call: &'static str,
    step: usize,
    nth: usize,
}

/// The points at which the server died.
#[derive(Default, Debug)]
struct Deaths {
    count: usize,
    by_call: BTreeMap<&'static str, usize>,
    by_step: BTreeMap<&'static str, usize>,
    acknowledged: usize,
    read: usize,
    slowest_start: Duration,
}

impl Deaths {
    /// Kills at some points, all with one ledger.
    fn page(&mut self, points: impl Iterator<Item = Point>, seed: usize) {
        let mut lanyard = without_a_grace();
        lanyard.restart();
        let socket = lanyard.data_dir().join("lanyard.sock");
        let mut client = Client::new(lanyard.port(), "team", Some(socket));
        // Content from before, which a kill could lose.
        client.scene(0).unwrap();
        for (at, point) in points.enumerate() {
            let Point { call, step, nth } = point;
            let seed = seed + at;
            (0..step).try_for_each(|number| client.step(seed, number)).unwrap();
            let ambush = Ambush::lay(&lanyard, call, &format!("signal=KILL:when={nth}"));
            let lost = (step..STEPS).try_for_each(|number| client.step(seed, number)).is_err();
            let dead = lost && died_of_it(&mut lanyard);
            drop(ambush);
            assert_eq!(lost, dead, "{point:?}: an answer failed, and not by its death");
            if dead {
                self.count += 1;
                *self.by_call.entry(call).or_default() += 1;
                *self.by_step.entry(client.doing).or_default() += 1;
            } else {
                lanyard.kill9();
            }
            let when = format!("{point:?}, while it was at: {}", client.doing);
            self.comes_back(&mut lanyard, &when);
            self.read += client.audit(&when);
        }
        self.acknowledged += client.acknowledged;
        everything_is_whole(&mut lanyard, &mut client, &format!("seed {seed}"));
    }

    fn comes_back(&mut self, lanyard: &mut Lanyard, when: &str) {
        let began = Instant::now();
        if let Err(ended) = lanyard.try_restart() {
            panic!("{when}: does not start: {ended}");
        }
        self.slowest_start = self.slowest_start.max(began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(5), "{when}: started after {:?}", began.elapsed());
    }
}

/// Whether it is dead, as its last client has just noticed.
fn died_of_it(lanyard: &mut Lanyard) -> bool {
    (0..40).any(|_| died(lanyard))
}

/// After all deaths: the files on disk have the digests that they are named after, and all content
/// that the client was told of is there.
fn everything_is_whole(lanyard: &mut Lanyard, client: &mut Client, when: &str) {
    check_blobs(&lanyard.data_dir());
    let here = crate::faults::shelf::digests(&lanyard.data_dir());
    let missing: Vec<_> = client.ledger.digests().into_iter().filter(|digest| !here.contains(digest)).collect();
    assert!(missing.is_empty(), "{when}: {missing:?}");
    assert!(!lanyard.logs().contains("panicked at"), "{when}: a panic");
}

/// "rebuild": the index is gone, or the start is killed again and again in the middle of filling
/// it.
#[test]
fn kill_at_the_nth_call_of_a_rebuild() {
    if !available() {
        return;
    }
    let mut lanyard = without_a_grace();
    lanyard.restart();
    let mut client = Client::new(lanyard.port(), "team", None);
    for seed in 0..rounds(2, 12) {
        client.scene(seed).unwrap();
    }
    let mut deaths = BTreeMap::new();
    for call in CALLS {
        let mut survived = 0;
        for nth in (1..).step_by(rounds(7, 1)) {
            lanyard.kill9();
            if nth % 2 == 1 {
                std::fs::remove_dir_all(lanyard.data_dir().join("index")).unwrap();
            }
            let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={nth}"));
            lanyard.through(&["strace", "-D", "-f", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
            let dead = lanyard.try_restart().is_err() || died(&mut lanyard);
            if !dead {
                lanyard.kill9();
            }
            lanyard.through(&[]);
            let began = Instant::now();
            lanyard.restart();
            assert!(began.elapsed() < Duration::from_secs(5), "{call} {nth}: started after {:?}", began.elapsed());
            client.audit(&format!("a rebuild killed at {call} {nth}"));
            if dead {
                *deaths.entry(*call).or_insert(0) += 1;
                survived = 0;
            } else {
                survived += 1;
            }
            if survived == rounds(1, SURVIVALS) || nth > 400 {
                break;
            }
        }
    }
    everything_is_whole(&mut lanyard, &mut client, "rebuilds");
    let count: usize = deaths.values().sum();
    assert!(count >= 5, "hardly a call was met: {deaths:?}");
    figure(&format!("{count} deaths of a rebuild: {deaths:?}"));
}

/// Eight clients at once, and the process is killed at random moments.
#[test]
fn kill_9_under_pushes_loses_nothing() {
    let mut lanyard = Lanyard::start(HOSTED);
    let (mut acknowledged, mut read, mut slowest) = (0, 0, Duration::ZERO);
    let count = rounds(8, 200);
    for page in 0..count.div_ceil(PAGE) {
        let mut clients: Vec<_> = (0..8).map(|n| Client::new(lanyard.port(), &format!("p{page}c{n}"), None)).collect();
        for round in page * PAGE..count.min((page + 1) * PAGE) {
            thread::scope(|scope| {
                for client in &mut clients {
                    scope.spawn(move || (0..).take_while(|n| client.scene(round * 100 + n).is_ok()).count());
                }
                // The random moment of the kill is the point of this test.
                thread::sleep(Duration::from_millis(7 + (round as u64 * 61) % 400));
                lanyard.kill9();
            });
            let began = Instant::now();
            lanyard.restart();
            slowest = slowest.max(began.elapsed());
            assert!(began.elapsed() < Duration::from_secs(5), "started after {:?}", began.elapsed());
            read += clients.iter_mut().map(|client| client.audit(&format!("kill {round}"))).sum::<usize>();
        }
        acknowledged += clients.iter().map(|client| client.acknowledged).sum::<usize>();
    }
    check_blobs(&lanyard.data_dir());
    assert!(acknowledged > 50, "hardly anything was pushed: {acknowledged}");
    assert!(!lanyard.logs().contains("panicked at"), "a panic");
    figure(&format!("{count} kills, {acknowledged} acknowledged, {read} contents read, slowest start {slowest:?}"));
}
