//! Full, read-only and forbidden disks: on a file system of the test's own, in a mount namespace of
//! its own.

use std::process::Command;

use super::*;

/// Runs the child on a small tmpfs. Where the kernel does not let this user mount, says so and
/// leaves it out.
fn on_a_small_disk(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let tried = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "tmpfs"]).arg(dir.path()).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        left_out("this user may not mount a tmpfs");
        return;
    }
    let script = "mount -t tmpfs -o size=8m,mode=0777 tmpfs \"$LANYARD_TEST_DIR\" && exec \"$@\"";
    let output = child(test, dir.path(), &["unshare", "-rm", "sh", "-c", script, "sh"]).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_full_disk_is_told_apart_and_recovers_alone() {
    on_a_small_disk("storage::tests::faults::child_on_a_full_disk");
}

#[test]
#[ignore = "run by the test above, on a disk of its own"]
fn child_on_a_full_disk() {
    let dir = child_dir().join("data");
    let storage = open(&dir);
    storage.blobs.put(&digest(b"x"), b"x").unwrap();
    storage.catalog.put_tag(&repository("a"), &tag_record("t", b"x")).unwrap();
    // With a size that is known there is no byte written in vain, and what was reserved is given
    // back.
    let mut large = storage.downloads.open(digest(b"large"), Some(64 << 20)).unwrap();
    assert!(matches!(large.set_total(Some(64 << 20)), Err(StorageError::NoSpace { .. })));
    large.discard().unwrap();
    // Without one it ends where the disk ends.
    let bytes = content(16 << 20);
    let mut part = storage.downloads.open(digest(&bytes), None).unwrap();
    let error = bytes.chunks(300_000).find_map(|piece| part.append(batch(piece)).err()).unwrap();
    assert!(matches!(error, StorageError::NoSpace { .. }), "{error}");
    let offset = part.offset() as usize;
    assert!(offset > 4 << 20 && offset < 8 << 20, "{offset}");
    assert!(part.agrees(), "what was not written is not hashed");
    let manifest = content(100_000);
    assert!(matches!(storage.blobs.put(&digest(&manifest), &manifest), Err(StorageError::NoSpace { .. })));
    assert!(matches!(
        storage.catalog.put_tag(&repository("b"), &tag_record("t", b"x")),
        Err(StorageError::NoSpace { .. })
    ));
    assert!(matches!(storage.uploads.begin(&hosted("a")), Err(StorageError::NoSpace { .. })));
    assert_eq!(std::fs::read_dir(dir.join("uploads")).unwrap().count(), 0, "what never began leaves nothing behind");
    assert!(!storage.room_for(8 << 20));
    assert_eq!(storage.catalog.tag(&repository("a"), &tag("t")).unwrap(), Some(tag_record("t", b"x")));
    drop(part);
    drop(storage);
    for _ in 0..20 {
        let storage = open(&dir);
        assert_eq!(storage.blobs.read(&digest(b"x"), 9).unwrap().unwrap(), &b"x"[..]);
        assert_eq!(storage.downloads.open(digest(&bytes), None).unwrap().offset() as usize, offset);
    }
    let storage = open(&dir);
    storage.downloads.open(digest(&bytes), None).unwrap().discard().unwrap();
    storage.blobs.put(&digest(&manifest), &manifest).unwrap();
    storage.catalog.put_tag(&repository("b"), &tag_record("t", b"x")).unwrap();
    eventually(|| storage.room_for(1 << 20));
}

#[test]
fn a_read_only_disk_is_served() {
    on_a_small_disk("storage::tests::faults::child_on_a_read_only_disk");
}

#[test]
#[ignore = "run by the test above, on a disk of its own"]
fn child_on_a_read_only_disk() {
    let root = child_dir();
    let remount = |how: &str| {
        let status = Command::new("mount").args(["-o", how]).arg(&root).status().unwrap();
        assert!(status.success());
    };
    let dir = root.join("data");
    let storage = open(&dir);
    storage.blobs.put(&digest(b"x"), b"x").unwrap();
    storage.catalog.put_tag(&repository("a"), &tag_record("t", b"x")).unwrap();
    let check = |storage: &Files| {
        eventually(|| !storage.writable() && !storage.room_for(1));
        assert_eq!(storage.blobs.read(&digest(b"x"), 9).unwrap().unwrap(), &b"x"[..]);
        assert_eq!(storage.catalog.tag(&repository("a"), &tag("t")).unwrap(), Some(tag_record("t", b"x")));
        assert_eq!(storage.catalog.tags(&repository("a")).unwrap(), [tag("t")]);
        assert!(matches!(storage.blobs.put(&digest(b"z"), b"z"), Err(StorageError::ReadOnly)));
        assert!(matches!(
            storage.catalog.put_tag(&repository("a"), &tag_record("t", b"z")),
            Err(StorageError::ReadOnly)
        ));
        assert!(matches!(storage.downloads.open(digest(b"z"), Some(1)), Err(StorageError::ReadOnly)));
    };
    drop(storage);
    remount("remount,ro");
    let storage = open(&dir);
    check(&storage);
    assert!(matches!(Files::open(&dir, LIMITS), Err(OpenError::Locked { .. })));
    storage.close();
    let error = Files::open(&root.join("other"), LIMITS).unwrap_err();
    assert!(matches!(error, OpenError::ReadOnly(_)), "{error}");
}
