//! The same for pushes, deletions and removals.

use super::*;
use crate::{
    oci::OCI_IMAGE,
    storage::{
        Removal,
        check::{CheckOptions, check as check_folder},
    },
};

/// What the child acknowledges when nothing fails.
const EVERYTHING: usize = 14;

/// Larger than what is gathered before it is written.
const CHUNK: usize = 300_000;

fn layer() -> Vec<u8> {
    content(3 * CHUNK)
}

fn manifest() -> Vec<u8> {
    let layer = layer();
    format!(
        r#"{{"mediaType":"{OCI_IMAGE}","layers":[{{"mediaType":"l","digest":"{}","size":{}}}]}}"#,
        digest(&layer),
        layer.len()
    )
    .into_bytes()
}

fn pushed(content: &[u8], media_type: &str) -> LinkRecord {
    LinkRecord { right: LinkRight::Pushed, media_type: media_type.to_owned(), ..link_record(content) }
}

#[test]
#[ignore = "run, and killed, by the tests below"]
fn child_that_pushes() {
    let Ok(storage) = Files::open(&child_dir(), LIMITS) else {
        return;
    };
    storage.leases.set_grace(Duration::ZERO);
    println!();
    if let Err(error) = pushes(&storage) {
        println!("failed: {error}");
    }
    storage.close();
    println!("at the end");
}

/// Pushes an image to one repository, mounts its layer into another, takes all of it away in the
/// first, and collects.
fn pushes(storage: &Files) -> Result<(), StorageError> {
    let (a, b, layer, manifest) = (hosted("a"), hosted("b"), layer(), manifest());
    let (blob, name) = (digest(&layer), digest(&manifest));
    let id = storage.uploads.begin(&a)?;
    println!("acknowledged upload {id}");
    for chunk in layer.chunks(CHUNK) {
        if let Some(mut upload) = storage.uploads.open(&a, &id)? {
            upload.append(batch(chunk))?;
            println!("acknowledged offset {}", upload.park()?);
        }
    }
    if let Some(upload) = storage.uploads.open(&a, &id)? {
        let _hold = storage.leases.hold([blob]);
        upload.finish(&blob)?;
        println!("acknowledged finished");
        storage.catalog.put_links(&a, &[pushed(&layer, "")])?;
        println!("acknowledged linked");
    }
    let hold = storage.leases.hold([blob, name]);
    storage.blobs.put(&name, &manifest)?;
    storage.catalog.put_links(&a, &[pushed(&manifest, OCI_IMAGE)])?;
    storage.catalog.put_tag(&a, &tag_record("t", &manifest))?;
    println!("acknowledged tagged");
    storage.catalog.put_links(&b, &[pushed(&layer, "")])?;
    println!("acknowledged mounted");
    drop(hold);
    storage.catalog.delete_tag(&a, &tag("t"))?;
    println!("acknowledged untagged");
    storage.catalog.delete_link(&a, &name)?;
    println!("acknowledged manifest deleted");
    storage.catalog.delete_link(&a, &blob)?;
    println!("acknowledged blob deleted");
    for digest in [name, blob] {
        println!("acknowledged {:?}", storage.blobs.remove_unheld(&digest, &storage.catalog, Respect::All)?);
    }
    let id = storage.uploads.begin(&a)?;
    storage.uploads.cancel(&a, &id)?;
    storage.uploads.begin(&a)?;
    storage.uploads.sweep(Duration::ZERO)?;
    println!("acknowledged swept {}", storage.uploads.all()?.len());
    Ok(())
}

fn check(dir: &Path, acknowledged: &[String], why: &str) {
    let storage = open(dir);
    let (a, b, layer, manifest) = (hosted("a"), hosted("b"), layer(), manifest());
    let (blob, name) = (digest(&layer), digest(&manifest));
    let acked = |what: &str| acknowledged.iter().any(|said| said == what);
    let numbered = |what: &str| acknowledged.iter().rev().find_map(|said| said.strip_prefix(what).map(str::to_owned));
    let stored = storage.blobs.read(&blob, layer.len()).unwrap();
    assert!(stored.as_ref().is_none_or(|bytes| *bytes == layer), "{why}: a blob is never partial");
    assert!(stored.is_some() || !acked("finished"), "{why}: the layer is lost");
    if let Some(id) = numbered("upload ").map(|id| id.parse().unwrap())
        && stored.is_none()
    {
        let least = numbered("offset ").map_or(0, |offset| offset.parse().unwrap());
        match storage.uploads.open(&a, &id).unwrap() {
            // Nobody knows what is on disk after a sync that failed.
            None => assert!(why.starts_with("EIO"), "{why}: the upload is lost"),
            Some(mut upload) => {
                let offset = upload.offset();
                assert!(offset >= least && offset <= layer.len() as u64, "{why}: {offset} of {least}");
                upload.append(batch(&layer[offset as usize..])).unwrap();
                upload.finish(&blob).unwrap();
            }
        }
    }
    let linked = |repository: &Repository, digest: &Digest| storage.catalog.link(repository, digest).unwrap().is_some();
    assert!(linked(&a, &blob) || !acked("linked") || acked("manifest deleted"), "{why}: the layer's link");
    assert!(!linked(&a, &blob) || !acked("blob deleted"), "{why}: the layer's link is back");
    assert!(linked(&b, &blob) || !acked("mounted"), "{why}: the mount");
    let tagged = storage.catalog.tag(&a, &tag("t")).unwrap();
    if acked("tagged") && !acked("mounted") {
        assert_eq!(tagged.as_ref().map(|record| record.digest), Some(name), "{why}: the tag");
        assert!(linked(&a, &name) && storage.blobs.read(&name, 9999).unwrap().is_some(), "{why}: the manifest");
    }
    assert!(tagged.is_none() || !acked("untagged"), "{why}: the tag is back");
    assert!(!linked(&a, &name) || !acked("manifest deleted"), "{why}: the manifest's link is back");
    eventually(|| storage.index_is_ready());
    let holders = storage.catalog.holders(&blob).unwrap();
    assert_eq!(holders, [&a, &b].into_iter().filter(|at| linked(at, &blob)).cloned().collect::<Vec<_>>(), "{why}");
    // The crash is over, and so are its leases: what nobody links can be collected, what somebody
    // links stays.
    storage.leases.set_grace(Duration::ZERO);
    storage.uploads.sweep(Duration::ZERO).unwrap();
    assert_eq!(std::fs::read_dir(dir.join("uploads")).unwrap().count(), 0, "{why}");
    for digest in storage.blobs.all().map(Result::unwrap) {
        let held = linked(&a, &digest) || linked(&b, &digest);
        let removal = storage.blobs.remove_unheld(&digest, &storage.catalog, Respect::All).unwrap();
        assert_eq!(removal == Removal::Held, held, "{why}: {removal:?}");
    }
    storage.close();
    drop(storage);
    let options = CheckOptions { repair: false, sparse: false, threads: 1 };
    let report = check_folder(dir, options, &|_| ()).unwrap();
    assert!(report.is_sound() && report.strays.is_empty(), "{why}: {report:?}");
}

#[test]
fn a_push_killed_at_any_step_loses_nothing_that_was_acknowledged() {
    if strace_is_missing() {
        return;
    }
    let (kills, last) = killed(PUSH, 11, check);
    assert!(kills >= 8 && last >= 10, "the faults do not fire: {kills} {last}");
}

#[test]
fn a_push_whose_sync_fails_is_never_acknowledged() {
    if strace_is_missing() {
        return;
    }
    unsynced(PUSH, 5, EVERYTHING, check);
}

/// By hand: `cargo test --lib storage::tests::killed::push::at_every_step -- --ignored --nocapture`
#[test]
#[ignore = "every step takes minutes"]
fn at_every_step() {
    killed(PUSH, 1, check);
    unsynced(PUSH, 1, EVERYTHING, check);
}
