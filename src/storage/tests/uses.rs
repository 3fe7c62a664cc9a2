//! Last uses and counts: what keeps them, what changes them, and what does not (K12).

use std::{
    fs::{self, File, FileTimes},
    os::unix::fs::MetadataExt as _,
};

use super::*;
use crate::{
    runtime::clock,
    storage::{
        check::{CheckOptions, check},
        index::Entry,
    },
};

pub(in crate::storage) const HOUR: u64 = 60 * 60;

/// Makes the blob's file one that came ten days ago and was used so many seconds ago.
pub(in crate::storage) fn age_file(storage: &Files, name: &Digest, ago: u64) {
    let now = clock::now();
    let times = FileTimes::new().set_modified(clock::time(now - 240 * HOUR)).set_accessed(clock::time(now - ago));
    File::open(storage.disk.layout.blob(name)).unwrap().set_times(times).unwrap();
}

/// The same for the index, if there is one.
pub(in crate::storage) fn age(storage: &Files, name: &Digest, ago: u64) {
    age_file(storage, name, ago);
    let blob = BlobUse::of_file(&fs::metadata(storage.disk.layout.blob(name)).unwrap());
    know(storage, name, blob);
}

/// Has the index know this of a blob, if there is an index.
fn know(storage: &Files, name: &Digest, blob: BlobUse) {
    storage.disk.index.write(None, vec![Entry::no_blob(name), Entry::blob(name, blob)]);
    eventually(|| storage.disk.index.blob(name).is_none_or(|known| known == Some(blob)));
}

/// When the blob's file was used, in seconds ago.
pub(in crate::storage) fn shown(storage: &Files, name: &Digest) -> u64 {
    clock::now().saturating_sub(fs::metadata(storage.disk.layout.blob(name)).unwrap().atime().unsigned_abs())
}

fn use_of(storage: &Files, name: &Digest) -> BlobUse {
    storage.blobs.use_of(name).unwrap().unwrap()
}

/// Every blob and its use, in the order of digests.
pub(in crate::storage) fn all_uses(storage: &Files) -> Vec<(Digest, BlobUse)> {
    let mut all = Vec::new();
    storage.blobs.uses(|name, blob| all.push((name, blob))).unwrap();
    all.sort_unstable_by_key(|(name, _)| *name);
    all
}

#[test]
fn k12_an_orderly_stop_keeps_last_uses_and_counts_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open_ready(dir.path());
    for n in 0..9_u8 {
        let name = digest(&[n]);
        storage.blobs.put(&name, &[n]).unwrap();
        // All within an hour, where the files' times tell nothing.
        let last = 1_800_000_000_000 + u64::from(n) * 7 % 9;
        know(&storage, &name, BlobUse { size: 1, last, uses: 1 + u16::from(n), counted: 8, came: 9, served: 0 });
    }
    let before = all_uses(&storage);
    storage.close();
    drop(storage);
    let storage = open_ready(dir.path());
    assert_eq!((all_uses(&storage), before.len()), (before, 9));
}

#[test]
fn a_use_is_counted_and_shown_in_the_access_time() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open_ready(dir.path());
    let (name, other) = (digest(b"x"), digest(b"other"));
    storage.blobs.put(&name, b"x").unwrap();
    eventually(|| storage.blobs.use_of(&name).unwrap().is_some());
    let now = clock::milliseconds();
    let fresh = use_of(&storage, &name);
    assert!(fresh.size == 1 && fresh.uses == 1 && fresh.came == fresh.last && now - fresh.last <= 60_000, "{fresh:?}");
    assert_eq!(storage.blobs.use_of(&other).unwrap(), None);
    age(&storage, &name, 30 * HOUR);
    let aged = use_of(&storage, &name);
    assert_eq!((aged.uses, aged.last - aged.came), (2, 210 * 60 * 60 * 1000));
    storage.blobs.open(&name).unwrap();
    eventually(|| use_of(&storage, &name).uses == 3);
    assert!(use_of(&storage, &name).last >= now && use_of(&storage, &name).came == aged.came);
    assert!(shown(&storage, &name) < HOUR);
    let modified = fs::metadata(storage.disk.layout.blob(&name)).unwrap().mtime();
    assert!(clock::now() - modified.unsigned_abs() >= 240 * HOUR, "the time when it came stays");
}

#[test]
fn k12_the_access_time_is_set_at_most_once_an_hour() {
    let dir = tempfile::tempdir().unwrap();
    for index in [true, false] {
        let storage = open_ready(dir.path());
        if !index {
            storage.disk.index.close();
        }
        let name = digest(&[u8::from(index)]);
        storage.blobs.put(&name, &[u8::from(index)]).unwrap();
        let first = fs::metadata(storage.disk.layout.blob(&name)).unwrap().atime();
        storage.blobs.open(&name).unwrap();
        assert_eq!(fs::metadata(storage.disk.layout.blob(&name)).unwrap().atime(), first, "it came within the hour");
        age_file(&storage, &name, HOUR / 2);
        storage.blobs.open(&name).unwrap();
        assert!(shown(&storage, &name) >= HOUR / 2, "it shows a use within the hour");
        age_file(&storage, &name, 2 * HOUR);
        let hour = clock::now() / HOUR;
        storage.blobs.open(&name).unwrap();
        assert!(shown(&storage, &name) < HOUR / 2, "it is due");
        age_file(&storage, &name, 2 * HOUR);
        storage.blobs.open(&name).unwrap();
        // Unless the next hour has begun just now.
        assert!(shown(&storage, &name) >= 2 * HOUR || clock::now() / HOUR != hour, "it was set within the hour");
    }
}

#[test]
fn content_that_is_stored_again_keeps_its_count() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open_ready(dir.path());
    let (name, bytes) = (digest(b"x"), b"x");
    storage.blobs.put(&name, bytes).unwrap();
    let used = BlobUse { size: 1, last: 1 << 40, uses: 9, counted: 0, came: 1 << 40, served: 5 };
    know(&storage, &name, used);
    storage.blobs.put(&name, bytes).unwrap();
    // It has rotted, so that it is replaced.
    fs::write(storage.disk.layout.blob(&name), b"y").unwrap();
    storage.blobs.put(&name, bytes).unwrap();
    eventually(|| use_of(&storage, &name).last > used.last);
    assert_eq!((use_of(&storage, &name).uses, use_of(&storage, &name).served), (9, 5));
    storage.blobs.quarantine(&name).unwrap();
    eventually(|| storage.blobs.use_of(&name).unwrap().is_none());
    storage.disk.index.touch(&name, clock::now());
    storage.blobs.put(&name, bytes).unwrap();
    eventually(|| storage.blobs.use_of(&name).unwrap().is_some());
    assert_eq!(use_of(&storage, &name).uses, 1, "what was away begins anew, and a late note of it adds nothing");
}

#[test]
fn a_look_of_lanyard_itself_is_no_use() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open_ready(dir.path());
    let name = digest(b"x");
    storage.blobs.put(&name, b"x").unwrap();
    age(&storage, &name, 48 * HOUR);
    let before = use_of(&storage, &name);
    storage.blobs.read_unnoticed(&name, 9).unwrap().unwrap();
    let mut proof = storage.blobs.proof(&name).unwrap().unwrap();
    while let Step::More(_) = proof.step().unwrap() {}
    drop(proof);
    storage.blobs.size(&name).unwrap();
    storage.close();
    drop(storage);
    check(dir.path(), CheckOptions { repair: false, sparse: false, threads: 1 }, &|_| {}).unwrap();
    let storage = open_ready(dir.path());
    assert_eq!(use_of(&storage, &name), before);
    assert!(shown(&storage, &name) >= 48 * HOUR);
}

#[test]
fn all_uses_are_shown_once_also_when_the_index_goes_off_meanwhile() {
    const BLOBS: u32 = 9000;
    let dir = tempfile::tempdir().unwrap();
    drop(open_ready(dir.path()));
    let layout = Layout::new(dir.path());
    let mut names: Vec<_> = (0..BLOBS).map(|n| digest(&n.to_le_bytes())).collect();
    for (n, name) in (0..BLOBS).zip(&names) {
        let path = layout.blob(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![0; n as usize % 7]).unwrap();
    }
    let storage = open_ready(dir.path());
    let by_index = all_uses(&storage);
    let mut meanwhile = Vec::new();
    let shown = storage.blobs.uses(|name, blob| {
        if meanwhile.len() == 10 {
            storage.disk.index.close();
        }
        meanwhile.push((name, blob));
    });
    shown.unwrap();
    assert!(storage.disk.index.blob(&names[0]).is_none(), "it is off");
    meanwhile.sort_unstable_by_key(|(name, _)| *name);
    let by_files = all_uses(&storage);
    names.sort_unstable();
    assert_eq!(by_index.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    assert_eq!((&meanwhile, &by_files), (&by_index, &by_index));
}
