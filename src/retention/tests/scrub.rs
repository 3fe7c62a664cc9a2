//! The scrub finds every flipped bit in one pass, goes on where it was, and is told apart from what
//! clients meet.

use std::{fs, os::unix::fs::FileExt as _, path::Path, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    oci::{Namespace, Repository},
    retention::{Scrub, ScrubStatus},
    runtime::BlockingPool,
    storage::{Finder, LinkRecord, LinkRight, Scrubbed, Scrubbing},
};

/// A scrub whose passes follow upon each other, until `done`.
fn scrub_until(storage: &Arc<Folder>, every: Duration, done: impl Fn(&ScrubStatus) -> bool) -> ScrubStatus {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let scrub = Scrub::new(&storage.storage, BlockingPool::new(runtime.handle().clone(), 1), every);
    let stop = CancellationToken::new();
    let task = runtime.spawn(Arc::clone(&scrub).run(stop.clone()));
    runtime.block_on(async {
        let finds = async {
            loop {
                let status = scrub.status();
                if done(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(60), finds).await;
        let found = found.unwrap_or_else(|_| panic!("{:?}", scrub.status()));
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(30), task).await.unwrap().unwrap();
        found
    })
}

fn finished(status: &ScrubStatus) -> bool {
    status.finished.is_some()
}

const SOON: Duration = Duration::from_millis(100);

fn repository(namespace: Namespace) -> Repository {
    Repository { namespace, name: "team/app".parse().unwrap() }
}

fn store(storage: &Folder, repository: &Repository, bytes: &[u8]) -> Digest {
    let digest = digest(bytes);
    storage.blobs.put(&digest, bytes).unwrap();
    let size = bytes.len() as u64;
    let link =
        LinkRecord { digest, media_type: String::new(), size, subject: None, right: LinkRight::Pushed, created: 1 };
    storage.catalog.put_links(repository, &[link]).unwrap();
    digest
}

fn file(dir: &Path, digest: &Digest) -> std::path::PathBuf {
    dir.join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex())
}

/// Flips one bit in place: the file keeps its inode and its length.
fn flip(dir: &Path, digest: &Digest, at: u64) {
    let file = fs::File::options().read(true).write(true).open(file(dir, digest)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

/// FAULTS.md: the scrub finds all of it in one pass. Sizes around the pieces and blocks that are
/// read.
#[test]
fn s31_one_pass_finds_every_flipped_bit_and_harms_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(open(dir.path()));
    let mirrored = repository(Namespace::Upstream("docker.io".parse().unwrap()));
    let hosted = repository(Namespace::Hosted);
    let (mut rotten, mut sound) = (Vec::new(), Vec::new());
    for (n, size) in [1, 4095, 4096, 4097, 100_000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000].iter().enumerate()
    {
        for (copy, repository) in [&mirrored, &hosted, &mirrored, &hosted].into_iter().enumerate() {
            let mut bytes: Vec<u8> = (0..*size).map(|at| (at * 7 + copy) as u8).collect();
            bytes[0] = (n * 4 + copy) as u8;
            let digest = store(&storage, repository, &bytes);
            if copy < 2 {
                flip(dir.path(), &digest, [0, *size - 1, *size / 2][n % 3] as u64);
                rotten.push(digest);
            } else {
                sound.push((digest, bytes));
            }
        }
    }
    // Cut short, and gone while nobody looked.
    let cut = store(&storage, &mirrored, &[1; 5000]);
    fs::File::options().write(true).open(file(dir.path(), &cut)).unwrap().set_len(4096).unwrap();
    rotten.push(cut);
    let status = scrub_until(&storage, SOON, finished);
    let pass = status.finished.unwrap();
    assert_eq!((pass.blobs, pass.rotten), ((rotten.len() + sound.len()) as u64, rotten.len() as u64));
    for digest in &rotten {
        assert!(storage.blobs.size(digest).unwrap().is_none(), "{digest}");
        assert!(dir.path().join(format!("quarantine/sha256-{}", digest.hex())).exists());
    }
    for (digest, bytes) in &sound {
        assert!(storage.blobs.read(digest, 4 << 20).unwrap().unwrap() == *bytes);
    }
    let found = storage.rotten().into_iter().find(|found| found.by == Finder::Scrub).unwrap();
    assert_eq!((found.cached, found.hosted), (10, 9));
    // What is stored again is whole, and the next pass says so.
    store(&storage, &mirrored, &[1; 5000]);
    let again =
        scrub_until(&storage, SOON, |status| status.finished.is_some_and(|pass| pass.began > 0 && pass.blobs == 19));
    assert_eq!(again.finished.unwrap().rotten, 0);
}

/// What is written down is where the next start goes on; what lies before it is not read again.
#[test]
fn a_pass_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(open(dir.path()));
    let hosted = repository(Namespace::Hosted);
    let mut digests: Vec<_> = (0..100_u8).map(|n| store(&storage, &hosted, &[n; 300])).collect();
    digests.sort();
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let pass = Scrubbed { began, blobs: 40, bytes: 12_000, rotten: 3, ended: None };
    let record = Scrubbing { pass, last: Some(digests[39]), finished: None };
    storage.note_scrubbing(&record).unwrap();
    assert_eq!(storage.scrubbing().unwrap(), Some(record.clone()));
    // One before the mark and one behind it.
    flip(dir.path(), &digests[20], 7);
    flip(dir.path(), &digests[70], 7);
    let status = scrub_until(&storage, SOON, finished);
    let expected = Scrubbed { blobs: 100, bytes: 30_000, rotten: 4, ..pass };
    assert_eq!(status.finished.map(|pass| Scrubbed { ended: None, ..pass }), Some(expected));
    assert!(storage.blobs.size(&digests[20]).unwrap().is_some(), "it is left to the next pass");
    // A stop in the middle of a pass writes down where it is.
    storage.note_scrubbing(&record).unwrap();
    let stopped = scrub_until(&storage, Duration::from_secs(1000), |status| status.pass.began > 0);
    assert_eq!((stopped.pass, stopped.under_way), (pass, true));
    assert_eq!(storage.scrubbing().unwrap(), Some(record));
}

/// A record that is damaged, or of another kind, costs a pass its beginning and nothing else.
#[test]
fn a_damaged_record_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(open(dir.path()));
    let digest = store(&storage, &repository(Namespace::Hosted), b"content");
    let path = dir.path().join("scrub");
    storage.note_scrubbing(&Scrubbing { last: Some(digest), ..Scrubbing::default() }).unwrap();
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[10] ^= 1;
    for damaged in [&b""[..], b"nonsense", &whole[..whole.len() / 2], &flipped, &vec![b'x'; 100_000]] {
        fs::write(&path, damaged).unwrap();
        let status = scrub_until(&storage, SOON, finished);
        assert_eq!(status.finished.unwrap().blobs, 1);
        assert!(storage.scrubbing().unwrap().is_some());
    }
}

#[test]
fn no_period_is_no_scrub() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(open(dir.path()));
    store(&storage, &repository(Namespace::Hosted), b"content");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scrub = Scrub::new(&storage.storage, BlockingPool::new(runtime.handle().clone(), 1), Duration::ZERO);
    runtime.block_on(Arc::clone(&scrub).run(CancellationToken::new()));
    assert_eq!((scrub.bytes_read(), storage.scrubbing().unwrap()), (0, None));
}
