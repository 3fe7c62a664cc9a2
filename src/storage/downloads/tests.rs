use std::{
    io::{BufRead, BufReader},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::{part_file::PART, *};
use crate::{
    oci::{Algorithm, Hasher},
    storage::{
        Files, StoredBlob, Usage,
        partial::{PartialMeta, State, boot_id},
        record,
        tests::{batch, child, child_dir, content, digest, eventually, open},
    },
};

const MIB: usize = 1 << 20;

fn folder(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("fills").join(names::digest(digest))
}

fn read(blob: &StoredBlob) -> Vec<u8> {
    let mut bytes = vec![0; blob.size as usize];
    blob.file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Appends the rest, and expects the blob.
fn finish(mut part: PartFile, bytes: &[u8]) -> StoredBlob {
    let from = part.offset() as usize;
    for piece in bytes[from..].chunks(100_000) {
        part.append(batch(piece)).unwrap();
    }
    assert!(part.verify().unwrap());
    part.commit().unwrap()
}

#[test]
fn a_download_becomes_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    for (length, total) in [(0, Some(0)), (1, None), (3 * MIB + 7, Some(3 * MIB + 7)), (70 * MIB, None)] {
        let bytes = content(length);
        let name = digest(&bytes);
        let mut part = storage.downloads.open(name, total.map(|total| total as u64)).unwrap();
        assert!(matches!(storage.downloads.open(name, None), Err(StorageError::Busy(_))));
        let reader = part.reader().unwrap();
        let mut mark = 0;
        for piece in bytes.chunks(65_521) {
            part.append(batch(piece)).unwrap();
            // F1: what is advertised can be read.
            let readable = part.offset();
            assert!(readable >= mark && readable <= reader.metadata().unwrap().len());
            mark = readable;
        }
        part.flush().unwrap();
        assert_eq!(part.offset(), length as u64);
        assert!(part.verify().unwrap());
        let blob = part.commit().unwrap();
        assert!(read(&blob) == bytes && read(&StoredBlob { file: reader, size: length as u64 }) == bytes);
        assert!(read(&storage.blobs.open(&name).unwrap().unwrap()) == bytes);
        assert!(!folder(dir.path(), &name).exists());
    }
    eventually(|| {
        storage.usage() == Usage { blobs: 4, bytes: (73 * MIB + 8) as u64, complete: true, ..Usage::default() }
    });
    assert!(storage.downloads.leftovers().unwrap().is_empty());
}

/// F2: wrong bytes never become a blob, and those who read them never see the right ones behind
/// them.
#[test]
fn wrong_bytes_never_become_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let right = content(MIB);
    let mut wrong = right.clone();
    wrong[MIB / 2] ^= 1;
    let name = digest(&right);
    let mut part = storage.downloads.open(name, Some(MIB as u64)).unwrap();
    part.append(batch(&wrong)).unwrap();
    let early = part.reader().unwrap();
    assert!(!part.verify().unwrap());
    part.restart().unwrap();
    assert_eq!(part.offset(), 0);
    part.append(batch(&right[..300_000])).unwrap();
    let mut byte = [0];
    early.read_exact_at(&mut byte, (MIB / 2) as u64).unwrap();
    assert_eq!(byte[0], wrong[MIB / 2]);
    part.append(batch(&right[300_000..])).unwrap();
    assert!(part.verify().unwrap());
    part.append(batch(b"one more")).unwrap();
    assert!(matches!(part.commit(), Err(StorageError::Unproven(_))));
    assert!(storage.blobs.open(&name).unwrap().is_none());
    // Longer than it may be: begun again.
    let part = storage.downloads.open(name, Some(MIB as u64)).unwrap();
    assert!(part.offset() <= MIB as u64);
    part.discard().unwrap();
    assert!(!folder(dir.path(), &name).exists());
    // The right digest, and not the size that a source has said: the digest says what it is.
    let mut part = storage.downloads.open(name, None).unwrap();
    part.set_total(Some(MIB as u64 + 1)).unwrap();
    part.append(batch(&right)).unwrap();
    assert!(part.verify().unwrap());
    part.restart().unwrap();
    assert_eq!((part.offset(), part.total()), (0, None), "nor is a size kept that came with other bytes");
}

#[test]
fn a_blob_that_is_here_already_stays() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let part = storage.downloads.open(digest(b"x"), None).unwrap();
    storage.blobs.put(&digest(b"x"), b"x").unwrap();
    assert_eq!(read(&finish(part, b"x")), b"x");
    assert!(!folder(dir.path(), &digest(b"x")).exists());
    eventually(|| storage.usage() == Usage { blobs: 1, bytes: 1, complete: true, ..Usage::default() });
}

#[test]
fn a_parked_or_dropped_download_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(2 * MIB);
    let name = digest(&bytes);
    let storage = open(dir.path());
    let mut part = storage.downloads.open(name, Some(2 * MIB as u64)).unwrap();
    assert_eq!(part.total(), None, "a manifest's word");
    part.set_total(Some(2 * MIB as u64)).unwrap();
    part.append(batch(&bytes[..MIB])).unwrap();
    part.append(batch(&bytes[MIB..MIB + 5])).unwrap();
    part.park().unwrap();
    assert_eq!(storage.downloads.leftovers().unwrap(), [name]);
    drop(storage);
    let storage = open(dir.path());
    let mut part = storage.downloads.open(name, None).unwrap();
    assert!(storage.downloads.leftovers().unwrap().is_empty());
    assert_eq!((part.offset(), part.total()), (MIB as u64 + 5, Some(2 * MIB as u64)));
    part.append(batch(&bytes[MIB + 5..MIB + 500_000])).unwrap();
    drop(part);
    let part = storage.downloads.open(name, None).unwrap();
    assert_eq!(part.offset(), (MIB + 500_000) as u64, "the process lives, so the bytes do");
    assert!(read(&finish(part, &bytes)) == bytes);
}

/// Whoever looks after leftovers has each for a moment.
#[test]
fn a_download_waits_for_who_tidies() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let name = digest(&content(MIB));
    let begun = || {
        let mut part = storage.downloads.open(name, None).unwrap();
        part.append(batch(b"x")).unwrap();
        part.park().unwrap();
    };
    begun();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                storage.downloads.give_back().unwrap();
            }
        });
        (0..300).for_each(|_| begun());
        ended.store(true, Ordering::Relaxed);
    });
}

/// The table at the top of the room: a part of 1 MiB whose state says that 600,000 bytes are
/// synced.
#[test]
fn a_part_is_taken_up_as_far_as_it_is_good() {
    let bytes = content(MIB);
    let name = digest(&bytes);
    let boot = boot_id();
    let durable = 600_000;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(&bytes[..durable]);
    let state = |boot: Option<&str>| {
        record::encode(&State::new(boot, durable as u64, &hasher, PartialMeta::default())).unwrap()
    };
    let good = state(boot.as_deref());
    let mut rotten = good.clone();
    rotten[40] ^= 1;
    let foreign =
        State { hash_state: "AAAA".into(), ..State::new(boot.as_deref(), 5, &hasher, PartialMeta::default()) };
    for (what, state, length, total, expected) in [
        ("the same boot", Some(good.clone()), MIB, None, MIB),
        ("the same boot, and nothing after", Some(good.clone()), durable, None, durable),
        ("another boot", Some(state(Some("other"))), MIB, None, durable),
        ("an unknown boot", Some(state(None)), MIB, None, durable),
        ("shorter than was synced", Some(good.clone()), durable - 1, None, 0),
        ("longer than it may be", Some(good.clone()), MIB, Some(MIB as u64 - 1), 0),
        ("a rotten state", Some(rotten), MIB, None, 0),
        ("a torn state", Some(good[..50].to_vec()), MIB, None, 0),
        ("an empty state", Some(Vec::new()), MIB, None, 0),
        ("a hash that is none", Some(record::encode(&foreign).unwrap()), MIB, None, 0),
        ("no state", None, MIB, None, 0),
    ] {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        let folder = folder(dir.path(), &name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("part"), &bytes[..length]).unwrap();
        if let Some(state) = state {
            fs::write(folder.join("state"), state).unwrap();
        }
        // An earlier process left these: the care of leftovers, which runs after the start, finds
        // them whole.
        let storage = open(dir.path());
        let part = storage.downloads.open(name, total).unwrap();
        assert_eq!(part.offset(), expected as u64, "{what}");
        assert_eq!(part.reader().unwrap().metadata().unwrap().len(), expected as u64, "{what}");
        if total.is_none() {
            assert!(read(&finish(part, &bytes)) == bytes, "{what}");
        }
    }
}

/// A kernel that does not name its boot: only what was synced counts, and a checkpoint syncs.
/// A bit that flips on disk between two processes is below what the saved hash vouches for.
#[test]
fn rot_in_what_was_parked_is_no_blob() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(MIB);
    let name = digest(&bytes);
    {
        let storage = open(dir.path());
        let mut part = storage.downloads.open(name, Some(MIB as u64)).unwrap();
        part.append(batch(&bytes[..MIB / 2])).unwrap();
        part.park().unwrap();
    }
    let file = fs::File::options().write(true).open(folder(dir.path(), &name).join(PART)).unwrap();
    file.write_all_at(&[bytes[1000] ^ 1], 1000).unwrap();
    let storage = open(dir.path());
    let mut part = storage.downloads.open(name, Some(MIB as u64)).unwrap();
    let from = part.offset() as usize;
    part.append(batch(&bytes[from..])).unwrap();
    assert!(!part.verify().unwrap());
    part.discard().unwrap();
    assert_eq!(finish(storage.downloads.open(name, None).unwrap(), &bytes).size, MIB as u64);
}

#[test]
fn checkpoints_bound_what_a_power_cut_costs() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(70 * MIB);
    let name = digest(&bytes);
    let storage = open(dir.path());
    let unnamed = Downloads { boot: None, ..storage.downloads.clone() };
    let mut part = unnamed.open(name, None).unwrap();
    for piece in bytes[..65 * MIB].chunks(MIB) {
        part.append(batch(piece)).unwrap();
        let state = folder(dir.path(), &name).join("state");
        let saved = || record::read::<State>(&state).unwrap().unwrap().durable_offset;
        if part.offset() == 32 * MIB as u64 || part.offset() == 64 * MIB as u64 {
            eventually(|| saved() == part.offset());
        }
    }
    drop(part);
    let part = unnamed.open(name, None).unwrap();
    assert_eq!(part.offset(), 64 * MIB as u64);
    finish(part, &bytes);
}

/// A slow download is written as it comes, in small pieces.
/// S23: whose bytes are there decides who may have them after a crash.
#[test]
fn a_checkpoint_under_way_hides_nothing_that_was_learned_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let bytes = content(34 * MIB);
    let name = digest(&bytes);
    let mut part = storage.downloads.open(name, None).unwrap();
    part.set_total(Some(34 << 20)).unwrap();
    part.add_source("first").unwrap();
    part.append(batch(&bytes)).unwrap();
    part.flush().unwrap();
    part.add_source("second").unwrap();
    part.set_total(None).unwrap();
    drop(part);
    let state = State::read(&folder(dir.path(), &name)).unwrap().unwrap();
    assert_eq!((state.meta.sources, state.meta.total), (vec!["first".to_owned(), "second".to_owned()], None));
}

#[test]
fn small_pieces_come_to_a_checkpoint_too() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(33 * MIB);
    let name = digest(&bytes);
    let storage = open(dir.path());
    let mut part = storage.downloads.open(name, None).unwrap();
    for piece in bytes.chunks(64 << 10) {
        part.append(batch(piece)).unwrap();
        part.flush().unwrap();
    }
    let state = folder(dir.path(), &name).join("state");
    eventually(|| record::read::<State>(&state).unwrap().unwrap().durable_offset == 32 * MIB as u64);
}

#[test]
fn abandoned_downloads_go_away() {
    let dir = tempfile::tempdir().unwrap();
    let storage: Files = open(dir.path());
    for n in 0..3_u8 {
        let mut part = storage.downloads.open(digest(&[n]), None).unwrap();
        part.append(batch(&[n])).unwrap();
        part.park().unwrap();
    }
    let old = SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    let part = folder(dir.path(), &digest(&[0])).join("part");
    fs::File::options().write(true).open(part).unwrap().set_modified(old).unwrap();
    let under_way = storage.downloads.open(digest(&[1]), None).unwrap();
    assert_eq!(storage.downloads.sweep(crate::storage::downloads::ABANDONED).unwrap(), 1);
    assert_eq!(storage.downloads.leftovers().unwrap(), [digest(&[2])]);
    assert_eq!(storage.downloads.sweep(Duration::ZERO).unwrap(), 1);
    assert!(storage.downloads.leftovers().unwrap().is_empty());
    assert_eq!(under_way.offset(), 1);
}

/// FAULTS.md, "kill -9": what was advertised is there, and the download goes on from there.
#[test]
fn a_killed_download_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(48 * MIB);
    for _ in 0..3 {
        let mut process = child("storage::downloads::tests::child_that_downloads", dir.path(), &[])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut advertised = 0;
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            if let Some(offset) = line.unwrap().strip_prefix("offset ") {
                advertised = offset.parse::<u64>().unwrap();
            }
            if advertised > 36 * MIB as u64 {
                break;
            }
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let storage = open(dir.path());
        assert_eq!(storage.downloads.leftovers().unwrap(), [digest(&bytes)]);
        let part = storage.downloads.open(digest(&bytes), None).unwrap();
        assert!(advertised > 0 && part.offset() >= advertised, "{} of {advertised}", part.offset());
        let blob = finish(part, &bytes);
        assert!(read(&blob) == bytes);
        storage.blobs.quarantine(&digest(&bytes)).unwrap();
    }
}

#[test]
#[ignore = "run, and killed, by the test above"]
fn child_that_downloads() {
    let bytes = content(48 * MIB);
    let storage = open(&child_dir());
    let mut part = storage.downloads.open(digest(&bytes), Some(bytes.len() as u64)).unwrap();
    println!();
    for piece in bytes[..47 * MIB].chunks(70_000) {
        part.append(batch(piece)).unwrap();
        println!("offset {}", part.offset());
    }
    // Until it is killed.
    std::thread::park();
}
