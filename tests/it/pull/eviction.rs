//! A cache that is full goes on caching: what was not used for longest makes room.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use super::{config, mirror, mirror_with};
use crate::{
    admin::{ask, command},
    cli::{stderr, stdout},
    faults::shelf::blob_file,
    hub::{Hub, digest_of},
    lanyard::Lanyard,
    push::Pusher,
    wire::{blob, eventually, get, manifest},
};

const REPO: &str = "library/busybox";
const KIB: usize = 1 << 10;
const MAX: u64 = 1 << 20;

/// A lanyard in front of `hub` whose cache holds a mebibyte.
fn small(hub: &Hub) -> Lanyard {
    mirror_with(hub, "[cache]\nmax_size = \"1 MiB\"\nmin_free = \"0%\"")
}

/// The bytes of cached content and of downloads on disk.
fn cached(lanyard: &Lanyard) -> u64 {
    fn below(folder: &Path) -> u64 {
        let Ok(entries) = fs::read_dir(folder) else { return 0 };
        let size = |entry: fs::DirEntry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => below(&entry.path()),
            Ok(_) if entry.file_name() == "state" => 0,
            Ok(metadata) => metadata.len(),
            // It has just gone.
            Err(_) => 0,
        };
        entries.flatten().map(size).sum()
    }
    below(&lanyard.data_dir().join("blobs"))
        + below(&lanyard.data_dir().join("fills"))
        + below(&lanyard.data_dir().join("tmp"))
}

fn contents(hub: &Hub, count: u32, length: usize) -> Vec<String> {
    (0..count).map(|n| hub.put_blob(n.to_le_bytes().repeat(length / 4))).collect()
}

#[test]
fn a_full_cache_goes_on_caching() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let digests = contents(&hub, 20, 300 * KIB);
    let lanyard = small(&hub);
    for digest in &digests {
        let answer = get(lanyard.port(), &blob(REPO, digest));
        assert_eq!((answer.status, answer.outcome(), &digest_of(&answer.body)), (200, "filled", digest));
        assert!(cached(&lanyard) <= MAX, "{} bytes", cached(&lanyard));
    }
    assert!(digests.iter().all(|digest| hub.blob_gets(digest) == 1));
    // The first one is long gone, and comes again; the last one is here.
    let again = get(lanyard.port(), &blob(REPO, &digests[0]));
    assert_eq!((again.outcome(), &digest_of(&again.body)), ("filled", &digests[0]));
    eventually("it is kept", || get(lanyard.port(), &blob(REPO, &digests[0])).outcome() == "hit");
    assert!(cached(&lanyard) > MAX / 2, "no more goes than has to");
}

/// K1, K2, K9: many at once, and a push beside them. No client sees an error, and what was pushed
/// stays.
#[test]
fn many_at_once_never_exceed_the_cap_and_take_nothing_that_was_pushed() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let digests = contents(&hub, 100, 100 * KIB);
    let lanyard = small(&hub);
    let pusher = Pusher(lanyard.port());
    let pushed: Vec<_> = (0..4_u8).map(|n| pusher.blob("team/app", &vec![n; 400 * KIB])).collect();
    let hosted = pushed.len() as u64 * 400 * KIB as u64;
    let (over, most) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(cached(&lanyard), Ordering::Relaxed);
            }
        });
        let clients: Vec<_> = (0..10)
            .map(|client| {
                let (digests, lanyard) = (&digests, &lanyard);
                scope.spawn(move || {
                    for n in 0..40 {
                        let digest = &digests[(client * 37 + n * 13) % digests.len()];
                        let answer = get(lanyard.port(), &blob(REPO, digest));
                        assert_eq!((answer.status, &digest_of(&answer.body)), (200, digest));
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        over.store(true, Ordering::Relaxed);
    });
    // A look may see what is evicted and what comes in its place.
    let most = most.into_inner();
    assert!(most <= hosted + MAX + MAX / 4, "{most} bytes, {hosted} of them hosted");
    assert!(cached(&lanyard) <= hosted + MAX);
    for digest in &pushed {
        assert_eq!(&digest_of(&get(lanyard.port(), &blob("team/app", digest)).body), digest);
    }
}

/// What is where, and when it was used.
fn seen(lanyard: &Lanyard) -> Vec<(String, u64, i64)> {
    let shards = fs::read_dir(lanyard.data_dir().join("blobs/sha256")).unwrap();
    let blobs = shards.flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap());
    let look = |entry: fs::DirEntry| {
        let metadata = entry.metadata().unwrap();
        (entry.file_name().into_string().unwrap(), metadata.len(), metadata.atime())
    };
    let mut seen: Vec<_> = blobs.map(|blob| look(blob.unwrap())).collect();
    seen.sort_unstable();
    seen
}

/// K14: a dry run says exactly what the trim after it does, and changes nothing.
#[test]
fn k14_a_trim_does_what_its_dry_run_said() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let digests = contents(&hub, 5, 300 * KIB);
    let lanyard = mirror(&hub);
    let pusher = Pusher(lanyard.port());
    let pushed = pusher.blob("team/app", &vec![9; 400 * KIB]);
    for digest in &digests {
        get(lanyard.port(), &blob(REPO, digest));
        eventually("it is kept", || get(lanyard.port(), &blob(REPO, digest)).outcome() == "hit");
    }
    let before = seen(&lanyard);
    let planned = command(&lanyard, &["cache", "trim", "500 KiB", "--dry-run"]);
    assert_eq!(stdout(&planned), "Would let 2 blobs go, 600.0 KiB.\n", "{}", stderr(&planned));
    assert_eq!(seen(&lanyard), before);
    assert_eq!(stdout(&command(&lanyard, &["cache", "trim", "500 KiB"])), "Let 2 blobs go, 600.0 KiB.\n");
    assert_eq!(seen(&lanyard).len(), before.len() - 2);
    let status = ask(&lanyard, "GET", "/api/v1/status").json();
    assert_eq!(status["cache"]["eviction"]["evicted"]["trim"], 600 * KIB);
    // All that may go; what was pushed is not asked.
    let all = command(&lanyard, &["cache", "trim", "--to", "0", "--json"]);
    let all: serde_json::Value = serde_json::from_str(&stdout(&all)).unwrap();
    assert_eq!((&all["blobs"], &all["bytes"]), (&3.into(), &(900 * KIB).into()));
    assert_eq!(&digest_of(&get(lanyard.port(), &blob("team/app", &pushed)).body), &pushed);
    let refetched = get(lanyard.port(), &blob(REPO, &digests[0]));
    assert_eq!((refetched.outcome(), &digest_of(&refetched.body)), ("filled", &digests[0]));
    let came_back = || ask(&lanyard, "GET", "/api/v1/status").json()["cache"]["refetched"].clone();
    eventually("it came back", || came_back() == 300 * KIB);
    assert_eq!(command(&lanyard, &["cache", "trim", "5 G"]).status.code(), Some(64));
    assert_eq!(command(&lanyard, &["cache", "trim"]).status.code(), Some(64));
    assert_eq!(ask(&lanyard, "POST", "/api/v1/trim?dry_run=true").status, 400);
}

#[test]
fn k8_an_offline_lanyard_lets_nothing_go() {
    let lanyard = Lanyard::start("mode = \"offline\"\n[cache]\nmax_size = \"1 MiB\"");
    let trimmed = command(&lanyard, &["cache", "trim", "--to", "0"]);
    assert_eq!(trimmed.status.code(), Some(75), "{}", stderr(&trimmed));
    assert!(stderr(&trimmed).contains("offline"));
}

/// How many of three blobs of an upstream that is away are left, in a cache of a mebibyte, after a
/// restart, a trim of everything, and six blobs of another upstream.
fn left_of_away(is_configured: bool) -> usize {
    let (near, away) = (Hub::start(), Hub::start());
    for hub in [&near, &away] {
        hub.image(REPO, "latest").publish();
    }
    let small = config(&near, "[cache]\nmax_size = \"1 MiB\"\nmin_free = \"0%\"");
    let both = format!("{small}\n[[upstream]]\nname = \"away.example\"\nurl = \"{}\"\n", away.url());
    let mut lanyard = Lanyard::start(&both);
    let theirs = contents(&away, 3, 300 * KIB);
    for digest in &theirs {
        assert_eq!(get(lanyard.port(), &blob(&format!("away.example/{REPO}"), digest)).status, 200);
        eventually("it is kept", || blob_file(&lanyard.data_dir(), digest).exists());
    }
    lanyard.stop();
    away.go_down();
    lanyard.reconfigure(if is_configured { &both } else { &small });
    lanyard.restart();
    assert!(command(&lanyard, &["cache", "trim", "--to", "0"]).status.success());
    let mine: Vec<_> = (10..16_u32).map(|n| near.put_blob(n.to_le_bytes().repeat(25 * KIB))).collect();
    for digest in &mine {
        assert_eq!(get(lanyard.port(), &blob(REPO, digest)).status, 200);
    }
    eventually("what came last is kept", || get(lanyard.port(), &blob(REPO, &mine[5])).outcome() == "hit");
    theirs.iter().filter(|digest| blob_file(&lanyard.data_dir(), digest).exists()).count()
}

/// K10: nobody has asked the upstream since the start, so nobody knows yet that it is away.
#[test]
fn k10_what_cannot_be_had_again_stays_after_a_restart_too() {
    assert_eq!(left_of_away(true), 3);
}

#[test]
fn content_of_an_upstream_that_is_configured_no_more_makes_room() {
    assert_eq!(left_of_away(false), 0);
}

/// What `pins` and `ls` show of it can be named: else its pins would hold their room for good.
#[test]
fn images_of_an_upstream_that_is_configured_no_more_can_be_unpinned_and_removed() {
    let (near, away) = (Hub::start(), Hub::start());
    let image = away.image(REPO, "1").layer(1000).publish();
    near.image(REPO, "latest").publish();
    let both = format!("{}\n[[upstream]]\nname = \"away.example\"\nurl = \"{}\"\n", config(&near, ""), away.url());
    let mut lanyard = Lanyard::start(&both);
    let repo = format!("away.example/{REPO}");
    assert_eq!(get(lanyard.port(), &manifest(&repo, "1")).status, 200);
    image.blobs().iter().for_each(|digest| assert_eq!(get(lanyard.port(), &blob(&repo, digest)).status, 200));
    let name = format!("{repo}:1");
    assert!(command(&lanyard, &["pin", &name]).status.success());
    lanyard.stop();
    lanyard.reconfigure(&config(&near, ""));
    lanyard.restart();
    for words in [&["ls", &name][..], &["rm", &name, "--force", "--dry-run"], &["unpin", &name], &["rm", &name]] {
        let output = command(&lanyard, words);
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
    }
    eventually("it is gone", || image.blobs().iter().all(|digest| !blob_file(&lanyard.data_dir(), digest).exists()));
    for words in [&["pull", &name][..], &["pin", &name], &["pull", "never.example/a/b:1"]] {
        assert_eq!(command(&lanyard, words).status.code(), Some(1), "{words:?}");
    }
}
