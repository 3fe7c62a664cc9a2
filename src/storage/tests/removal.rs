//! FAULTS.md, "push+delete+GC races": a push wins or the removal wins, never half.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

fn pushed(content: &[u8]) -> LinkRecord {
    LinkRecord { right: LinkRight::Pushed, ..link_record(content) }
}

fn remove(storage: &Files, content: &[u8]) -> Removal {
    storage.blobs.remove_unheld(&digest(content), &storage.catalog, Respect::All).unwrap()
}

/// With the index, without one, and while it is filled.
fn each_way(run: impl Fn(&Files)) {
    for (name, wait, lose) in [("index", true, false), ("files", false, true), ("filling", false, false)] {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(dir.path());
        if wait {
            eventually(|| storage.index_is_ready());
        }
        if lose {
            storage.disk.index.close();
        }
        storage.leases.set_grace(Duration::ZERO);
        eprintln!("with {name}");
        run(&storage);
    }
}

#[test]
fn only_what_nobody_links_or_counts_on_is_removed() {
    each_way(|storage| {
        let (a, b) = (hosted("a"), repository("b"));
        assert_eq!(remove(storage, b"x"), Removal::Absent);
        storage.blobs.put(&digest(b"x"), b"x").unwrap();
        storage.catalog.put_links(&a, &[pushed(b"x")]).unwrap();
        storage.catalog.put_links(&b, &[link_record(b"x")]).unwrap();
        assert_eq!(remove(storage, b"x"), Removal::Held);
        assert!(storage.catalog.delete_link(&a, &digest(b"x")).unwrap());
        assert_eq!(remove(storage, b"x"), Removal::Held, "another repository's is its own");
        assert!(storage.catalog.delete_link(&b, &digest(b"x")).unwrap());
        let hold = storage.leases.hold([digest(b"x")]);
        assert_eq!(remove(storage, b"x"), Removal::Leased);
        drop(hold);
        let reader = storage.blobs.open(&digest(b"x")).unwrap().unwrap();
        assert_eq!(remove(storage, b"x"), Removal::Removed(1));
        assert_eq!(storage.blobs.size(&digest(b"x")).unwrap(), None);
        let mut byte = [0];
        std::os::unix::fs::FileExt::read_exact_at(&*reader.file, &mut byte, 0).unwrap();
        assert_eq!(byte, *b"x", "who reads it reads on");
        assert!(matches!(
            storage.catalog.put_links(&a, &[link_record(b"y"), pushed(b"x")]),
            Err(StorageError::Gone(gone)) if gone == digest(b"x")
        ));
        assert_eq!(storage.catalog.links(&a).unwrap(), [], "all or none");
        eventually(|| storage.usage() == Usage { complete: true, ..Usage::default() });
    });
}

/// A link that is damaged may be all that is left of a push.
#[test]
fn a_damaged_link_holds() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open_ready(dir.path());
    storage.leases.set_grace(Duration::ZERO);
    storage.blobs.put(&digest(b"x"), b"x").unwrap();
    storage.catalog.put_links(&hosted("a"), &[pushed(b"x")]).unwrap();
    std::fs::write(storage.disk.layout.link(&hosted("a"), &digest(b"x")), b"torn").unwrap();
    drop(storage);
    let storage = open_ready(dir.path());
    storage.leases.set_grace(Duration::ZERO);
    assert_eq!(storage.catalog.holders(&digest(b"x")).unwrap(), []);
    assert_eq!(remove(&storage, b"x"), Removal::Held);
}

#[test]
fn every_blob_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let mut expected: Vec<Digest> = (0..40_u8).map(|n| digest(&[n])).collect();
    for n in 0..40_u8 {
        storage.blobs.put(&digest(&[n]), &[n]).unwrap();
    }
    expected.push(Hasher::digest(Algorithm::Sha512, b"x"));
    storage.blobs.put(expected.last().unwrap(), b"x").unwrap();
    std::fs::write(dir.path().join(format!("blobs/sha256/{}/stray", &expected[0].hex()[..2])), b"?").unwrap();
    let mut all: Vec<Digest> = storage.blobs.all().map(Result::unwrap).collect();
    all.sort_unstable();
    expected.sort_unstable();
    assert_eq!(all, expected);
}

/// Pushers of the same few contents, each to a repository of its own, and removers that try them
/// all, with no grace at all: after a link is acknowledged the blob is there until the link is
/// deleted.
#[test]
fn a_link_and_a_removal_never_both_win() {
    each_way(|storage| {
        const CONTENTS: u8 = 3;
        let (stop, linked, gone, removed) =
            (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let push = |repository: &Repository, n: u8, storage: &Files| {
            if n.is_multiple_of(2) {
                storage.blobs.put(&digest(&[n]), &[n]).unwrap();
            } else {
                let id = storage.uploads.begin(repository).unwrap();
                let mut upload = storage.uploads.open(repository, &id).unwrap().unwrap();
                upload.append(batch(&[n])).unwrap();
                upload.finish(&digest(&[n])).unwrap();
            }
            // Here a removal may come between, since nobody holds it and there is no grace.
            match storage.catalog.put_links(repository, &[pushed(&[n])]) {
                Ok(()) => {
                    assert_eq!(storage.blobs.read(&digest(&[n]), 9).unwrap().unwrap(), [n][..], "acknowledged");
                    assert!(storage.catalog.delete_link(repository, &digest(&[n])).unwrap());
                    linked.fetch_add(1, Ordering::Relaxed);
                }
                Err(StorageError::Gone(_)) => {
                    gone.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => panic!("{error}"),
            }
        };
        std::thread::scope(|scope| {
            for remover in 0..2 {
                let (stop, removed) = (&stop, &removed);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        for n in remover..CONTENTS {
                            let won = matches!(remove(storage, &[n]), Removal::Removed(1));
                            removed.fetch_add(won.into(), Ordering::Relaxed);
                        }
                    }
                });
            }
            let pushers: Vec<_> = (0..4)
                .map(|pusher| {
                    let push = &push;
                    scope.spawn(move || {
                        let repository = hosted(&format!("r{pusher}"));
                        for round in 0..60_u32 {
                            push(&repository, (round % u32::from(CONTENTS)) as u8, storage);
                        }
                    })
                })
                .collect();
            let results: Vec<_> = pushers.into_iter().map(|pusher| pusher.join()).collect();
            stop.store(true, Ordering::Relaxed);
            results.into_iter().for_each(|result| result.unwrap());
        });
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        eprintln!("linked {}, gone {}, removed {}", count(&linked), count(&gone), count(&removed));
        assert!(count(&linked) + count(&gone) == 240 && count(&linked) > 0 && count(&removed) > 0);
    });
}

/// What a push does that must not fail: it holds what it names, looks, and links.
#[test]
fn what_is_held_and_here_can_be_linked() {
    each_way(|storage| {
        let stop = AtomicBool::new(false);
        let refused = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    remove(storage, b"x");
                }
            });
            let pusher = scope.spawn(|| {
                let (mut linked, mut absent) = (0, 0);
                while linked < 60 {
                    let _hold = storage.leases.hold([digest(b"x")]);
                    if storage.blobs.size(&digest(b"x")).unwrap().is_none() {
                        absent += 1;
                        storage.blobs.put(&digest(b"x"), b"x").unwrap();
                    }
                    storage.catalog.put_links(&hosted("a"), &[pushed(b"x")]).unwrap();
                    storage.catalog.delete_link(&hosted("a"), &digest(b"x")).unwrap();
                    linked += 1;
                }
                absent
            });
            let result = pusher.join();
            stop.store(true, Ordering::Relaxed);
            result.unwrap()
        });
        eprintln!("gone before {refused} of 60");
    });
}
