//! S25: disk space is reserved on an upstream's word, and no end of a download keeps what was not
//! used.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, process::Stdio};

use super::*;
use crate::storage::check::{CheckOptions, check};

const MIB: usize = 1 << 20;
/// A length that no disk of a test has.
const LIE: u64 = 1 << 40;

/// Every file of the folder that holds more than a mebibyte of disk beyond its content.
fn swollen(dir: &Path) -> Vec<PathBuf> {
    let (mut swollen, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        // A folder that is gone by now holds nothing.
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            // What is being removed meanwhile holds nothing.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.blocks() * 512 > metadata.len() + (1 << 20) {
                swollen.push(path);
            }
        }
    }
    swollen
}

/// Whether this file system reserves space at all.
fn reserves(dir: &Path) -> bool {
    let file = fs::File::create(dir.join("try")).unwrap();
    let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
    let can = rustix::fs::fallocate(&file, flags, 0, 4 << 20).is_ok();
    if !can {
        eprintln!("left out: this file system reserves nothing");
    }
    fs::remove_file(dir.join("try")).unwrap();
    can
}

#[test]
fn s25_every_end_gives_back_what_was_reserved() {
    let bytes = content(3 * MIB + 77);
    let name = digest(&bytes);
    for total in [bytes.len() as u64, 64 << 20, LIE] {
        for end in ["commit", "park", "drop", "discard", "begin again", "taken up"] {
            let dir = tempfile::tempdir().unwrap();
            let storage = open(dir.path());
            let mut part = storage.downloads.open(name, Some(LIE)).unwrap();
            assert!(swollen(dir.path()).is_empty(), "nothing is reserved for a manifest's word");
            part.set_total(Some(total)).unwrap();
            part.append(batch(&bytes)).unwrap();
            part.flush().unwrap();
            if total > bytes.len() as u64 && reserves(dir.path()) {
                assert_eq!(
                    swollen(dir.path()).len(),
                    1,
                    "{total}, {end}: nothing was reserved, so this proves nothing"
                );
            }
            let reader = part.reader().unwrap();
            match end {
                "commit" => {
                    assert!(part.verify().unwrap());
                    assert_eq!(part.commit().unwrap().size, bytes.len() as u64);
                }
                "park" => part.park().unwrap(),
                "drop" => drop(part),
                "discard" => part.discard().unwrap(),
                "begin again" => part.restart().unwrap(),
                _ => {
                    part.park().unwrap();
                    drop(storage.downloads.open(name, None).unwrap());
                }
            }
            assert_eq!(swollen(dir.path()), [] as [PathBuf; 0], "{total}, {end}");
            let held = reader.metadata().unwrap();
            assert!(held.blocks() * 512 <= held.len() + (1 << 20), "{total}, {end}: a reader keeps {held:?}");
            eventually(|| storage.usage().complete);
            assert_eq!(storage.usage().bytes, if end == "commit" { bytes.len() as u64 } else { 0 });
        }
    }
}

/// A large download reserves a step ahead, and never the whole of a length that may be a lie.
#[test]
fn s25_what_is_reserved_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let piece = content(8 * MIB);
    let mut part = storage.downloads.open(digest(b"never"), None).unwrap();
    part.set_total(Some(LIE)).unwrap();
    for _ in 0..20 {
        part.append(batch(&piece)).unwrap();
        part.flush().unwrap();
        let metadata = part.reader().unwrap().metadata().unwrap();
        assert!(metadata.blocks() * 512 <= metadata.len() + (66 << 20), "{metadata:?}");
    }
    part.discard().unwrap();
}

/// K1: a download that has room for a part of its length takes no more of the disk.
#[test]
fn k1_no_more_of_the_disk_is_reserved_than_there_is_room_for() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let mut part = storage.downloads.open(digest(b"never"), None).unwrap();
    for step in 1..20_u64 {
        assert!(part.reserve(step * MIB as u64));
        part.set_total(Some(LIE)).unwrap();
        part.append(batch(&content(MIB))).unwrap();
        part.flush().unwrap();
        let metadata = part.reader().unwrap().metadata().unwrap();
        assert!(metadata.blocks() * 512 <= (step << 20) + (1 << 20), "step {step}: {metadata:?}");
    }
    part.discard().unwrap();
}

/// A crash gives nothing back. The next start does, and so does a repair; a check says so and
/// changes nothing.
#[test]
fn s25_what_a_crash_leaves_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    if !reserves(dir.path()) {
        return;
    }
    let data = dir.path().join("data");
    let crash = || {
        let child = child("storage::tests::reserved::child_that_reserves", &data, &[]).stdin(Stdio::null()).output();
        let text = String::from_utf8_lossy(&child.unwrap().stdout).into_owned();
        assert!(text.contains("at the end"), "{text}");
        assert_eq!(swollen(&data).len(), 1, "the crash left nothing, so this proves nothing");
    };
    let look = |repair| check(&data, CheckOptions { repair, sparse: false, threads: 1 }, &|_| ()).unwrap();
    crash();
    let report = look(false);
    assert!(report.is_sound() && report.reserved.len() == 1 && report.reserved[0].bytes > 30 << 20, "{report:?}");
    assert!(!report.reserved[0].given_back && swollen(&data).len() == 1, "a check changes nothing");
    let report = look(true);
    assert!(report.reserved[0].given_back && swollen(&data).is_empty(), "{report:?}");
    assert!(look(false).reserved.is_empty());
    crash();
    let storage = open(&data);
    eventually(|| swollen(&data).is_empty());
    assert_eq!(
        storage.downloads.open(digest(b"never"), None).unwrap().offset(),
        3 * MIB as u64,
        "nothing else is lost"
    );
}

#[test]
#[ignore = "run by the test above, and killed at its end"]
fn child_that_reserves() {
    let storage = open(&child_dir());
    let mut part = storage.downloads.open(digest(b"never"), None).unwrap();
    part.set_total(Some(LIE)).unwrap();
    part.append(batch(&content(3 * MIB)[part.offset() as usize..])).unwrap();
    part.flush().unwrap();
    println!("\nat the end");
    // As kill -9 ends it: no destructor runs.
    std::process::abort();
}

/// An upload reserves nothing, whatever its client says; and what some other program has reserved
/// for it is found as a download's is.
#[test]
fn s25_uploads_hold_no_more_than_they_were_given() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(3 * MIB);
    let storage = open(dir.path());
    let begin = || storage.uploads.begin(&hosted("a")).unwrap();
    let write = |id: &UploadId| {
        let mut upload = storage.uploads.open(&hosted("a"), id).unwrap().unwrap();
        upload.append(batch(&bytes)).unwrap();
        assert!(swollen(dir.path()).is_empty());
        upload
    };
    write(&begin()).park().unwrap();
    drop(write(&begin()));
    write(&begin()).finish(&digest(&bytes)).unwrap();
    assert!(write(&begin()).finish(&digest(b"x")).is_err());
    assert!(swollen(dir.path()).is_empty());
    drop(storage);
    if !reserves(dir.path()) {
        return;
    }
    for folder in fs::read_dir(dir.path().join("uploads")).unwrap() {
        let file = fs::File::options().write(true).open(folder.unwrap().path().join("data")).unwrap();
        let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, flags, 0, 20 << 20).unwrap();
    }
    assert_eq!(swollen(dir.path()).len(), 2);
    let look = |repair| check(dir.path(), CheckOptions { repair, sparse: false, threads: 1 }, &|_| ()).unwrap();
    assert_eq!((look(false).reserved.len(), swollen(dir.path()).len()), (2, 2));
    assert_eq!((look(true).reserved.len(), swollen(dir.path()).len()), (2, 0));
}

/// A blob that an earlier lanyard has left swollen counts as what it holds, and a repair or an
/// unclean start cuts it.
#[test]
fn s25_a_swollen_blob_counts_as_what_it_holds() {
    for by_repair in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        if !reserves(dir.path()) {
            return;
        }
        let bytes = content(MIB);
        let storage = open(dir.path());
        storage.blobs.put(&digest(&bytes), &bytes).unwrap();
        storage.catalog.put_links(&repository("a"), &[link_record(&bytes)]).unwrap();
        let blob = Layout::new(dir.path()).blob(&digest(&bytes));
        let file = fs::File::options().write(true).open(&blob).unwrap();
        let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, flags, MIB as u64, 20 << 20).unwrap();
        drop(file);
        assert_eq!(swollen(dir.path()), std::slice::from_ref(&blob));
        drop(storage);
        if by_repair {
            let options = |repair| CheckOptions { repair, sparse: false, threads: 1 };
            let report = check(dir.path(), options(false), &|_| ()).unwrap();
            assert!(report.reserved.len() == 1 && report.reserved[0].path == blob, "{report:?}");
            check(dir.path(), options(true), &|_| ()).unwrap();
        }
        let storage = open(dir.path());
        eventually(|| storage.usage().complete && swollen(dir.path()).is_empty());
        eventually(|| storage.usage().bytes == MIB as u64);
        assert_eq!(storage.blobs.read(&digest(&bytes), MIB).unwrap().unwrap(), bytes);
    }
}
