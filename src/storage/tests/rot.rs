//! FAULTS.md, "bit rot in blob": what was found rotten, or is, gives way to what is good, and never
//! the other way round.

use std::{fs, io::Read, os::unix::fs::FileExt};

use super::*;
use crate::storage::quarantine::found_rotten;

/// What was found by one finder: cached, hosted.
fn counts(storage: &Files, finder: Finder) -> (u64, u64) {
    let found = storage.rotten().into_iter().find(|found| found.by == finder).unwrap();
    (found.cached, found.hosted)
}

/// Flips a bit of the blob's file: it stays as long as it was.
fn rot(storage: &Files, name: &Digest) {
    let path = storage.disk.layout.blob(name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] ^= 1;
    fs::write(&path, bytes).unwrap();
}

fn on_disk(storage: &Files, name: &Digest) -> Vec<u8> {
    fs::read(storage.disk.layout.blob(name)).unwrap()
}

#[test]
fn what_is_stored_again_takes_the_place_of_what_has_rotted() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let bytes = content(300_000);
    let name = digest(&bytes);
    let usage = Usage { blobs: 1, bytes: 300_000, hosted: 300_000, hosted_blobs: 1, complete: true };
    storage.blobs.put(&name, &bytes).unwrap();
    storage.catalog.put_links(&hosted("a"), &[link_record(&bytes)]).unwrap();
    let put = || storage.blobs.put(&name, &bytes).unwrap();
    let push = || {
        let id = storage.uploads.begin(&hosted("a")).unwrap();
        let mut upload = storage.uploads.open(&hosted("a"), &id).unwrap().unwrap();
        upload.append(batch(&bytes)).unwrap();
        upload.finish(&name).unwrap();
    };
    let fetch = || {
        let mut part = storage.downloads.open(name, None).unwrap();
        part.append(batch(&bytes)).unwrap();
        assert!(part.verify().unwrap());
        part.commit().unwrap();
    };
    for (how, again) in [("put", &put as &dyn Fn()), ("push", &push), ("fetch", &fetch)] {
        rot(&storage, &name);
        let reader = storage.blobs.open(&name).unwrap().unwrap();
        again();
        assert!(on_disk(&storage, &name) == bytes, "{how}");
        let mut first = [0];
        reader.file.read_exact_at(&mut first, 0).unwrap();
        assert_eq!(first[0], bytes[0] ^ 1, "{how}: who has the old file open keeps it");
        eventually(|| storage.usage() == usage);
    }
    // One that was cut short, too, and then the counts follow.
    fs::write(storage.disk.layout.blob(&name), b"").unwrap();
    push();
    assert!(on_disk(&storage, &name) == bytes);
}

/// Between the reading and the moving away somebody may have pushed it again.
#[test]
fn only_the_file_that_was_found_rotten_goes_to_the_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let name = digest(b"blob");
    let away = dir.path().join(format!("quarantine/sha256-{}", name.hex()));
    storage.blobs.put(&name, b"blob").unwrap();
    rot(&storage, &name);
    let found = storage.blobs.open(&name).unwrap().unwrap();
    let mut read = Vec::new();
    (&*found.file).read_to_end(&mut read).unwrap();
    assert_ne!(read, b"blob");
    storage.blobs.put(&name, b"blob").unwrap();
    let rotten = |file: &fs::File| found_rotten(&storage.disk, &name, Some(file), Finder::Read);
    rotten(&found.file);
    assert_eq!(on_disk(&storage, &name), b"blob");
    assert!(!away.exists());
    eventually(|| storage.usage() == Usage { blobs: 1, bytes: 4, complete: true, ..Usage::default() });
    rot(&storage, &name);
    let found = storage.blobs.open(&name).unwrap().unwrap();
    rotten(&found.file);
    assert!(away.exists() && storage.blobs.size(&name).unwrap().is_none());
    rotten(&found.file);
    assert_eq!(storage.usage().blobs, 0);
    assert_eq!(counts(&storage, Finder::Read), (1, 0), "one find is counted once");
}

/// Where rot cannot be moved away it is not given out either, by any way of reading, until good
/// content takes its place.
#[test]
fn rot_that_cannot_be_moved_away_is_kept_back() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    storage.blobs.put(&digest(b"blob"), b"blob").unwrap();
    storage.catalog.put_links(&hosted("a"), &[link_record(b"blob")]).unwrap();
    let name = digest(b"blob");
    let version = storage.catalog.version(&hosted("a"));
    rot(&storage, &name);
    fs::remove_dir(dir.path().join("quarantine")).unwrap();
    for _ in 0..2 {
        assert!(storage.blobs.prove_for(&name, Finder::SecondLook).unwrap().is_none());
        assert!(storage.blobs.open(&name).unwrap().is_none() && storage.blobs.size(&name).unwrap().is_none());
        assert!(storage.blobs.read(&name, 100).unwrap().is_none() && storage.blobs.proof(&name).unwrap().is_none());
    }
    assert!(storage.disk.layout.blob(&name).exists());
    assert!(storage.catalog.version(&hosted("a")) > version, "who has it open looks again");
    assert_eq!(counts(&storage, Finder::SecondLook), (0, 1));
    storage.blobs.put(&name, b"blob").unwrap();
    assert_eq!(storage.blobs.read(&name, 100).unwrap().unwrap(), "blob");
    assert_eq!(storage.blobs.size(&name).unwrap(), Some(4));
}

/// What the disk has lost is rot; what it merely does not give now is not.
#[test]
fn errors_that_say_that_content_is_lost() {
    let is_loss = |errno: rustix::io::Errno| crate::storage::rot::is_loss(&errno.into());
    use rustix::io::Errno;
    assert!([Errno::IO, Errno::BADMSG, Errno::UCLEAN].into_iter().all(is_loss));
    assert!(![Errno::MFILE, Errno::ACCESS, Errno::NOENT, Errno::NOMEM, Errno::STALE].into_iter().any(is_loss));
}

/// Every blob in the order of digests, and from behind any of them on.
#[test]
fn blobs_are_listed_in_order_from_anywhere_on() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let mut all: Vec<_> = (0..60_u8).map(|n| digest(&[n])).collect();
    let long = Hasher::digest(Algorithm::Sha512, b"x");
    (0..60_u8).for_each(|n| storage.blobs.put(&digest(&[n]), &[n]).unwrap());
    storage.blobs.put(&long, b"x").unwrap();
    all.sort();
    all.push(long);
    for skip in 0..=all.len() {
        let last = skip.checked_sub(1).map(|at| all[at]);
        let listed: Vec<_> = storage.blobs.after(last).map(Result::unwrap).collect();
        assert_eq!(listed, all[skip..]);
    }
}
