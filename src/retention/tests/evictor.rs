//! The evictor against real folders: what it lets go, in which order, and for whose sake.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::digest;
use crate::{
    config::MinFree,
    oci::{Digest, Namespace, Repository},
    retention::{Evictor, KeptSet, Source},
    runtime::BlockingPool,
    storage::{Change, Eviction, IfLinked, KeptFor, Limits, LinkRecord, LinkRight, Pin, PinReason, Storage},
};

/// A folder in front of the upstreams `up`, `down` and `unknown`, and an evictor. `down` answers if
/// it is told to, and whether `unknown` does cannot be found out.
struct House {
    runtime: Runtime,
    storage: Storage,
    kept: Arc<KeptSet>,
    down_answers: Arc<AtomicBool>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl House {
    fn open(limits: Limits, fill: &[(&str, u8)], size: usize) -> House {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let pool = || BlockingPool::new(runtime.handle().clone(), 4);
        let open = |limits| Storage::open(folder.path(), limits, pool()).unwrap();
        let storage = open(Limits { max_size: None, min_free: MinFree::Bytes(0) });
        for (at, (upstream, n)) in fill.iter().enumerate() {
            runtime.block_on(fetch(&storage, upstream, &content(*n, size)));
            // Each was used a minute after the one before.
            let used = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + 60 * at as u64);
            let hex = digest(&content(*n, size)).to_string();
            let (_, hex) = hex.split_once(':').unwrap();
            let file = std::fs::File::open(folder.path().join("blobs/sha256").join(&hex[..2]).join(hex)).unwrap();
            file.set_times(std::fs::FileTimes::new().set_accessed(used).set_modified(used)).unwrap();
        }
        storage.close();
        drop(storage);
        std::fs::remove_dir_all(folder.path().join("index")).unwrap();
        let storage = open(limits);
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while !storage.usage().complete {
            assert!(std::time::Instant::now() < until, "everything is counted");
            std::thread::yield_now();
        }
        let (down_answers, stop) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let answers = Arc::clone(&down_answers);
        let kept = KeptSet::new(&storage, vec![Source::Pins]);
        let evictor = Evictor::new(
            &storage,
            BlockingPool::new(runtime.handle().clone(), 1),
            0,
            Box::new(move |upstream| match upstream.as_str() {
                "up" => Some(true),
                "unknown" => None,
                _ => Some(answers.load(Ordering::SeqCst)),
            }),
            &kept,
        );
        runtime.spawn(evictor.run(stop.clone()));
        while !storage.evicts() {
            std::thread::yield_now();
        }
        House { runtime, storage, kept, down_answers, stop, _folder: folder }
    }

    /// Whether there is room for a download of so many bytes, after what it takes to make it.
    fn has_room_for(&self, bytes: u64) -> bool {
        let reserve = || self.storage.reserve_by_evicting(digest(b"new"), bytes);
        self.in_the_end(|| self.runtime.block_on(reserve()).unwrap().is_some())
    }

    /// Whether a push may begin, after what it takes to make room for it.
    fn takes_a_push(&self) -> bool {
        let pushed = Repository { namespace: Namespace::Hosted, name: "team/app".parse().unwrap() };
        self.in_the_end(|| self.runtime.block_on(self.storage.begin_upload(&pushed, None)).is_ok())
    }

    /// What the evictor lets a wait for room end with. A wait that was over before the evictor had
    /// decided says nothing, and is made again.
    fn in_the_end(&self, wait: impl Fn() -> bool) -> bool {
        let until = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let undecided = self.storage.room_waits().in_vain;
            if wait() {
                return true;
            }
            if self.storage.room_waits().in_vain == undecided {
                return false;
            }
            assert!(std::time::Instant::now() < until, "the evictor decides");
        }
    }

    fn pin(&self, upstream: &str, n: u8, size: usize) {
        let pin = Pin {
            repository: repository(upstream),
            reference: digest(&content(n, size)).into(),
            platforms: Vec::new(),
            why: PinReason::Pinned,
            note: String::new(),
            by: String::new(),
            at: 1,
        };
        self.runtime.block_on(self.storage.pin(pin)).unwrap();
    }

    fn here(&self, numbers: &[u8], size: usize) -> Vec<u8> {
        let is_here = |n: &u8| self.runtime.block_on(self.storage.size(&digest(&content(*n, size)))).unwrap().is_some();
        numbers.iter().copied().filter(is_here).collect()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
        self.storage.close();
    }
}

fn content(n: u8, size: usize) -> Vec<u8> {
    vec![n; size]
}

fn repository(upstream: &str) -> Repository {
    Repository { namespace: Namespace::Upstream(upstream.parse().unwrap()), name: "a/b".parse().unwrap() }
}

async fn fetch(storage: &Storage, upstream: &str, bytes: &[u8]) {
    let name: Digest = digest(bytes);
    let room = storage.reserve(name, bytes.len() as u64).await.unwrap().unwrap();
    let mut download = storage.download(room, None).await.unwrap();
    download.append(vec![Bytes::copy_from_slice(bytes)]).await.unwrap();
    assert!(download.verify().await.unwrap());
    download.commit().await.unwrap();
    let link = LinkRecord {
        digest: name,
        media_type: String::new(),
        size: bytes.len() as u64,
        subject: None,
        right: LinkRight::Fetched,
        created: 1,
    };
    assert!(storage.commit(Change::link(&repository(upstream), link, IfLinked::Replace)).await.unwrap());
}

const ALL: [(&str, u8); 4] = [("down", 1), ("up", 2), ("down", 3), ("up", 4)];

#[test]
fn the_least_recently_used_goes_first_and_no_more_than_has_to() {
    let limits = Limits { max_size: Some(4000), min_free: MinFree::Bytes(0) };
    let house = House::open(limits, &ALL, 1000);
    house.down_answers.store(true, Ordering::SeqCst);
    assert!(house.has_room_for(1500));
    assert_eq!(house.here(&[1, 2, 3, 4], 1000), [3, 4]);
    assert!(!house.has_room_for(4001), "it never fits");
    assert_eq!(house.here(&[1, 2, 3, 4], 1000), [3, 4], "and nothing goes for it");
}

/// K10: what could not be had again stays for the cap's sake, also if nothing else is left.
#[test]
fn k10_what_its_upstream_cannot_give_now_goes_after_all_else() {
    let limits = Limits { max_size: Some(4000), min_free: MinFree::Bytes(0) };
    let house = House::open(limits, &ALL, 1000);
    assert!(house.has_room_for(2000));
    assert_eq!(house.here(&[1, 2, 3, 4], 1000), [1, 3]);
    assert!(!house.has_room_for(3000), "it is told that nothing is left");
    assert_eq!(house.here(&[1, 2, 3, 4], 1000), [1, 3]);
}

/// Whether an upstream answers is waited for once, not for each of its blobs.
#[test]
fn k10_what_cannot_be_found_out_holds_up_the_eviction_once() {
    let mut all: Vec<_> = (0..30).map(|n| ("unknown", n)).collect();
    all.extend([("up", 30), ("up", 31)]);
    let limits = Limits { max_size: Some(32_000), min_free: MinFree::Bytes(0) };
    let house = House::open(limits, &all, 1000);
    let began = std::time::Instant::now();
    assert!(house.has_room_for(2000));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(house.here(&(0..32).collect::<Vec<_>>(), 1000), (0..30).collect::<Vec<_>>());
}

/// A download that has taken its room needs it no more, and no second eviction.
#[test]
fn no_more_goes_than_the_downloads_take() {
    let all: Vec<_> = (0..60).map(|n| ("up", n)).collect();
    let limits = Limits { max_size: Some(60_000), min_free: MinFree::Bytes(0) };
    let house = House::open(limits, &all, 1000);
    let begin = |n: u8| {
        house.runtime.block_on(async {
            let room = house.storage.reserve(digest(&[n]), 0).await.unwrap().unwrap();
            let mut download = house.storage.download(room, None).await.unwrap();
            assert!(download.reserve(1000, 1000).await.unwrap());
            download
        })
    };
    let downloads: Vec<_> = (0..50).map(begin).collect();
    // Whatever the evictor does, it does before this.
    let absent = house.runtime.block_on(house.storage.evict(&digest(b"none"), 0)).unwrap();
    assert_eq!(absent, Eviction::Kept(KeptFor::Absent));
    assert_eq!(house.here(&(0..60).collect::<Vec<_>>(), 1000).len(), 60 - downloads.len());
}

/// K13: a disk that stays full whatever goes. Here it is one that can never have that much free.
#[test]
fn k13_a_disk_that_others_fill_costs_half_of_the_cache_at_most() {
    let all: Vec<_> = (0..20).map(|n| (if n % 2 == 0 { "up" } else { "down" }, n)).collect();
    let limits = Limits { max_size: None, min_free: MinFree::Percent(100.0) };
    let house = House::open(limits, &all, 10_000);
    assert!(!house.takes_a_push(), "it makes no room");
    let numbers: Vec<u8> = (0..20).collect();
    let here = house.here(&numbers, 10_000);
    assert_eq!(here.iter().filter(|n| *n % 2 == 1).count(), 10, "what could not be had again goes last: {here:?}");
    assert!((10..12).contains(&here.len()), "half of the rest is gone: {here:?}");
    assert!(!house.takes_a_push());
    assert_eq!(house.here(&numbers, 10_000), here, "and no more goes at the second try");
}

/// What could not fit beside what is pinned takes nothing with it.
#[test]
fn nothing_goes_for_what_could_never_fit() {
    let limits = Limits { max_size: Some(4000), min_free: MinFree::Bytes(0) };
    let house = House::open(limits, &[("up", 1), ("up", 2), ("up", 3), ("up", 4)], 1000);
    house.pin("up", 1, 1000);
    house.pin("up", 2, 1000);
    drop(house.runtime.block_on(house.kept.view()).unwrap());
    assert!(!house.has_room_for(2001));
    assert_eq!(house.here(&[1, 2, 3, 4], 1000), [1, 2, 3, 4]);
    assert!(house.has_room_for(2000));
    assert_eq!(house.here(&[1, 2, 3, 4], 1000), [1, 2]);
}

/// K6: what is pinned stays, also where nothing else is left to make room.
#[test]
fn k6_what_is_pinned_is_not_evicted() {
    let limits = Limits { max_size: Some(4000), min_free: MinFree::Bytes(0) };
    let house = House::open(limits, &[("up", 1), ("up", 2), ("up", 3), ("up", 4)], 1000);
    house.pin("up", 1, 1000);
    house.pin("up", 3, 1000);
    assert!(house.has_room_for(1000));
    assert_eq!(house.here(&[1, 2, 3, 4], 1000), [1, 3, 4], "the first that is not pinned");
    house.pin("up", 4, 1000);
    assert!(!house.has_room_for(2000));
    assert_eq!(house.here(&[1, 2, 3, 4], 1000), [1, 3, 4], "the download is passed through instead");
}
