//! Content that is read, larger than the cache, of unknown length; a cache in which nothing may go.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{KIB, MIB, REPO, WAIT, cap, contents, evicted, fetch, here, hub, keep};
use crate::{
    faults::{
        figure, rounds,
        shelf::{check_blobs, list},
    },
    hub::{Fault, Gate, On, digest_of},
    lanyard::Lanyard,
    pull::config,
    push::Pusher,
    wire::{Connection, blob, eventually, manifest},
};

/// K3: readers that have stopped in the middle of their answers keep what they read, and get all of
/// it; other content goes in its place.
#[test]
fn k3_who_reads_while_others_are_evicted_gets_every_byte() {
    let hub = hub();
    let lanyard = Lanyard::start(&config(&hub, &cap("64 MiB")));
    let mut new = 0;
    for _ in 0..rounds(1, 72) {
        let names = contents(&hub, new..new + 10, 12 * MIB);
        new += 10;
        names[..3].iter().for_each(|name| keep(&lanyard, name));
        let mut readers: Vec<_> = (0..rounds(16, 64))
            .map(|n| {
                let mut client = Connection::open(lanyard.port());
                client.request("GET", &blob(REPO, &names[n % 3]), &[]);
                assert_eq!(client.head().unwrap().0, 200);
                (n % 3, client.read_body(10_000), client)
            })
            .collect();
        for name in &names[3..] {
            fetch(&lanyard, name).unwrap();
        }
        assert_eq!(here(&lanyard, &names)[..3], [0, 1, 2], "what is read stays");
        thread::scope(|scope| {
            for (n, body, client) in &mut readers {
                let names = &names;
                scope.spawn(move || {
                    body.extend(client.read_body(12 * MIB - body.len()));
                    assert_eq!(digest_of(body), names[*n]);
                });
            }
        });
        names.iter().for_each(|name| hub.drop_blob(name));
    }
    check_blobs(&lanyard.data_dir());
}

/// What can never fit costs nothing, and its client waits for nothing.
#[test]
fn content_that_is_larger_than_the_cache_evicts_nothing() {
    let hub = hub();
    let lanyard = Lanyard::start(&config(&hub, &cap("2 MiB")));
    let names = contents(&hub, 0..4, 400 * KIB);
    let large = contents(&hub, 100..100 + rounds(6, 100), 3 * MIB);
    let mut slowest = Duration::ZERO;
    for (n, name) in large.iter().enumerate() {
        if n % 3 == 2 {
            hub.fault(On::blob(name).always(), Fault::Chunked);
        }
        names.iter().for_each(|name| keep(&lanyard, name));
        let began = Instant::now();
        assert!(fetch(&lanyard, name).is_ok(), "{n}");
        slowest = slowest.max(began.elapsed());
        let left = here(&lanyard, &names);
        // What has no length may take half of the cache before it is too large.
        let least = if n % 3 == 2 { 2 } else { 4 };
        assert!(left.len() >= least, "{n}: {left:?}");
    }
    assert!(slowest < WAIT, "{slowest:?}");
    assert_eq!(here(&lanyard, &large), Vec::<usize>::new());
    figure(&format!("slowest {slowest:?}"));
}

/// A registry states a length, and its bytes hardly come: that takes one step of room, and the
/// others' content is kept as before.
#[test]
fn a_length_whose_bytes_do_not_come_empties_no_cache() {
    let hub = hub();
    let names = contents(&hub, 0..15, MIB);
    let slow = contents(&hub, 100..100 + rounds(2, 30), 14 * MIB);
    for (round, name) in slow.iter().enumerate() {
        let mut lanyard = Lanyard::start(&config(&hub, &cap("16 MiB")));
        names.iter().for_each(|name| keep(&lanyard, name));
        let gate = Gate::shut();
        hub.fault(On::blob(name), Fault::StallAt { bytes: 64 * KIB as u64, gate: gate.clone() });
        let mut client = Connection::open(lanyard.port());
        client.request("GET", &blob(REPO, name), &[]);
        assert!(gate.wait_for_arrivals(1, WAIT));
        let left = here(&lanyard, &names).len();
        for name in &contents(&hub, 200 + round * 10..205 + round * 10, MIB) {
            assert_eq!(fetch(&lanyard, name).as_deref(), Ok("filled"), "{round}");
        }
        gate.open();
        assert!(left >= 12, "{round}: {left} of 15 are left");
        drop(client);
        lanyard.stop();
        check_blobs(&lanyard.data_dir());
    }
}

/// Readers that have stopped hold all that is cached. New content is passed through, and only the
/// first of its clients waits for them.
#[test]
fn clients_wait_once_for_readers_that_hold_the_whole_cache() {
    let hub = hub();
    let lanyard = Lanyard::start(&config(&hub, &cap("64 MiB")));
    let names = contents(&hub, 0..5, 12 * MIB + 500 * KIB);
    names.iter().for_each(|name| keep(&lanyard, name));
    let readers: Vec<_> = names
        .iter()
        .map(|name| {
            let mut client = Connection::open(lanyard.port());
            client.request("GET", &blob(REPO, name), &[]);
            assert_eq!(client.head().unwrap().0, 200);
            client
        })
        .collect();
    let more = contents(&hub, 100..100 + rounds(6, 60), 8 * MIB);
    let mut late = 0;
    for name in &more {
        let began = Instant::now();
        assert_eq!(fetch(&lanyard, name).as_deref(), Ok("bypassed"));
        late += usize::from(began.elapsed() >= Duration::from_secs(2));
    }
    assert!(late <= 1 + more.len() / 6, "{late} of {} clients waited", more.len());
    drop(readers);
    eventually("content is kept again", || fetch(&lanyard, &more[0]).as_deref() == Ok("hit"));
}

/// K1, K9: content of unknown length in a full cache. It is kept where it fits.
#[test]
fn k1_content_of_unknown_length_stays_within_the_cache() {
    let hub = hub();
    let lanyard = Lanyard::start(&config(&hub, &cap("2 MiB")));
    let names = contents(&hub, 0..rounds(12, 100), 500 * KIB);
    names.iter().for_each(|name| hub.fault(On::blob(name).always(), Fault::Chunked));
    let mut kept = 0;
    for name in &names {
        fetch(&lanyard, name).unwrap();
        eventually("it is stored or given up", || list(&lanyard.data_dir().join("fills")).is_empty());
        assert!(super::counted(&lanyard) <= 2 * MIB as u64);
        kept += here(&lanyard, std::slice::from_ref(name)).len();
    }
    assert!(kept > names.len() / 2, "{kept} of {} are kept", names.len());
    check_blobs(&lanyard.data_dir());
}

/// K7, K9: clients were told that all content is here, so that none of it may go for an hour. New
/// content is passed through, and its clients do not wait each time until it is clear that there is
/// no room.
#[test]
fn a_cache_full_of_promised_content_passes_the_rest_through() {
    let hub = hub();
    let lanyard = Lanyard::start(&config(&hub, &cap("2 MiB")));
    let pusher = Pusher(lanyard.port());
    // Layers whose push was broken off, or whose image was deleted: nothing links them any more.
    let names: Vec<_> = (0..4).map(|n| pusher.blob("team/app", &vec![n; 450 * KIB])).collect();
    for name in &names {
        assert_eq!(pusher.delete(&blob("team/app", name)), 202);
    }
    let more = contents(&hub, 100..100 + rounds(8, 100), 450 * KIB);
    let began = Instant::now();
    let slowest = thread::scope(|scope| {
        let clients = more.iter().map(|name| {
            let lanyard = &lanyard;
            scope.spawn(move || {
                let began = Instant::now();
                fetch(lanyard, name).unwrap();
                began.elapsed()
            })
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().unwrap()).max()
    });
    assert!(slowest.is_some_and(|slowest| slowest < WAIT), "{slowest:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "nobody waits in vain: {:?}", began.elapsed());
    assert_eq!(here(&lanyard, &names), [0, 1, 2, 3]);
    figure(&format!("{} clients in {:?}, the slowest in {slowest:?}", more.len(), began.elapsed()));
}

/// K8: an offline lanyard serves what it has, also beyond a cap that was made smaller.
#[test]
fn k8_offline_nothing_is_evicted() {
    let hub = hub();
    let mut lanyard = Lanyard::start(&config(&hub, &cap("4 MiB")));
    let names = contents(&hub, 0..7, 500 * KIB);
    names.iter().for_each(|name| keep(&lanyard, name));
    let unknown = contents(&hub, 90..91, 500 * KIB).remove(0);
    lanyard.reconfigure(&config(&hub, &format!("mode = \"offline\"\n{}", cap("1 MiB"))));
    lanyard.restart();
    let count = rounds(2, 500);
    for round in 0..count {
        for name in &names {
            assert_eq!(fetch(&lanyard, name).as_deref(), Ok("hit"));
        }
        // Pushed and deleted content, and downloads that are refused, change nothing.
        let pusher = Pusher(lanyard.port());
        let digest = pusher.image("team/app", "v1", &(round as u32).to_le_bytes().repeat(50 * KIB));
        assert_eq!(pusher.delete(&manifest("team/app", &digest)), 202);
        assert!(fetch(&lanyard, &unknown).is_err());
        assert_eq!(here(&lanyard, &names).len(), 7, "round {round}");
    }
    assert_eq!(evicted(&lanyard), 0);
    figure(&format!("{count} rounds: nothing left"));
    // Online again, it becomes as small as it has to be.
    lanyard.reconfigure(&config(&hub, &cap("1 MiB")));
    lanyard.restart();
    fetch(&lanyard, &contents(&hub, 50..51, 300 * KIB)[0]).unwrap();
    eventually("the rest is evicted", || here(&lanyard, &names).len() <= 2);
}
