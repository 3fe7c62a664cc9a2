//! What a use changes, and what is shown of it.

use super::*;
use crate::{
    oci::OCI_INDEX,
    runtime::clock,
    storage::{
        BlobUse, Respect,
        tests::uses::{HOUR, age, shown},
    },
};

/// How many hours ago content was used, and how often it was used.
fn use_of(house: &House, bytes: &[u8]) -> (u64, u16) {
    let BlobUse { last, uses, .. } = house.run(house.storage().use_of(&digest(bytes))).unwrap().unwrap();
    ((clock::milliseconds() - last) / 1000 / HOUR, uses)
}

#[test]
fn a_manifest_that_is_given_out_keeps_its_parts_in_use() {
    each(|house| {
        let a = repository("a");
        let image = manifest(b"config", &[&b"layer"[..], b"absent layer"]);
        let child = |bytes: &[u8]| serde_json::json!({ "mediaType": OCI_IMAGE, "digest": digest(bytes).to_string(), "size": 1 });
        let children = [child(b"absent image"), child(&image)];
        let index = serde_json::json!({ "mediaType": OCI_INDEX, "manifests": children });
        let index = serde_json::to_vec(&index).unwrap();
        let parts = [&b"config"[..], b"layer", &image];
        for bytes in parts.iter().chain(&[&index[..], b"other"]) {
            house.push(&a, bytes, "");
            age(house, &digest(bytes), 30 * HOUR);
        }
        assert_eq!(use_of(house, &index), (30, 2));
        house.storage().note_use(&digest(&index));
        eventually(|| parts.iter().all(|part| use_of(house, part).0 == 0));
        for part in parts {
            assert!(shown(house, &digest(part)) < HOUR, "its file shows it too");
            assert_eq!(use_of(house, part).1, 2, "it was not used itself");
        }
        assert_eq!(use_of(house, &index).0, 0);
        if house.storage().index_is_ready() {
            assert_eq!(use_of(house, &index).1, 3);
        }
        assert_eq!(use_of(house, b"other"), (30, 2));
        assert_eq!(house.run(house.storage().use_of(&digest(b"absent layer"))).unwrap(), None);
    });
}

#[test]
fn a_part_that_is_fetched_after_its_manifest_is_used_itself() {
    each(|house| {
        let image = manifest(b"config", &[&b"layer"[..]]);
        for bytes in [&b"layer"[..], &image] {
            house.push(&repository("a"), bytes, "");
            age(house, &digest(bytes), 30 * HOUR);
        }
        house.storage().note_use(&digest(&image));
        eventually(|| use_of(house, b"layer").0 == 0);
        assert!(house.run(house.storage().content(&digest(b"layer"))).unwrap().is_some());
        if house.storage().index_is_ready() {
            eventually(|| use_of(house, b"layer").1 == 3);
        }
    });
}

/// A HEAD is no use: a client that pushes asks whether a layer is here.
#[test]
fn to_be_told_that_content_is_here_is_no_use() {
    each(|house| {
        let (storage, a) = (house.storage(), repository("a"));
        for bytes in [&b"layer"[..], b"other"] {
            house.push(&a, bytes, "");
            age(house, &digest(bytes), 30 * HOUR);
        }
        assert!(house.run(storage.locate_unnoticed(&a, &digest(b"layer"), true)).unwrap().stored.is_some());
        // Uses are noted in order.
        assert!(house.run(storage.locate(&a, &digest(b"other"))).unwrap().stored.is_some());
        eventually(|| use_of(house, b"other").0 == 0);
        assert_eq!(use_of(house, b"layer"), (30, 2));
        assert!(shown(house, &digest(b"layer")) > 29 * HOUR, "its file shows none either");
    });
}

#[test]
fn residents_are_all_content_each_once() {
    each(|house| {
        let residents = || {
            let all = house.run(house.storage().residents(Vec::new(), |all, name, blob| all.push((name, blob))));
            let mut all = all.unwrap();
            all.sort_unstable_by_key(|(name, _): &(Digest, BlobUse)| *name);
            all
        };
        assert_eq!(residents(), []);
        let mut expected = Vec::new();
        for n in 1..40_u8 {
            let bytes = vec![n; usize::from(n)];
            house.push(&hosted("a"), &bytes, "");
            age(house, &digest(&bytes), u64::from(n) * HOUR);
            let blob = house.run(house.storage().use_of(&digest(&bytes))).unwrap().unwrap();
            assert_eq!((blob.size, blob.uses), (u64::from(n), 2));
            expected.push((digest(&bytes), blob));
        }
        expected.sort_unstable_by_key(|(name, _)| *name);
        assert_eq!(residents(), expected);
        let (gone, _) = expected.remove(7);
        house.commit(Change { unlink: vec![gone], ..Change::of(&hosted("a")) }).unwrap();
        house.run(house.storage().reclaim(&gone, Respect::All)).unwrap();
        eventually(|| residents() == expected);
    });
}
