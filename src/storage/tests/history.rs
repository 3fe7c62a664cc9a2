//! The history of a tag in its file: beside the index, through a restart, and with older versions
//! of lanyard.

use std::fs;

use super::{digest, open, open_ready, repository, tag, tag_record};
use crate::storage::{Files, MOVES, PastTarget, TagRecord, index::RepositoryKey, record};

fn move_to(storage: &Files, content: &[u8], updated: u64) {
    let record = TagRecord { updated, ..tag_record("t", content) };
    storage.catalog.put_tag(&repository("a"), &record).unwrap();
}

fn before(storage: &Files) -> Vec<PastTarget> {
    storage.catalog.tag_history(&repository("a"), &tag("t")).unwrap().unwrap().before
}

#[test]
fn a_history_outlives_a_stop_a_crash_and_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open_ready(dir.path());
    move_to(&storage, b"1", 10);
    move_to(&storage, b"2", 20);
    storage.close();
    drop(storage);
    let storage = open_ready(dir.path());
    move_to(&storage, b"3", 30);
    let past = before(&storage);
    assert_eq!(past.iter().map(|past| past.digest).collect::<Vec<_>>(), [digest(b"1"), digest(b"2")]);
    drop(storage);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let storage = open_ready(dir.path());
    assert_eq!(before(&storage), past);
    move_to(&storage, b"1", 40);
    assert_eq!(before(&storage).len(), 3);
    // The index has the record alone, so that neither it nor a look at a tag grows.
    let key = RepositoryKey::new(&repository("a"));
    super::eventually(|| storage.disk.index.tag(&key, &tag("t")).is_some());
    let text = storage.disk.index.tag(&key, &tag("t")).unwrap();
    assert_eq!(record::decode::<TagRecord>(&text).unwrap(), TagRecord { updated: 40, ..tag_record("t", b"1") });
    assert!(memchr::memmem::find(&text, b"before").is_none());
}

#[test]
fn records_of_older_versions_are_read_and_they_read_these() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let file = dir.path().join("repos/docker.io/a/tags/t");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, record::encode(&tag_record("t", b"old")).unwrap()).unwrap();
    let storage = open_ready(dir.path());
    let seen = storage.catalog.tag_history(&repository("a"), &tag("t")).unwrap().unwrap();
    assert_eq!((seen.record, seen.before), (tag_record("t", b"old"), vec![]));
    move_to(&storage, b"new", 1_800_000_000);
    let past = before(&storage);
    assert_eq!((past[0].digest, past[0].from), (digest(b"old"), 1_700_000_000));
    // What an older lanyard makes of it.
    let record = record::read::<TagRecord>(&file).unwrap().unwrap();
    assert_eq!(record.digest, digest(b"new"));
}

#[test]
fn a_record_with_its_history_stays_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let media_type = format!("application/{}", "x".repeat(2_000));
    for n in 0..2 * MOVES as u64 {
        let record = TagRecord { media_type: media_type.clone(), updated: n, ..tag_record("t", &n.to_be_bytes()) };
        storage.catalog.put_tag(&repository("a"), &record).unwrap();
    }
    let past = before(&storage);
    assert!((3..MOVES).contains(&past.len()), "{} moves of this size", past.len());
    assert_eq!(past.last().unwrap().digest, digest(&(2 * MOVES as u64 - 2).to_be_bytes()));
    // A damaged file is no obstacle to the next move, which begins a history anew.
    fs::write(dir.path().join("repos/docker.io/a/tags/t"), "torn").unwrap();
    move_to(&storage, b"next", 99);
    assert_eq!(before(&storage), []);
}
