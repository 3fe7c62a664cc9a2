//! Hosted bytes never count against `max_size`.

use std::fs;

use proptest::prelude::*;

use super::{super::census::Census, *};

fn usage(storage: &Files) -> (u64, u64) {
    let usage = storage.usage();
    (usage.bytes, usage.hosted)
}

#[test]
fn only_cached_bytes_count_against_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { max_size: Some(100), ..LIMITS };
    let storage = Files::open(dir.path(), limits).unwrap();
    eventually(|| storage.usage().complete);
    let (shared, own, cached) = (content(60), content(500), content(30));
    for bytes in [&shared, &own, &cached] {
        storage.blobs.put(&digest(bytes), bytes).unwrap();
    }
    assert!(!storage.room_for(1) && storage.room_to_push(1 << 20).is_ok());
    storage.catalog.put_links(&repository("a"), &[link_record(&shared), link_record(&cached)]).unwrap();
    assert_eq!(usage(&storage), (590, 0));
    for name in ["a", "b"] {
        storage.catalog.put_links(&hosted(name), &[link_record(&shared), link_record(&own)]).unwrap();
        storage.catalog.put_links(&hosted(name), &[link_record(&shared)]).unwrap();
        assert_eq!(usage(&storage), (590, 560));
    }
    assert!(storage.room_for(70) && !storage.room_for(71));
    storage.catalog.delete_link(&hosted("a"), &digest(&own)).unwrap();
    storage.catalog.delete_link(&hosted("a"), &digest(&own)).unwrap();
    assert_eq!(usage(&storage), (590, 560));
    storage.catalog.delete_link(&hosted("b"), &digest(&own)).unwrap();
    assert_eq!(usage(&storage), (590, 60));
    // One that comes after its link, and one that goes before it.
    storage.catalog.put_links(&hosted("c"), &[link_record(b"later")]).unwrap();
    storage.blobs.put(&digest(b"later"), b"later").unwrap();
    assert_eq!(usage(&storage), (595, 65));
    storage.blobs.quarantine(&digest(&shared)).unwrap();
    assert_eq!(usage(&storage), (535, 5));
    // After an orderly stop it is known at once, after a crash in a while.
    storage.close();
    drop(storage);
    let storage = Files::open(dir.path(), limits).unwrap();
    assert_eq!((usage(&storage), storage.usage().complete), ((535, 5), true));
    drop(storage);
    let storage = Files::open(dir.path(), limits).unwrap();
    eventually(|| storage.usage().complete);
    assert_eq!(usage(&storage), (535, 5));
}

/// The walk may have listed the repositories before, or find the new one and its link.
#[test]
fn a_repository_that_begins_during_the_walk_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let (layout, bytes, late) = (Layout::new(dir.path()), b"content", hosted("late"));
    let path = layout.blob(&digest(bytes));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    for found in [false, true] {
        let known = Usage { blobs: 1, bytes: 7, hosted: 0, hosted_blobs: 0, complete: true };
        let census = Census::new(Some(known));
        census.begins(&late.name);
        census.linked(&late, &digest(bytes), &layout);
        if found {
            census.walk(&late.name, &[digest(bytes)], &layout);
        }
        census.walked();
        assert_eq!((census.usage().hosted, census.usage().hosted_blobs), (7, 1), "found: {found}");
        census.unlinked(&late, &digest(bytes), &layout);
        assert_eq!(census.usage().hosted, 0, "found: {found}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    Remove(u8),
    Link(usize, u8),
    Unlink(usize, u8),
    Crash,
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    let (repository, content) = (0..4_usize, 1..6_u8);
    prop_oneof![
        4 => content.clone().prop_map(Step::Put),
        2 => content.clone().prop_map(Step::Remove),
        6 => (repository.clone(), content.clone()).prop_map(|(repository, content)| Step::Link(repository, content)),
        4 => (repository, content).prop_map(|(repository, content)| Step::Unlink(repository, content)),
        1 => Just(Step::Crash),
        1 => Just(Step::Stop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 50, ..ProptestConfig::default() })]

    /// The count that follows every change is that of a count from nothing, also while a walk is
    /// under way.
    #[test]
    fn the_count_is_right_after_any_steps(steps in proptest::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut storage = open(dir.path());
        let repositories = [hosted("a"), hosted("b"), repository("a"), hosted("c")];
        let bytes = |n: u8| vec![n; 10_usize.pow(u32::from(n) - 1)];
        for step in steps {
            match step {
                Step::Put(n) => storage.blobs.put(&digest(&bytes(n)), &bytes(n)).unwrap(),
                Step::Remove(n) => storage.blobs.quarantine(&digest(&bytes(n))).unwrap(),
                Step::Link(at, n) => storage.catalog.put_links(&repositories[at], &[link_record(&bytes(n))]).unwrap(),
                Step::Unlink(at, n) => drop(storage.catalog.delete_link(&repositories[at], &digest(&bytes(n))).unwrap()),
                Step::Crash => {
                    drop(storage);
                    storage = open(dir.path());
                }
                Step::Stop => {
                    storage.close();
                    drop(storage);
                    storage = open(dir.path());
                }
            }
        }
        let (mut total, mut of_hosted) = (0, 0);
        for n in 1..6 {
            let size = storage.blobs.size(&digest(&bytes(n))).unwrap().unwrap_or(0);
            let holders = storage.catalog.holders(&digest(&bytes(n))).unwrap();
            total += size;
            of_hosted += if holders.iter().any(|holder| holder.namespace == Namespace::Hosted) { size } else { 0 };
        }
        eventually(|| storage.usage().complete);
        // A walk may still be under way after an orderly stop; the figures of the stop stand until
        // it ends.
        eventually(|| usage(&storage) == (total, of_hosted));
    }
}
