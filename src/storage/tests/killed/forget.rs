//! Killed at a step of a pin, a forgetting or an eviction: no tag without its manifest (K5), every
//! blob gone or whole (K4), and no pin that cannot be read.

use super::*;
use crate::{oci::OCI_IMAGE, storage::forget};

const FORGET: &str = "storage::tests::killed::forget::child_that_forgets";

fn image(layer: &[u8]) -> Vec<u8> {
    let layer = serde_json::json!({ "mediaType": "l", "digest": digest(layer).to_string(), "size": layer.len() });
    let image = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_IMAGE, "config": layer, "layers": [] });
    serde_json::to_vec(&image).unwrap()
}

fn pin(name: &str) -> Pin {
    Pin {
        repository: repository("a"),
        reference: name.parse().unwrap(),
        platforms: Vec::new(),
        why: PinReason::Pinned,
        note: String::new(),
        by: String::new(),
        at: 1,
    }
}

fn check_forgotten(dir: &Path, acknowledged: &[String], why: &str) {
    let storage = open(dir);
    let a = repository("a");
    let acked = |what: &str| acknowledged.iter().any(|acked| acked == what);
    for record in storage.catalog.tag_records(&a).unwrap() {
        assert!(storage.catalog.link(&a, &record.digest).unwrap().is_some(), "{why}: {} names nothing", record.tag);
        assert!(storage.blobs.read(&record.digest, 1 << 20).unwrap().is_some(), "{why}: {}", record.tag);
    }
    assert!(!acked("forgotten") || storage.catalog.tag(&a, &tag("old")).unwrap().is_none(), "{why}");
    if acked("stored") {
        for bytes in [image(b"kept"), b"kept".to_vec()] {
            assert!(storage.catalog.link(&a, &digest(&bytes)).unwrap().is_some(), "{why}: the other image");
        }
        assert!(storage.catalog.tag(&a, &tag("kept")).unwrap().is_some(), "{why}");
    }
    for bytes in [&b"kept"[..], b"old", b"evicted"] {
        let read = storage.blobs.read(&digest(bytes), 9).unwrap();
        assert!(read.is_none_or(|read| read == bytes), "{why}: half a blob");
    }
    assert!(!acked("evicted") || storage.blobs.size(&digest(b"evicted")).unwrap().is_none(), "{why}");
    let PinList { pins, untold } = storage.pins.all();
    assert_eq!(untold, [], "{why}");
    assert!(pins.iter().all(|found| *found == pin("kept") || *found == pin("gone")), "{why}: {pins:?}");
    assert!(!acked("pinned") || pins.contains(&pin("kept")), "{why}");
    assert!(!acked("unpinned") || !pins.contains(&pin("gone")), "{why}");
}

#[test]
fn k4_k5_killed_at_any_step_nothing_is_left_in_half() {
    if strace_is_missing() {
        return;
    }
    let (kills, last) = killed(FORGET, 7, check_forgotten);
    assert!(kills >= 8 && last >= 3, "the faults do not fire: {kills} {last}");
}

#[test]
#[ignore = "run, and killed, by the test above"]
fn child_that_forgets() {
    let Ok(storage) = Files::open(&child_dir(), LIMITS) else {
        return;
    };
    let a = repository("a");
    let say = |what: &str, result: Result<(), StorageError>| {
        if result.is_ok() {
            println!("acknowledged {what}");
        }
    };
    println!();
    eventually(|| storage.usage().complete);
    let store = || {
        for (name, layer) in [("kept", &b"kept"[..]), ("old", b"old"), ("evicted", b"evicted")] {
            let manifest = image(layer);
            storage.blobs.put(&digest(layer), layer)?;
            storage.blobs.put(&digest(&manifest), &manifest)?;
            let link = LinkRecord { media_type: OCI_IMAGE.to_owned(), ..link_record(&manifest) };
            storage.catalog.put_links(&a, &[link_record(layer), link])?;
            storage.catalog.put_tag(&a, &tag_record(name, &manifest))?;
        }
        Ok(())
    };
    say("stored", store());
    say("pinned", storage.pins.put(&pin("kept")));
    say(
        "unpinned",
        storage.pins.put(&pin("gone")).and_then(|()| storage.pins.remove(&a, &pin("gone").reference).map(drop)),
    );
    let leaving = Leaving { tags: vec![(tag("old"), None)], ..Leaving::default() };
    say("forgotten", forget::forget(&storage, &a, &leaving).map(drop).map_err(|_| StorageError::Lost));
    storage.leases.set_grace(Duration::ZERO);
    let evicted = storage.blobs.evict(&digest(b"evicted"), &storage.catalog, 0);
    say(
        "evicted",
        evicted.and_then(|evicted| match evicted {
            Eviction::Evicted(_) => Ok(()),
            Eviction::Kept(_) => Err(StorageError::Lost),
        }),
    );
    storage.close();
    println!("at the end");
}
