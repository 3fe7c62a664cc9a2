//! FAULTS.md, "bit rot in blob": what was found rotten, or is, gives way to what is good, and never the other way round.

use std::{fs, io::Read, os::unix::fs::FileExt};

use super::*;

/// Flips a bit of the blob's file: it stays as long as it was.
fn rot(storage: &Storage, name: &Digest) {
    let path = storage.disk.layout.blob(name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] ^= 1;
    fs::write(&path, bytes).unwrap();
}

fn on_disk(storage: &Storage, name: &Digest) -> Vec<u8> {
    fs::read(storage.disk.layout.blob(name)).unwrap()
}

#[test]
fn what_is_stored_again_takes_the_place_of_what_has_rotted() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let bytes = content(300_000);
    let name = digest(&bytes);
    let usage = Usage { blobs: 1, bytes: 300_000, hosted: 300_000, complete: true };
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
        let mut part = storage.parts.open(name, None).unwrap();
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
    let BlobStore::FileSystem(blobs) = &storage.blobs;
    let name = digest(b"blob");
    let away = dir.path().join(format!("quarantine/sha256-{}", name.hex()));
    storage.blobs.put(&name, b"blob").unwrap();
    rot(&storage, &name);
    let found = storage.blobs.open(&name).unwrap().unwrap();
    let mut read = Vec::new();
    (&*found.file).read_to_end(&mut read).unwrap();
    assert_ne!(read, b"blob");
    storage.blobs.put(&name, b"blob").unwrap();
    blobs.rotten(&name, &found.file).unwrap();
    assert_eq!(on_disk(&storage, &name), b"blob");
    assert!(!away.exists());
    eventually(|| storage.usage() == Usage { blobs: 1, bytes: 4, complete: true, ..Usage::default() });
    rot(&storage, &name);
    let found = storage.blobs.open(&name).unwrap().unwrap();
    blobs.rotten(&name, &found.file).unwrap();
    assert!(away.exists() && storage.blobs.size(&name).unwrap().is_none());
    blobs.rotten(&name, &found.file).unwrap();
    assert_eq!(storage.usage().blobs, 0);
}
