//! FAULTS.md, "sled lost / corrupt / truncated / stale copy": no wrong answer, no failed start.

use std::{fs, path::Path};

use proptest::prelude::*;

use super::open;
use crate::storage::{
    Files,
    tests::{eventually, link_record, open as open_folder, open_ready, repository, tag, tag_record},
};

fn fill(dir: &Path) {
    let storage = open_ready(dir);
    for n in 0..20 {
        storage.catalog.put_tag(&repository("a"), &tag_record(&format!("t{n}"), b"1")).unwrap();
    }
    storage.catalog.put_links(&repository("a"), &[link_record(b"1"), link_record(b"2")]).unwrap();
    storage.close();
}

fn check(storage: &Files, content: &[u8]) {
    let a = repository("a");
    assert_eq!(storage.catalog.tags(&a).unwrap().len(), 20);
    for n in 0..20 {
        let record = tag_record(&format!("t{n}"), content);
        assert_eq!(storage.catalog.tag(&a, &record.tag).unwrap(), Some(record));
    }
    assert_eq!(storage.catalog.link(&a, &link_record(b"2").digest).unwrap(), Some(link_record(b"2")));
}

/// A start that finds this index answers rightly at once, and from an index of its own in the end.
fn starts(dir: &Path, content: &[u8]) {
    let storage = open_folder(dir);
    check(&storage, content);
    // Damage that shows only when it is read puts it out of use; that is no wrong answer either.
    eventually(|| storage.index_is_ready() || storage.disk.index.is_off());
    check(&storage, content);
    storage.close();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}

#[test]
fn an_orderly_stop_is_believed_once() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let mark = dir.path().join("index.clean");
    assert!(mark.exists());
    let storage = open_ready(dir.path());
    assert!(!mark.exists());
    check(&storage, b"1");
    // Proof that it answers from sled: without the file, the tag is still known. (Nobody but a test
    // does this.)
    fs::remove_file(dir.path().join("repos/docker.io/a/tags/t3")).unwrap();
    assert!(storage.catalog.tag(&repository("a"), &tag("t3")).unwrap().is_some());
    drop(storage);
    let storage = open_ready(dir.path());
    assert!(storage.catalog.tag(&repository("a"), &tag("t3")).unwrap().is_none(), "a crash: filled from files");
}

#[test]
fn a_lost_index_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for lose in ["index", "index/db", "index/conf", "index.clean"] {
        fill(dir.path());
        let path = dir.path().join(lose);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
        starts(dir.path(), b"1");
    }
}

#[test]
fn an_index_deleted_under_a_running_process_breaks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let storage = open_ready(dir.path());
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    check(&storage, b"1");
    for n in 0..20 {
        storage.catalog.put_tag(&repository("a"), &tag_record(&format!("t{n}"), b"2")).unwrap();
    }
    check(&storage, b"2");
    storage.close();
    check(&storage, b"2");
    drop(storage);
    starts(dir.path(), b"2");
}

#[test]
fn an_older_copy_is_not_believed() {
    let (dir, aside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(dir.path());
    copy(&dir.path().join("index"), aside.path());
    let storage = open_ready(dir.path());
    for n in 0..20 {
        storage.catalog.put_tag(&repository("a"), &tag_record(&format!("t{n}"), b"2")).unwrap();
    }
    storage.close();
    drop(storage);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    copy(aside.path(), &dir.path().join("index"));
    starts(dir.path(), b"2");
}

#[test]
fn an_index_of_another_version_is_filled_anew() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    {
        let db = sled::open(dir.path().join("index")).unwrap();
        let token = db.remove(open::TOKEN).unwrap().unwrap();
        db.insert(b"token 3", token).unwrap();
        db.open_tree("blobs").unwrap().insert(b"sha256:short", &[0; 16]).unwrap();
        db.flush().unwrap();
    }
    starts(dir.path(), b"1");
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().any(|name| name.starts_with("index.bad-")), "it is set aside");
    let storage = open_ready(dir.path());
    let trees = storage.disk.index.shared.ready().unwrap();
    assert!(trees.db.get(b"token 3").unwrap().is_none() && trees.blobs.is_empty());
}

#[test]
fn an_index_that_cannot_be_is_done_without() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    fs::write(dir.path().join("index"), b"a file where a folder should be").unwrap();
    starts(dir.path(), b"1");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 10, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_index_gives_no_wrong_answer(at: prop::sample::Index, how in 0..3, which: prop::sample::Index) {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        let mut files: Vec<_> = fs::read_dir(dir.path().join("index")).unwrap()
            .map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
        files.sort();
        let file = which.get(&files);
        let mut bytes = fs::read(file).unwrap();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] ^= 0x10,
                1 => bytes.truncate(at),
                _ => bytes[at..].iter_mut().take(4096).for_each(|byte| *byte = 0),
            }
        }
        fs::write(file, bytes).unwrap();
        starts(dir.path(), b"1");
    }
}
