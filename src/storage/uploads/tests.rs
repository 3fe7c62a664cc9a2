use std::{fs, os::unix::fs::FileExt, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::*;
use crate::{
    oci::{Digest, Hasher},
    storage::{
        Files, Removal, Respect, StoredBlob,
        tests::{batch, content, digest, hosted, open},
    },
};

const MIB: usize = 1 << 20;

fn read(blob: &StoredBlob) -> Vec<u8> {
    let mut bytes = vec![0; blob.size as usize];
    blob.file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The upload, which is there.
fn take_up(storage: &Files, id: &UploadId) -> Upload {
    storage.uploads.open(&hosted("a"), id).unwrap().unwrap()
}

/// Gives the upload the rest, and expects the blob.
fn finish(mut upload: Upload, bytes: &[u8], name: &Digest) -> StoredBlob {
    let from = upload.offset() as usize;
    for piece in bytes[from..].chunks(100_000) {
        upload.append(batch(piece)).unwrap();
    }
    upload.finish(name).unwrap()
}

fn folders(dir: &Path) -> usize {
    fs::read_dir(dir.join("uploads")).unwrap().count()
}

#[test]
fn an_upload_becomes_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    for (length, chunk, algorithm) in [
        (0, 1, Algorithm::Sha256),
        (0, 1, Algorithm::Sha512),
        (5, 2, Algorithm::Sha256),
        (3 * MIB + 7, MIB + 1, Algorithm::Sha256),
        (3 * MIB + 7, MIB - 1, Algorithm::Sha512),
        (70 * MIB, 70 * MIB, Algorithm::Sha256),
    ] {
        let bytes = content(length);
        let name = Hasher::digest(algorithm, &bytes);
        let id = storage.uploads.begin(&hosted("a")).unwrap();
        assert_eq!(storage.uploads.all().unwrap().len(), 1);
        let mut sent = 0;
        for chunk in bytes.chunks(chunk) {
            let mut upload = take_up(&storage, &id);
            assert_eq!((upload.id(), upload.offset()), (id, sent));
            upload.append(batch(chunk)).unwrap();
            sent += chunk.len() as u64;
            assert_eq!(upload.offset(), sent);
            assert_eq!(upload.park().unwrap(), sent);
            assert_eq!(storage.uploads.offset(&hosted("a"), &id).unwrap(), Some(sent));
        }
        let blob = take_up(&storage, &id).finish(&name).unwrap();
        assert!(read(&blob) == bytes && read(&storage.blobs.open(&name).unwrap().unwrap()) == bytes);
        assert!(storage.uploads.open(&hosted("a"), &id).unwrap().is_none());
        assert_eq!((storage.uploads.all().unwrap().len(), folders(dir.path())), (0, 0));
    }
}

#[test]
fn an_upload_belongs_to_its_repository_and_to_one_request_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let (uploads, a, b) = (&storage.uploads, hosted("a"), hosted("b"));
    let id = uploads.begin(&a).unwrap();
    let unknown = UploadId::random();
    for (repository, id) in [(&b, &id), (&a, &unknown)] {
        assert!(uploads.open(repository, id).unwrap().is_none());
        assert_eq!(uploads.offset(repository, id).unwrap(), None);
        assert!(!uploads.cancel(repository, id).unwrap());
    }
    let mut upload = take_up(&storage, &id);
    upload.append(batch(b"12345")).unwrap();
    assert!(matches!(uploads.open(&a, &id), Err(StorageError::UploadBusy(busy)) if busy == id));
    assert!(matches!(uploads.cancel(&a, &id), Err(StorageError::UploadBusy(_))));
    assert!(uploads.open(&b, &id).unwrap().is_none(), "nor is another repository told that it is busy");
    assert_eq!(uploads.offset(&a, &id).unwrap(), Some(0), "only what lasts counts");
    upload.park().unwrap();
    assert_eq!(uploads.offset(&a, &id).unwrap(), Some(5));
    assert!(uploads.cancel(&a, &id).unwrap() && !uploads.cancel(&a, &id).unwrap());
    assert!(uploads.open(&a, &id).unwrap().is_none());
    assert_eq!(folders(dir.path()), 0);
}

/// The hash of an upload whose algorithm was said is kept from its first byte on, and beside it on
/// disk.
#[test]
fn an_upload_is_hashed_by_the_algorithm_it_was_begun_with() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(MIB);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let storage = open(dir.path());
        let id = storage.uploads.begin_with(&hosted("a"), algorithm).unwrap();
        let mut upload = take_up(&storage, &id);
        assert_eq!(upload.algorithm(), Some(algorithm));
        upload.append(batch(&bytes[..600_000])).unwrap();
        upload.park().unwrap();
        let state = State::read(&dir.path().join(format!("uploads/{id}"))).unwrap().unwrap();
        assert_eq!(state.meta.algorithm, Some(algorithm));
        let saved = BASE64_STANDARD.decode(&state.hash_state).unwrap();
        let hasher = Hasher::restore(algorithm, &saved).unwrap();
        assert_eq!(hasher.finish(), Hasher::digest(algorithm, &bytes[..600_000]));
        drop(storage);
        let storage = open(dir.path());
        let upload = take_up(&storage, &id);
        assert_eq!((upload.algorithm(), upload.offset()), (Some(algorithm), 600_000));
        let name = Hasher::digest(algorithm, &bytes);
        assert!(read(&finish(upload, &bytes, &name)) == bytes);
    }
    // What an earlier lanyard wrote says nothing.
    let storage = open(dir.path());
    let id = storage.uploads.begin(&hosted("a")).unwrap();
    let text = fs::read_to_string(dir.path().join(format!("uploads/{id}/state"))).unwrap();
    assert!(!text.contains("algorithm"));
    assert_eq!(take_up(&storage, &id).algorithm(), None);
}

#[test]
fn what_does_not_have_its_digest_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    for promised in [digest(b"right"), Hasher::digest(Algorithm::Sha512, b"right")] {
        let id = storage.uploads.begin(&hosted("a")).unwrap();
        let mut upload = take_up(&storage, &id);
        upload.append(batch(b"wrong")).unwrap();
        assert!(matches!(upload.finish(&promised), Err(StorageError::WrongDigest(digest)) if digest == promised));
        assert!(storage.blobs.open(&promised).unwrap().is_none());
        assert!(storage.uploads.open(&hosted("a"), &id).unwrap().is_none());
        assert_eq!(folders(dir.path()), 0);
    }
}

#[test]
fn a_blob_that_is_here_already_stays_and_is_leased() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    storage.leases.set_grace(std::time::Duration::ZERO);
    storage.blobs.put(&digest(b"x"), b"x").unwrap();
    let id = storage.uploads.begin(&hosted("a")).unwrap();
    finish(take_up(&storage, &id), b"x", &digest(b"x"));
    assert_eq!(folders(dir.path()), 0);
    storage.leases.set_grace(Duration::from_secs(60));
    assert_eq!(storage.blobs.remove_unheld(&digest(b"x"), &storage.catalog, Respect::All).unwrap(), Removal::Leased);
}

#[test]
fn a_dropped_upload_is_taken_up_where_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let (a, bytes) = (hosted("a"), content(2 * MIB));
    let id = storage.uploads.begin(&a).unwrap();
    let mut upload = take_up(&storage, &id);
    upload.append(batch(&bytes[..MIB])).unwrap();
    // A request that breaks off.
    drop(upload);
    assert_eq!(storage.uploads.offset(&a, &id).unwrap(), Some(MIB as u64));
    let state = State::read(&dir.path().join(format!("uploads/{id}"))).unwrap().unwrap();
    assert_eq!(state.durable_offset, MIB as u64, "what was said lasts");
    drop(storage);
    let storage = open(dir.path());
    assert_eq!(take_up(&storage, &id).offset(), MIB as u64);
    assert!(read(&finish(take_up(&storage, &id), &bytes, &digest(&bytes))) == bytes);
}

/// FAULTS.md, "restart during upload": after a power cut only what was synced counts.
#[test]
fn after_a_power_cut_only_what_lasts_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (a, bytes) = (hosted("a"), content(2 * MIB));
    let storage = open(dir.path());
    let unnamed = Uploads { boot: None, ..storage.uploads.clone() };
    let id = unnamed.begin(&a).unwrap();
    let mut upload = unnamed.open(&a, &id).unwrap().unwrap();
    upload.append(batch(&bytes[..600_000])).unwrap();
    assert_eq!(upload.park().unwrap(), 600_000);
    let mut upload = unnamed.open(&a, &id).unwrap().unwrap();
    upload.append(batch(&bytes[600_000..1_200_000])).unwrap();
    drop(upload);
    assert_eq!(unnamed.offset(&a, &id).unwrap(), Some(600_000));
    let upload = unnamed.open(&a, &id).unwrap().unwrap();
    assert_eq!(upload.offset(), 600_000);
    finish(upload, &bytes, &digest(&bytes));
    // A state that is damaged, or promises more than there is: it is unknown, and goes with the
    // sweep.
    for damage in ["state", "data"] {
        let id = storage.uploads.begin(&a).unwrap();
        let mut upload = take_up(&storage, &id);
        upload.append(batch(&bytes)).unwrap();
        upload.park().unwrap();
        let file = dir.path().join(format!("uploads/{id}/{damage}"));
        fs::write(&file, &fs::read(&file).unwrap()[..50]).unwrap();
        assert!(storage.uploads.open(&a, &id).unwrap().is_none(), "{damage}");
        assert_eq!(storage.uploads.offset(&a, &id).unwrap(), None, "{damage}");
    }
    storage.leases.set_grace(Duration::ZERO);
    assert_eq!(storage.uploads.sweep(Duration::ZERO).unwrap(), 2);
    assert_eq!(folders(dir.path()), 0);
}

/// FAULTS.md, "bit rot in blob": what an earlier process wrote is read again before it becomes a
/// blob.
#[test]
fn what_rotted_between_two_runs_is_noticed_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (a, bytes) = (hosted("a"), content(2 * MIB));
    for rots in [false, true] {
        let storage = open(dir.path());
        let id = storage.uploads.begin(&a).unwrap();
        let mut upload = take_up(&storage, &id);
        upload.append(batch(&bytes[..MIB])).unwrap();
        upload.park().unwrap();
        drop(storage);
        if rots {
            let file = fs::File::options().write(true).open(dir.path().join(format!("uploads/{id}/data"))).unwrap();
            file.write_all_at(&[bytes[1000] ^ 1], 1000).unwrap();
        }
        let storage = open(dir.path());
        // A chunk of this process does not make the first one its own.
        let mut upload = take_up(&storage, &id);
        upload.append(batch(&bytes[MIB..MIB + 1])).unwrap();
        upload.park().unwrap();
        let mut upload = take_up(&storage, &id);
        upload.append(batch(&bytes[MIB + 1..])).unwrap();
        let finished = upload.finish(&digest(&bytes));
        assert_eq!(matches!(finished, Err(StorageError::WrongDigest(_))), rots, "{finished:?}");
        assert_eq!(folders(dir.path()), 0);
        drop(finished);
        storage.blobs.quarantine(&digest(&bytes)).unwrap();
    }
}

/// As if it had been given nothing for so long.
fn age(dir: &Path, id: &UploadId, by: Duration) {
    let data = fs::File::options().write(true).open(dir.join(format!("uploads/{id}/data"))).unwrap();
    data.set_modified(SystemTime::now() - by).unwrap();
}

/// FAULTS.md, "clock jump": no mass expiry.
#[test]
fn a_clock_that_jumps_removes_no_upload_that_was_used_within_the_hour() {
    let dir = tempfile::tempdir().unwrap();
    let (a, day, days) = (hosted("a"), Duration::from_secs(24 * 3600), Duration::from_secs(240 * 3600));
    let storage = open(dir.path());
    let ids = [(); 3].map(|()| storage.uploads.begin(&a).unwrap());
    take_up(&storage, &ids[1]).park().unwrap();
    drop(take_up(&storage, &ids[2]));
    ids.iter().for_each(|id| age(dir.path(), id, days));
    assert_eq!((storage.uploads.idle(day).unwrap().len(), storage.uploads.sweep(day).unwrap()), (0, 0));
    drop(storage);
    // After a start nobody knows who was told what.
    let storage = open(dir.path());
    assert_eq!(storage.uploads.sweep(day).unwrap(), 0);
    take_up(&storage, &ids[0]).park().unwrap();
    ids.iter().for_each(|id| age(dir.path(), id, days));
    assert_eq!(storage.uploads.uses.len(), 1);
    storage.leases.set_grace(Duration::ZERO);
    assert_eq!((storage.uploads.idle(day).unwrap().len(), storage.uploads.sweep(day).unwrap()), (3, 3));
    assert_eq!((storage.uploads.uses.len(), folders(dir.path())), (0, 0));
}

#[test]
fn a_chunk_that_comes_between_the_look_and_the_removal_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (a, day) = (hosted("a"), Duration::from_secs(24 * 3600));
    let storage = open(dir.path());
    storage.leases.set_grace(Duration::ZERO);
    let id = storage.uploads.begin(&a).unwrap();
    age(dir.path(), &id, day);
    assert_eq!(storage.uploads.idle(day).unwrap(), [id]);
    let mut upload = take_up(&storage, &id);
    upload.append(batch(b"12345")).unwrap();
    assert!(!storage.uploads.sweep_one(id, day).unwrap(), "a request writes it");
    assert_eq!(upload.park().unwrap(), 5);
    assert!(!storage.uploads.sweep_one(id, day).unwrap(), "it is not idle any more");
    assert_eq!(storage.uploads.offset(&a, &id).unwrap(), Some(5));
    age(dir.path(), &id, day);
    assert!(storage.uploads.sweep_one(id, day).unwrap());
}

#[test]
fn what_is_known_of_an_upload_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let (uploads, a) = (&storage.uploads, hosted("a"));
    let begin = || uploads.begin(&a).unwrap();
    finish(take_up(&storage, &begin()), b"12345", &digest(b"12345"));
    assert!(take_up(&storage, &begin()).finish(&digest(b"x")).is_err());
    assert!(uploads.cancel(&a, &begin()).unwrap());
    assert!(uploads.open(&a, &UploadId::random()).unwrap().is_none());
    assert_eq!(uploads.uses.len(), 0);
}

#[test]
fn abandoned_uploads_go_away() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    storage.leases.set_grace(Duration::ZERO);
    let a = hosted("a");
    let ids: Vec<_> = (0..3).map(|_| storage.uploads.begin(&a).unwrap()).collect();
    let written = take_up(&storage, &ids[0]);
    ids[..2].iter().for_each(|id| age(dir.path(), id, Duration::from_secs(25 * 3600)));
    // A folder without its files is what a crash in the first moment leaves; strangers stay.
    fs::create_dir(dir.path().join(format!("uploads/{}", UploadId::random()))).unwrap();
    fs::create_dir(dir.path().join("uploads/lost+found")).unwrap();
    assert_eq!(storage.uploads.all().unwrap().len(), 4);
    assert_eq!(storage.uploads.sweep(Duration::from_secs(24 * 3600)).unwrap(), 1);
    assert!(storage.uploads.open(&a, &ids[1]).unwrap().is_none());
    drop(written);
    assert_eq!(storage.uploads.sweep(Duration::ZERO).unwrap(), 3);
    assert_eq!((storage.uploads.all().unwrap().len(), folders(dir.path())), (0, 1));
}
