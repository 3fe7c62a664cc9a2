//! K1: what is cached, what downloads promise and what they leave never exceeds `max_size`.

use std::sync::{Arc, Barrier, atomic::AtomicU64, atomic::Ordering};

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::{
    runtime::BlockingPool,
    storage::{Download, room::Ledger, room_queue::RoomQueue},
};

/// Downloads that begin together.
const TOGETHER: usize = 200;

/// Rounds over the ledger alone.
const ROUNDS: u64 = 1_000;

/// Rounds with real files: a few, or as many as `LANYARD_ROUNDS` says (docs/TESTING.md).
fn rounds() -> u64 {
    std::env::var("LANYARD_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

#[test]
fn k1_promises_that_are_made_together_fit() {
    const MAX: u64 = 100_000;
    let mut most = 0;
    for round in 0..ROUNDS {
        let (ledger, cached, barrier) =
            (Ledger::new(Some(MAX), Arc::new(RoomQueue::new())), AtomicU64::new(0), Barrier::new(8));
        let promised = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                let (ledger, cached, barrier, promised) = (&ledger, &cached, &barrier, &promised);
                scope.spawn(move || {
                    let mut rng = StdRng::seed_from_u64(round * 8 + thread);
                    barrier.wait();
                    for n in 0..TOGETHER as u64 / 8 {
                        let digest = digest(&(thread * 1_000 + n).to_le_bytes());
                        let (size, count) = (rng.random_range(1..2_000), || cached.load(Ordering::SeqCst));
                        let Some(mut room) = ledger.reserve(digest, size, count) else { continue };
                        let size = if rng.random_bool(0.5) && room.grow_to(size * 2, count) { size * 2 } else { size };
                        match rng.random_range(0..3) {
                            // A commit: counted before the promise ends.
                            0 => cached.fetch_add(size, Ordering::SeqCst),
                            // It is parked, and stays on disk.
                            1 => {
                                room.keeps(size / 2);
                                promised.fetch_add(size / 2, Ordering::SeqCst)
                            }
                            _ => 0,
                        };
                    }
                });
            }
        });
        let here = cached.into_inner() + promised.into_inner();
        assert!(here <= MAX, "round {round}: {here} bytes of {MAX}");
        most = most.max(here);
    }
    assert!(most > MAX - 4_000, "the room was used: {most}");
}

/// The bytes of all files below a folder.
fn bytes_below(folder: &Path, only: &str) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path(), only),
        Ok(metadata) if only.is_empty() || entry.file_name().to_str() == Some(only) => metadata.len(),
        Ok(_) | Err(_) => 0,
    };
    entries.map(|entry| size(entry.unwrap())).sum()
}

fn here(dir: &Path) -> u64 {
    bytes_below(&dir.join("blobs"), "") + bytes_below(&dir.join("fills"), "part")
}

/// The bytes of downloads that are discarded, counted before and after. A look at the folder takes
/// a while: it may see a download that gives its room back, and then another one that takes that
/// room. So it may see the bytes of those twice that are discarded meanwhile.
#[derive(Default)]
struct Discards {
    begun: AtomicU64,
    done: AtomicU64,
}

async fn fill(storage: Storage, seed: u64, discards: Arc<Discards>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let content: Vec<u8> = (0..rng.random_range(1_000..40_000)).map(|_| rng.random()).collect();
    let (name, size) = (digest(&content), content.len() as u64);
    let told = rng.random_bool(0.7);
    let Some(room) = storage.reserve(name, if told { size } else { 0 }).await.unwrap() else { return };
    let mut download = storage.download(room, None).await.unwrap();
    let missing = Bytes::from(content).slice(download.offset() as usize..);
    if told {
        if !download.reserve(size, size).await.unwrap() {
            return end(download, rng.random_bool(0.5), &discards).await;
        }
        download.comes_from("a".to_owned(), Some(size)).await.unwrap();
    }
    for piece in missing.chunks(7_000) {
        // Without a length each piece asks for its own room.
        if !told && !download.reserve_unsized(download.offset() + piece.len() as u64).await.unwrap() {
            return end(download, rng.random_bool(0.5), &discards).await;
        }
        download.append(vec![Bytes::copy_from_slice(piece)]).await.unwrap();
        if rng.random_bool(0.05) {
            return end(download, rng.random_bool(0.5), &discards).await;
        }
    }
    assert!(download.verify().await.unwrap());
    download.commit().await.unwrap();
}

async fn end(download: Download, parked: bool, discards: &Discards) {
    if parked {
        return download.park().await.unwrap();
    }
    let bytes = download.offset();
    discards.begun.fetch_add(bytes, Ordering::SeqCst);
    download.discard().await.unwrap();
    discards.done.fetch_add(bytes, Ordering::SeqCst);
}

/// 200 real downloads begin together, of which some are parked, some discarded, and some taken up
/// again by the next round or after a restart.
#[test]
fn k1_downloads_that_begin_together_never_exceed_max_size() {
    const MAX: u64 = 1_000_000;
    let limits = Limits { max_size: Some(MAX), ..LIMITS };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let open = |dir: &Path| {
        let storage = Storage::open(dir, limits, BlockingPool::new(runtime.handle().clone(), 16)).unwrap();
        eventually(|| storage.usage().complete);
        storage
    };
    let (mut most, discards) = (0, Arc::new(Discards::default()));
    for round in 0..rounds() {
        let dir = tempfile::tempdir().unwrap();
        let mut storage = open(dir.path());
        for part in 0..3 {
            let fills = (0..TOGETHER as u64).map(|n| {
                // Some seeds come again: their downloads are taken up.
                let seed = round * 1_000 + if n % 3 == 0 { n } else { part * 300 + n };
                runtime.spawn(fill(storage.clone(), seed, Arc::clone(&discards)))
            });
            let fills: Vec<_> = fills.collect();
            for fill in fills {
                // Two of one digest at a time are not what a fill does: one is refused.
                runtime.block_on(fill).unwrap();
                let done = discards.done.load(Ordering::SeqCst);
                let here = here(dir.path());
                let twice = discards.begun.load(Ordering::SeqCst) - done;
                assert!(here <= MAX + twice, "round {round}: {here} bytes of {MAX}, at most {twice} of them twice");
                most = most.max(here);
            }
            assert!(here(dir.path()) <= MAX, "round {round}, when all have ended");
            storage.close();
            drop(storage);
            storage = open(dir.path());
            assert!(here(dir.path()) <= MAX);
        }
    }
    assert!(most > MAX * 9 / 10, "the room was used: {most} bytes");
}

/// After a crash what is here is counted anew. Until then nothing is promised.
#[test]
fn k1_nothing_is_promised_before_everything_is_counted() {
    const MAX: u64 = 1_000_000;
    let limits = Limits { max_size: Some(MAX), ..LIMITS };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let open = |dir: &Path| Storage::open(dir, limits, BlockingPool::new(runtime.handle().clone(), 8)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    eventually(|| storage.usage().complete);
    for n in 0..300_u32 {
        let content: Vec<u8> = n.to_le_bytes().iter().copied().cycle().take(3_000).collect();
        storage.files().blobs.put(&digest(&content), &content).unwrap();
    }
    let reserve = |storage: &Storage, bytes| runtime.block_on(storage.reserve(digest(b"new"), bytes)).unwrap();
    assert!(reserve(&storage, 50_000).is_some() && reserve(&storage, 150_000).is_none());
    // A drop without a close leaves what a crash leaves.
    drop(storage);
    for _ in 0..10 {
        let storage = open(dir.path());
        assert!(reserve(&storage, 150_000).is_none(), "it was promised before all was counted");
        eventually(|| storage.usage().complete);
        assert!(reserve(&storage, 50_000).is_some());
    }
}

/// A room that cannot be used, or content in memory of the same digest, leaves no bytes counted
/// that are not on disk.
#[test]
fn k1_nothing_is_counted_that_is_not_there() {
    const MAX: u64 = 10_000;
    let (dir, content) = (tempfile::tempdir().unwrap(), vec![7; 9_000]);
    let storage = Files::open(dir.path(), Limits { max_size: Some(MAX), ..LIMITS }).unwrap();
    eventually(|| storage.usage().complete);
    let name = digest(&content);
    let reserve = |bytes| storage.reserve(name, bytes);
    let mut part = storage.downloads.open_reserved(reserve(9_000).unwrap(), None).unwrap();
    part.append(vec![Bytes::from(content.clone()).slice(..6_000)]).unwrap();
    part.park().unwrap();
    assert!(!storage.room_for(4_001) && storage.room_for(4_000), "what is parked counts");
    let promise = storage.promise(4_000).unwrap();
    let part = storage.downloads.open_reserved(reserve(0).unwrap(), None).unwrap();
    let busy = storage.downloads.open_reserved(reserve(0).unwrap(), None);
    assert!(busy.is_err_and(|error| matches!(error, StorageError::Busy(_))));
    drop(promise);
    part.discard().unwrap();
    assert!(storage.room_for(MAX) && !storage.room_for(MAX + 1), "nothing is left");
}
