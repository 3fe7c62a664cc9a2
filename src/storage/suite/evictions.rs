//! What is evicted and what stays, and how downloads wait for it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{super::*, *};

fn evict(house: &House, bytes: &[u8]) -> Eviction {
    house.run(house.storage().evict(&digest(bytes), u64::MAX)).unwrap()
}

/// Stores content as a download does, and links it in a mirrored repository.
fn fetch(house: &House, repository: &Repository, bytes: &[u8], media_type: &str) {
    let storage = house.storage();
    house.run(async {
        let room = storage.reserve(digest(bytes), bytes.len() as u64).await.unwrap().unwrap();
        let mut download = storage.download(room, None).await.unwrap();
        download.append(vec![Bytes::copy_from_slice(bytes)]).await.unwrap();
        assert!(download.verify().await.unwrap());
        download.commit().await.unwrap();
    });
    let link = LinkRecord { media_type: media_type.to_owned(), ..link_record(bytes) };
    assert!(house.commit(Change::link(repository, link, IfLinked::Replace)).unwrap());
}

#[test]
fn cached_content_goes_and_its_links_stay() {
    each(|house| {
        let (storage, mirror) = (house.storage(), repository("a"));
        // A start, and a download that was just kept, protect nothing from the eviction.
        storage.set_grace(Duration::from_secs(3600));
        eventually(|| storage.usage().complete);
        fetch(house, &mirror, b"layer", "");
        let version = storage.version(&mirror);
        assert_eq!(evict(house, b"layer"), Eviction::Evicted(5));
        assert_eq!(evict(house, b"layer"), Eviction::Kept(KeptFor::Absent));
        assert_eq!(storage.usage(), Usage { complete: true, ..Usage::default() });
        assert!(house.link(&mirror, b"layer").is_some());
        assert_eq!(storage.version(&mirror), version, "what is kept in memory stays good");
        assert_eq!(std::fs::read_dir(house.disk.layout.tmp()).unwrap().count(), 0);
        fetch(house, &mirror, b"layer", "");
        assert_eq!(storage.usage().bytes, 5, "it comes again");
    });
}

#[test]
fn what_cannot_be_had_again_or_was_promised_stays() {
    each(|house| {
        let (storage, mirror) = (house.storage(), repository("a"));
        eventually(|| storage.usage().complete);
        let kept = |bytes: &[u8]| match evict(house, bytes) {
            Eviction::Kept(why) => why,
            Eviction::Evicted(_) => panic!("{bytes:?} is gone"),
        };
        house.push(&hosted("team"), b"pushed", "");
        fetch(house, &mirror, b"pushed", "");
        assert_eq!(kept(b"pushed"), KeptFor::Hosted);
        fetch(house, &mirror, b"manifest", OCI_IMAGE);
        fetch(house, &repository("b"), b"manifest", "");
        assert_eq!(kept(b"manifest"), KeptFor::Manifest, "of one repository");
        house.blobs.put(&digest(b"nobody's"), b"nobody's").unwrap();
        assert_eq!(kept(b"nobody's"), KeptFor::Unlinked);
        fetch(house, &mirror, b"layer", "");
        let reader = house.run(storage.locate(&mirror, &digest(b"layer"))).unwrap();
        assert_eq!(kept(b"layer"), KeptFor::Reader);
        drop(reader);
        let hold = house.run(storage.hold(vec![digest(b"layer")])).unwrap();
        assert_eq!(kept(b"layer"), KeptFor::Held);
        storage.set_grace(Duration::from_secs(3600));
        drop(hold);
        let promised = |kept| matches!(kept, KeptFor::Promise(left) if left <= Duration::from_secs(3600));
        assert!(promised(kept(b"layer")), "for the grace after it");
        storage.set_grace(Duration::ZERO);
        house.faults.arm(1, When::Before);
        house.run(storage.evict(&digest(b"layer"), 0)).unwrap_err();
        assert!(house.faults.disarm() && house.blobs.size(&digest(b"layer")).unwrap().is_some());
        assert_eq!(evict(house, b"layer"), Eviction::Evicted(5));
    });
}

/// Clients read a download while it runs, and a slow one for long after its end.
#[test]
fn a_reader_of_the_download_keeps_its_content() {
    each(|house| {
        let (storage, mirror) = (house.storage(), repository("a"));
        eventually(|| storage.usage().complete);
        let reader = house.run(async {
            let room = storage.reserve(digest(b"layer"), 5).await.unwrap().unwrap();
            let mut download = storage.download(room, None).await.unwrap();
            download.append(vec![Bytes::from_static(b"layer")]).await.unwrap();
            let reader = download.reader().unwrap();
            assert!(download.verify().await.unwrap());
            download.commit().await.unwrap();
            reader
        });
        assert!(house.commit(Change::link(&mirror, link_record(b"layer"), IfLinked::Replace)).unwrap());
        assert_eq!(evict(house, b"layer"), Eviction::Kept(KeptFor::Reader));
        drop(reader);
        assert_eq!(evict(house, b"layer"), Eviction::Evicted(5));
    });
}

/// K2: a push that links content comes before its eviction, or finds it gone.
#[test]
fn a_push_or_the_eviction_wins_and_never_half() {
    let house = House::open(Kind::Files, LIMITS);
    let (storage, mirror, team) = (house.storage(), repository("a"), hosted("team"));
    storage.set_grace(Duration::ZERO);
    eventually(|| storage.usage().complete);
    let (pushed_it, evicted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for n in 0..300_u32 {
        let bytes = n.to_le_bytes();
        fetch(&house, &mirror, &bytes, "");
        let wins = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| match house.commit(Change::link(&team, pushed(&bytes, ""), IfLinked::Replace)) {
                Ok(_) => {
                    wins.store(true, Ordering::SeqCst);
                    pushed_it.fetch_add(1, Ordering::SeqCst);
                }
                Err(CommitError::Storage(StorageError::Gone(_))) => {}
                Err(error) => panic!("{error:?}"),
            });
            scope.spawn(|| {
                if matches!(evict(&house, &bytes), Eviction::Evicted(_)) {
                    evicted.fetch_add(1, Ordering::SeqCst);
                }
            });
        });
        let here = house.blobs.size(&digest(&bytes)).unwrap().is_some();
        assert_eq!(here, wins.into_inner(), "round {n}");
    }
    assert_eq!(pushed_it.into_inner() + evicted.into_inner(), 300);
}

#[test]
fn a_download_waits_for_room_that_an_eviction_makes() {
    let limits = Limits { max_size: Some(1000), ..LIMITS };
    let house = House::open(Kind::Files, limits);
    let (storage, mirror, old) = (house.storage(), repository("a"), [7; 900]);
    eventually(|| storage.usage().complete);
    fetch(&house, &mirror, &old, "");
    let reserve = |bytes| house.run(storage.reserve_by_evicting(digest(b"new"), bytes)).unwrap();
    assert!(reserve(200).is_none(), "nobody evicts");
    let needs = storage.room_needs();
    assert!(reserve(1001).is_none() && needs.borrow().bytes == 0, "it never fits, so nothing need go for it");
    assert!((storage.lack(200).of_max_size, storage.lack(100).is_none()) == (100, true));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| reserve(200).is_some());
        eventually(|| needs.borrow().bytes == 200);
        assert_eq!(evict(&house, &old), Eviction::Evicted(900));
        assert!(waits.join().unwrap());
    });
    fetch(&house, &mirror, &old, "");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| reserve(200).is_none());
        eventually(|| needs.borrow().bytes == 200);
        storage.tell_exhausted(*needs.borrow());
        assert!(waits.join().unwrap(), "nothing more goes");
    });
    assert_eq!(needs.borrow().bytes, 0);
}

/// A download that grows waits as well, and its bytes are where they were.
#[test]
fn a_download_that_grows_waits_too() {
    let limits = Limits { max_size: Some(1000), ..LIMITS };
    let house = House::open(Kind::Files, limits);
    let (storage, old, new) = (house.storage(), [7; 600], [8; 800]);
    eventually(|| storage.usage().complete);
    fetch(&house, &repository("a"), &old, "");
    let needs = storage.room_needs();
    let room = house.run(storage.reserve(digest(&new), 0)).unwrap().unwrap();
    let mut download = house.run(storage.download(room, None)).unwrap();
    house.run(download.append(vec![Bytes::copy_from_slice(&new[..300])])).unwrap();
    std::thread::scope(|scope| {
        let grows = scope.spawn(|| house.run(download.reserve(800, 800)).unwrap());
        eventually(|| needs.borrow().bytes == 500);
        assert_eq!(evict(&house, &old), Eviction::Evicted(600));
        assert!(grows.join().unwrap());
    });
    house.run(download.append(vec![Bytes::copy_from_slice(&new[300..])])).unwrap();
    assert!(house.run(download.verify()).unwrap());
}

#[test]
fn the_oldest_leftover_goes_and_one_under_way_does_not() {
    let house = House::open(Kind::Files, Limits { max_size: Some(10_000), ..LIMITS });
    let storage = house.storage();
    eventually(|| storage.usage().complete);
    let begin = |bytes: &[u8]| {
        house.run(async {
            let room = storage.reserve(digest(bytes), 0).await.unwrap().unwrap();
            let mut download = storage.download(room, None).await.unwrap();
            assert!(download.reserve(100, 100).await.unwrap());
            download.append(vec![Bytes::from(vec![1; 100])]).await.unwrap();
            download
        })
    };
    house.run(begin(b"parked").park()).unwrap();
    let under_way = begin(b"under way");
    assert_eq!(storage.lack(10_000).of_max_size, 200);
    assert_eq!(house.run(storage.discard_oldest_leftover()).unwrap(), Some(100));
    assert_eq!(house.run(storage.discard_oldest_leftover()).unwrap(), None);
    assert_eq!((storage.lack(10_000).of_max_size, under_way.offset()), (100, 100));
}
