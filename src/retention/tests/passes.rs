//! What a pass does and leaves, case by case.

use std::{fs, path::PathBuf, sync::Arc};

use super::*;
use crate::{
    oci::{Namespace, Repository},
    retention::{Collector, GraceRule, HostedRepository},
    runtime::BlockingPool,
    storage::{LinkRecord, LinkRight},
};

fn hosted(name: &str) -> Repository {
    Repository { namespace: Namespace::Hosted, name: name.parse().unwrap() }
}

fn push(storage: &Folder, repository: &Repository, bytes: &[u8], media_type: &str) -> Digest {
    let digest = digest(bytes);
    storage.blobs.put(&digest, bytes).unwrap();
    let (media_type, size) = (media_type.to_owned(), bytes.len() as u64);
    let link = LinkRecord { digest, media_type, size, subject: None, right: LinkRight::Pushed, created: 1 };
    storage.catalog.put_links(repository, &[link]).unwrap();
    digest
}

fn holds(storage: &Folder, repository: &Repository, digest: &Digest) -> bool {
    storage.catalog.link(repository, digest).unwrap().is_some()
}

/// Every file of this name below a folder.
fn files(folder: PathBuf, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(path, name));
        } else if path.file_name().unwrap().to_string_lossy().contains(name) {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_repository_whose_manifest_is_gone_or_rotten_is_left_alone_until_it_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let (sick, well) = (hosted("team/sick"), hosted("team/well"));
    let (layer, stray) = (push(&storage, &sick, b"layer", ""), push(&storage, &sick, b"stray", ""));
    let manifest = push(&storage, &sick, &image(&[layer]), OCI_IMAGE);
    let other = push(&storage, &well, b"other", "");
    let [file] = &files(dir.path().join("blobs"), &manifest.hex())[..] else { panic!("one blob") };
    let mut bytes = fs::read(file).unwrap();
    bytes[20] ^= 1;
    fs::write(file, bytes).unwrap();
    for _ in 0..2 {
        // First it rots, then it is missing: reading it moved it to the quarantine.
        let (removed, _) = pass(&storage, PassMode::Remove, SettledRepositories::default());
        assert_eq!(removed.skipped, 1);
        assert!(holds(&storage, &sick, &layer) && holds(&storage, &sick, &stray), "rot does not spread");
        assert!(!holds(&storage, &well, &other), "and others are not kept by it");
    }
    storage.catalog.delete_link(&sick, &manifest).unwrap();
    let (removed, _) = pass(&storage, PassMode::Remove, SettledRepositories::default());
    assert_eq!((removed.links, removed.blobs, removed.skipped), (2, 2, 0));
}

#[test]
fn a_damaged_link_keeps_what_it_may_need() {
    let dir = tempfile::tempdir().unwrap();
    let repository = hosted("team/app");
    let storage = open(dir.path());
    let layer = push(&storage, &repository, b"layer", "");
    let manifest = push(&storage, &repository, &image(&[layer]), OCI_IMAGE);
    drop(storage);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let [link] = &files(dir.path().join("repos"), &manifest.hex())[..] else { panic!("one link") };
    let good = fs::read(link).unwrap();
    fs::write(link, &good[..good.len() / 2]).unwrap();
    let storage = open(dir.path());
    let (removed, _) = pass(&storage, PassMode::Remove, SettledRepositories::default());
    assert_eq!((removed.skipped, removed.links, removed.blobs), (1, 0, 0));
    assert!(storage.blobs.size(&manifest).unwrap().is_some(), "a damaged link holds what it names");
    drop(storage);
    fs::write(link, &good).unwrap();
    let storage = open(dir.path());
    let (removed, _) = pass(&storage, PassMode::Remove, SettledRepositories::default());
    assert!(removed.is_empty() && removed.skipped == 0 && holds(&storage, &repository, &layer), "{removed:?}");
}

/// After a start nobody knows who was told what: everything stays for the grace.
#[test]
fn a_start_protects_everything_for_the_grace() {
    let dir = tempfile::tempdir().unwrap();
    let repository = hosted("team/app");
    let storage = open(dir.path());
    let stray = push(&storage, &repository, b"stray", "");
    drop(storage);
    let storage = open(dir.path());
    storage.leases.set_grace(Duration::from_secs(3600));
    for mode in [PassMode::Plan, PassMode::Remove] {
        let (nothing, _) = pass(&storage, mode, SettledRepositories::default());
        assert_eq!((nothing.links, nothing.waiting), (0, 1));
    }
    assert!(holds(&storage, &repository, &stray));
    storage.leases.set_grace(Duration::ZERO);
    let (removed, _) = pass(&storage, PassMode::Remove, SettledRepositories::default());
    assert_eq!((removed.links, removed.blobs, removed.bytes), (1, 1, 5));
}

/// One pass that waits for no grace.
fn pass_now(storage: &Folder, mode: PassMode) -> Collection {
    storage.runtime.block_on(async {
        let pass = Pass::new(mode, SettledRepositories::default()).ignoring_grace(&storage.storage).await.unwrap();
        pass.over_all(&storage.storage).await.unwrap().end().0
    })
}

/// An operator who knows that nobody pushes waits neither for leases nor for the hour after a
/// start. A dry run agrees.
#[test]
fn a_pass_that_ignores_the_grace_waits_for_what_is_held_and_for_uploads_alone() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    storage.leases.set_grace(Duration::from_secs(3600));
    let (app, busy) = (hosted("team/app"), hosted("team/busy"));
    let layer = push(&storage, &app, b"layer", "");
    let manifest = push(&storage, &app, &image(&[layer]), OCI_IMAGE);
    let (stray, held) = (push(&storage, &app, b"stray", ""), push(&storage, &app, b"held", ""));
    let unlinked = digest(b"unlinked");
    storage.blobs.put(&unlinked, b"unlinked").unwrap();
    let of_busy = push(&storage, &busy, b"of busy", "");
    let upload = storage.uploads.begin(&busy).unwrap();
    let hold = storage.leases.hold([held]);
    let (waits, _) = pass(&storage, PassMode::Plan, SettledRepositories::default());
    assert!(waits.is_empty() && waits.waiting == 4 && waits.pushed_to == 0);
    assert_eq!(waits.waiting_bytes, 5 + 4 + 8 + 7);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((now + 3590..=now + 3601).contains(&waits.waiting_until.unwrap()));
    let planned = pass_now(&storage, PassMode::Plan);
    assert_eq!((planned.links, planned.blobs, planned.bytes), (1, 2, 5 + 8));
    assert_eq!((planned.waiting, planned.waiting_bytes, planned.pushed_to), (1, 4, 1));
    assert!(holds(&storage, &app, &stray), "a plan changes nothing");
    let done = pass_now(&storage, PassMode::Remove);
    // The hour of what is held begins anew with each second.
    assert!(done.waiting_until >= planned.waiting_until);
    assert_eq!(done, Collection { waiting_until: done.waiting_until, ..planned });
    assert!(!holds(&storage, &app, &stray) && storage.blobs.size(&unlinked).unwrap().is_none());
    assert!(holds(&storage, &app, &held) && holds(&storage, &busy, &of_busy));
    assert!(holds(&storage, &app, &layer) && holds(&storage, &app, &manifest));
    drop(hold);
    assert!(storage.uploads.cancel(&busy, &upload).unwrap());
    let rest = pass_now(&storage, PassMode::Remove);
    assert_eq!((rest.links, rest.blobs, rest.waiting, rest.pushed_to), (2, 2, 0, 0));
}

/// A manifest that comes while such a pass is under way keeps what it names.
#[test]
fn a_push_during_a_pass_that_ignores_the_grace_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    storage.leases.set_grace(Duration::from_secs(3600));
    let app = hosted("team/app");
    let layer = push(&storage, &app, b"layer", "");
    let (runtime, verbs) = (&storage.runtime, &storage.storage);
    let begun =
        runtime.block_on(Pass::new(PassMode::Remove, SettledRepositories::default()).ignoring_grace(verbs)).unwrap();
    // As a manifest's push does: held, looked for, linked.
    let hold = storage.leases.hold([layer]);
    assert!(holds(&storage, &app, &layer));
    drop(hold);
    let after = runtime.block_on(begun.over_all(verbs)).unwrap().end().0;
    assert_eq!((after.links, after.blobs, after.waiting), (0, 0, 1));
    let manifest = push(&storage, &app, &image(&[layer]), OCI_IMAGE);
    assert!(holds(&storage, &app, &layer) && holds(&storage, &app, &manifest));
    // Uploads of an earlier process count only while they are fresh.
    let upload = storage.uploads.begin(&app).unwrap();
    drop(storage);
    let storage = open(dir.path());
    assert!(storage.uploads.under_way(Duration::from_secs(600)).unwrap().contains(&app));
    let [data] = &files(dir.path().join("uploads").join(upload.to_string()), "data")[..] else { panic!("one file") };
    let before = std::time::SystemTime::now() - Duration::from_secs(700);
    fs::File::options().write(true).open(data).unwrap().set_modified(before).unwrap();
    assert!(storage.uploads.under_way(Duration::from_secs(600)).unwrap().is_empty());
}

#[test]
fn what_an_upstreams_repository_holds_and_what_two_share_stays() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let cached = Repository { namespace: Namespace::Upstream("docker.io".parse().unwrap()), ..hosted("library/x") };
    let (mine, yours) = (hosted("mine"), hosted("yours"));
    let layer = push(&storage, &cached, b"cached", "");
    push(&storage, &mine, b"cached", "");
    let shared = push(&storage, &mine, b"shared", "");
    push(&storage, &yours, b"shared", "");
    let manifest = push(&storage, &yours, &image(&[shared]), OCI_IMAGE);
    let (removed, settled) = pass(&storage, PassMode::Remove, SettledRepositories::default());
    assert_eq!((removed.links, removed.blobs), (2, 0), "only mine's two links, of which each blob has another");
    assert!(holds(&storage, &cached, &layer) && holds(&storage, &yours, &shared) && holds(&storage, &yours, &manifest));
    // What is settled is looked into again as soon as it changes.
    storage.catalog.delete_link(&yours, &manifest).unwrap();
    let (removed, _) = pass(&storage, PassMode::Remove, settled);
    assert_eq!((removed.links, removed.blobs), (1, 2));
}

/// S14: abandoned is what got nothing for a day.
#[test]
fn abandoned_uploads_go_after_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let repository = hosted("team/app");
    let old = storage.uploads.begin(&repository).unwrap();
    let young = storage.uploads.begin(&repository).unwrap();
    let [data] = &files(dir.path().join("uploads").join(old.to_string()), "data")[..] else { panic!("one file") };
    let yesterday = std::time::SystemTime::now() - Duration::from_secs(25 * 3600);
    let age = || fs::File::options().write(true).open(data).unwrap().set_modified(yesterday).unwrap();
    let writing = storage.uploads.open(&repository, &old).unwrap().unwrap();
    age();
    let (removed, _) = pass(&storage, PassMode::Remove, SettledRepositories::default());
    assert_eq!(removed.uploads, 0, "a request writes it");
    drop(writing);
    age();
    for mode in [PassMode::Plan, PassMode::Remove] {
        let (removed, _) = pass(&storage, mode, SettledRepositories::default());
        assert_eq!(removed.uploads, 1);
    }
    assert_eq!(storage.uploads.offset(&repository, &old).unwrap(), None);
    assert_eq!(storage.uploads.offset(&repository, &young).unwrap(), Some(0));
}

#[test]
fn the_background_task_collects_and_ends_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(open(dir.path()));
    let repository = hosted("team/app");
    let stray = push(&storage, &repository, b"stray", "");
    let tag_less = push(&storage, &repository, &image(&[]), OCI_IMAGE);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let collector = Collector::new(&storage.storage, BlockingPool::new(runtime.handle().clone(), 1));
    let stop = tokio_util::sync::CancellationToken::new();
    let task = runtime.spawn(Arc::clone(&collector).run(Duration::from_millis(5), stop.clone()));
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(30), async {
            while storage.blobs.size(&stray).unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(30), task).await.unwrap().unwrap();
        let list = collector.repositories().await.unwrap();
        let bytes = image(&[]).len() as u64;
        assert_eq!(list, [HostedRepository { name: "team/app".into(), tags: 0, manifests: 1, blobs: 0, bytes }]);
    });
    assert!(holds(&storage, &repository, &tag_less), "an untagged manifest is a manifest");
    storage.close();
    let closed = runtime.block_on(collector.collect(GraceRule::Respect));
    assert!(closed.is_err_and(|error| error.is_expected()) || storage.usage().blobs == 1);
}
