//! The room as a whole, and what its tests share.

mod faults;
mod history;
mod hosted;
mod killed;
mod known;
mod measured;
mod opening;
mod pins;
mod removal;
mod reserved;
mod room;
mod rot;
pub(super) mod uses;

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use super::{downloads::PartFile, files::Files, layout::Layout, *};
use crate::config::MinFree;
use crate::oci::{Algorithm, Digest, Hasher, Namespace, Repository, Tag};

pub(super) const LIMITS: Limits = Limits { max_size: None, min_free: MinFree::Bytes(0) };

pub(super) fn open(dir: &Path) -> Files {
    Files::open(dir, LIMITS).unwrap()
}

/// Opens it and waits until reads come from the index.
pub(super) fn open_ready(dir: &Path) -> Files {
    let storage = open(dir);
    eventually(|| storage.index_is_ready());
    storage
}

/// Waits for what a background thread is about to do.
pub(super) fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come about");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Says where the test runner does not swallow it that the running test does nothing, and why. With
/// `LANYARD_REQUIRE_FAULTS=1`, as in CI, it is a failure.
pub(super) fn left_out(reason: &str) {
    assert_ne!(std::env::var("LANYARD_REQUIRE_FAULTS").as_deref(), Ok("1"), "{reason}");
    let thread = std::thread::current();
    let line = format!("left out: {reason}; {} was not run\n", thread.name().unwrap_or("a test"));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

pub(super) fn digest(bytes: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, bytes)
}

pub(super) fn repository(name: &str) -> Repository {
    Repository { namespace: Namespace::Upstream("docker.io".parse().unwrap()), name: name.parse().unwrap() }
}

pub(super) fn hosted(name: &str) -> Repository {
    Repository { namespace: Namespace::Hosted, name: name.parse().unwrap() }
}

pub(super) fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

pub(super) fn tag_record(name: &str, content: &[u8]) -> TagRecord {
    TagRecord {
        tag: tag(name),
        digest: digest(content),
        media_type: crate::oci::OCI_IMAGE.to_owned(),
        size: content.len() as u64,
        updated: 1_700_000_000,
    }
}

pub(super) fn link_record(content: &[u8]) -> LinkRecord {
    LinkRecord {
        digest: digest(content),
        media_type: String::new(),
        size: content.len() as u64,
        subject: None,
        right: LinkRight::Fetched,
        created: 1_700_000_000,
    }
}

/// Bytes that no two places share, so that a wrong offset is a wrong digest.
pub(super) fn content(length: usize) -> Vec<u8> {
    (0..length.div_ceil(8) as u64)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .take(length)
        .collect()
}

/// Bytes as they come from a connection.
pub(super) fn batch(bytes: &[u8]) -> Vec<bytes::Bytes> {
    vec![bytes::Bytes::copy_from_slice(bytes)]
}

/// Runs an ignored test of this binary in a process of its own; `before` are words put before its
/// command.
pub(super) fn child(test: &str, dir: &Path, before: &[&str]) -> std::process::Command {
    let this = std::env::current_exe().unwrap();
    let mut words: Vec<&std::ffi::OsStr> = before.iter().map(std::ffi::OsStr::new).collect();
    words.push(this.as_os_str());
    let mut command = std::process::Command::new(words[0]);
    command.args(&words[1..]).args(["--exact", test, "--ignored", "--nocapture"]).env("LANYARD_TEST_DIR", dir);
    command
}

/// The folder that [`child`] was given.
pub(super) fn child_dir() -> std::path::PathBuf {
    std::env::var_os("LANYARD_TEST_DIR").unwrap().into()
}

fn assert_send_sync<T: Send + Sync>() {}

#[test]
fn everything_may_go_to_any_thread() {
    assert_send_sync::<Files>();
    assert_send_sync::<PartFile>();
    assert_send_sync::<StorageError>();
}

#[test]
fn a_manifest_is_stored_verified_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let bytes = content(2000);
    let name = digest(&bytes);
    assert!(storage.blobs.open(&name).unwrap().is_none() && storage.blobs.read(&name, 9999).unwrap().is_none());
    storage.blobs.put(&name, &bytes).unwrap();
    storage.blobs.put(&name, &bytes).unwrap();
    assert_eq!(storage.blobs.read(&name, 2000).unwrap().unwrap(), bytes);
    assert_eq!(storage.blobs.size(&name).unwrap(), Some(2000));
    assert!(matches!(storage.blobs.read(&name, 1999), Err(StorageError::TooLarge { size: 2000, max: 1999, .. })));
    assert!(matches!(storage.blobs.put(&digest(b"other"), &bytes), Err(StorageError::WrongDigest(_))));
    assert!(storage.blobs.open(&digest(b"other")).unwrap().is_none());
    let long = Hasher::digest(Algorithm::Sha512, &bytes);
    storage.blobs.put(&long, &bytes).unwrap();
    assert_eq!(storage.blobs.read(&long, 2000).unwrap().unwrap(), bytes);
    eventually(|| storage.usage() == Usage { blobs: 2, bytes: 4000, complete: true, ..Usage::default() });
    assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_rotten_manifest_goes_to_the_quarantine_and_can_be_stored_again() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let name = digest(b"manifest");
    storage.blobs.put(&name, b"manifest").unwrap();
    std::fs::write(dir.path().join(format!("blobs/sha256/{}/{}", &name.hex()[..2], name.hex())), b"manifesT").unwrap();
    assert!(storage.blobs.read(&name, 100).unwrap().is_none());
    assert!(storage.blobs.open(&name).unwrap().is_none());
    assert_eq!(std::fs::read(dir.path().join(format!("quarantine/sha256-{}", name.hex()))).unwrap(), b"manifesT");
    storage.blobs.put(&name, b"manifest").unwrap();
    assert_eq!(storage.blobs.read(&name, 100).unwrap().unwrap(), &b"manifest"[..]);
    storage.blobs.quarantine(&digest(b"never here")).unwrap();
    eventually(|| storage.usage() == Usage { blobs: 1, bytes: 8, complete: true, ..Usage::default() });
}

#[test]
fn usage_is_the_same_by_count_and_by_the_clean_mark() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    for n in 0..50_usize {
        storage.blobs.put(&digest(&content(n)), &content(n)).unwrap();
    }
    let expected = Usage { blobs: 50, bytes: (0..50).sum(), complete: true, ..Usage::default() };
    eventually(|| storage.usage() == expected);
    drop(storage);
    let storage = open(dir.path());
    eventually(|| storage.usage() == expected);
    eventually(|| storage.index_is_ready());
    storage.close();
    drop(storage);
    let storage = open(dir.path());
    assert_eq!(storage.usage(), expected);
    let limited = Limits { max_size: Some(expected.bytes + 10), ..LIMITS };
    storage.close();
    drop(storage);
    let storage = Files::open(dir.path(), limited).unwrap();
    assert!(storage.room_for(10) && !storage.room_for(11));
}

#[test]
fn after_close_nothing_changes_and_everything_is_readable() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open_ready(dir.path());
    let repository = repository("library/a");
    storage.blobs.put(&digest(b"x"), b"x").unwrap();
    storage.catalog.put_tag(&repository, &tag_record("t", b"x")).unwrap();
    storage.close();
    storage.close();
    assert!(!storage.writable() && !storage.room_for(1));
    assert!(matches!(storage.blobs.put(&digest(b"z"), b"z"), Err(StorageError::Closed)));
    assert!(matches!(storage.catalog.put_tag(&repository, &tag_record("t", b"z")), Err(StorageError::Closed)));
    assert!(matches!(storage.downloads.open(digest(b"z"), None), Err(StorageError::Closed)));
    assert_eq!(storage.blobs.read(&digest(b"x"), 9).unwrap().unwrap(), &b"x"[..]);
    assert_eq!(storage.catalog.tag(&repository, &tag("t")).unwrap(), Some(tag_record("t", b"x")));
}
