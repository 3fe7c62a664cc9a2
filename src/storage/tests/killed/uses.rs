//! The order of last uses survives `kill -9` (K12).

use std::io::{BufRead as _, BufReader};

use super::*;
use crate::{
    runtime::clock,
    storage::tests::uses::{HOUR, age_file, all_uses, shown},
};

const SERVE: &str = "storage::tests::killed::uses::child_that_serves";
const OPEN: &str = "storage::tests::killed::uses::child_that_opens_a_blob";
const INDEX: &str = "LANYARD_TEST_INDEX";

fn manifest() -> Vec<u8> {
    format!(r#"{{"layers":[{{"digest":"{}","size":5}}]}}"#, digest(b"layer")).into_bytes()
}

/// A folder whose blobs came ten days ago. Each was used some hours before the next one.
fn prepare(dir: &Path) {
    let storage = open(dir);
    let manifest = manifest();
    let blobs = [&b"used"[..], &manifest, b"layer", b"cold", b"cool", b"mild"];
    for (bytes, hours) in blobs.into_iter().zip([80, 70, 60, 50, 40, 2]) {
        storage.blobs.put(&digest(bytes), bytes).unwrap();
        age_file(&storage, &digest(bytes), hours * HOUR);
    }
}

#[test]
fn k12_after_a_kill_the_order_of_last_uses_is_right_to_an_hour() {
    for (index, delete) in [("on", false), ("on", true), ("off", false)] {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let mut command = child(SERVE, dir.path(), &[]);
        let mut serving = command.env(INDEX, index).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(serving.stdout.take().unwrap()).lines();
        let used = lines.map_while(Result::ok).any(|line| line == "used");
        serving.kill().unwrap();
        serving.wait().unwrap();
        assert!(used, "index {index}");
        if delete {
            std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        let storage = open_ready(dir.path());
        let mut uses = all_uses(&storage);
        uses.sort_by_key(|(_, blob)| blob.last);
        let (before, after) = uses.split_at(3);
        let names = |uses: &[(Digest, BlobUse)]| uses.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names(before), [b"cold", b"cool", b"mild"].map(|bytes| digest(bytes)));
        assert_eq!(after.len(), 3, "the blob, the manifest, and the layer that it names");
        for (name, blob) in &uses {
            let recent = clock::milliseconds() - blob.last < 60 * 60 * 1000;
            assert_eq!(recent, names(after).contains(name), "{name}: {blob:?}");
            assert_eq!(blob.uses, 2, "each was used a day after it came, or later");
        }
    }
}

#[test]
#[ignore = "run, and killed, by the test above"]
fn child_that_serves() {
    let storage = open_ready(&child_dir());
    if std::env::var(INDEX).as_deref() == Ok("off") {
        storage.disk.index.close();
    }
    storage.blobs.open(&digest(b"used")).unwrap().unwrap();
    storage.manifest_uses.note(&digest(&manifest()), clock::now());
    eventually(|| shown(&storage, &digest(b"layer")) < HOUR);
    println!("\nused");
    loop {
        std::thread::park();
    }
}

/// The access time that shows a use costs one system call an hour for a blob, and no use more.
#[test]
fn k12_the_access_time_costs_a_system_call_an_hour() {
    if strace_is_missing() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    let calls = tempfile::NamedTempFile::new().unwrap();
    let file = calls.path().to_str().unwrap();
    let words = ["strace", "-f", "-qq", "-o", file, "-e", "trace=utimensat"];
    let output = child(OPEN, dir.path(), &words).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success());
    let calls = std::fs::read_to_string(calls.path()).unwrap();
    let set = calls.lines().filter(|line| line.contains("utimensat("));
    assert_eq!(set.count(), 2, "one for each blob: {calls}");
}

#[test]
#[ignore = "run by the test above"]
fn child_that_opens_a_blob() {
    let storage = open_ready(&child_dir());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..50).for_each(|_| drop(storage.blobs.open(&digest(b"used")).unwrap())));
        }
    });
    storage.blobs.open(&digest(b"mild")).unwrap();
}
