//! What stays and what goes, also while a push comes between.

use super::{super::*, *};

fn reclaim(house: &House, bytes: &[u8]) -> Removal {
    house.run(house.storage().reclaim(&digest(bytes), Respect::All)).unwrap()
}

fn unlink(repository: &Repository, bytes: &[u8]) -> Change {
    Change { unlink: vec![digest(bytes)], ..Change::of(repository) }
}

#[test]
fn content_goes_when_no_repository_links_it_and_no_lease_protects_it() {
    each(|house| {
        assert_eq!(reclaim(house, b"x"), Removal::Absent);
        house.push(&hosted("a"), b"x", "");
        let named = LinkRecord { right: LinkRight::Named(digest(b"m")), ..link_record(b"x") };
        house.commit(Change::link(&repository("b"), named, IfLinked::Replace)).unwrap();
        assert_eq!(reclaim(house, b"x"), Removal::Held);
        house.commit(unlink(&hosted("a"), b"x")).unwrap();
        assert_eq!(reclaim(house, b"x"), Removal::Held, "what is only named is linked as well");
        house.commit(unlink(&repository("b"), b"x")).unwrap();
        let hold = house.run(house.storage().hold(vec![digest(b"x")])).unwrap();
        assert_eq!(reclaim(house, b"x"), Removal::Leased);
        drop(hold);
        house.storage().set_grace(Duration::from_secs(3600));
        assert_eq!(reclaim(house, b"x"), Removal::Leased, "for the grace after the hold");
        house.storage().set_grace(Duration::ZERO);
        assert_eq!(reclaim(house, b"x"), Removal::Removed(1));
        assert!(house.blobs.size(&digest(b"x")).unwrap().is_none());
    });
}

#[test]
fn nothing_goes_while_the_catalogue_cannot_tell() {
    each(|house| {
        house.push(&hosted("a"), b"x", "");
        house.commit(unlink(&hosted("a"), b"x")).unwrap();
        house.faults.arm(1, When::After);
        house.run(house.storage().reclaim(&digest(b"x"), Respect::All)).unwrap_err();
        assert!(house.faults.disarm());
        assert!(house.blobs.size(&digest(b"x")).unwrap().is_some());
        house.faults.arm(1, When::Before);
        assert_eq!(house.storage().presence(&hosted("a")), Presence::Unseen);
        assert!(house.faults.disarm());
    });
}

#[test]
fn a_link_goes_when_no_manifest_needs_it_and_no_lease_protects_it() {
    each(|house| {
        let a = hosted("a");
        let image = manifest(b"config", &[b"layer"]);
        for blob in [&b"config"[..], b"layer", b"garbage"] {
            house.push(&a, blob, "");
        }
        house.push(&a, &image, OCI_IMAGE);
        let unneeded = || {
            let links = house.run(house.storage().links(&a)).unwrap();
            let tags = house.run(house.storage().tag_records(&a)).unwrap();
            house.run(house.storage().unneeded(&a, links, tags)).unwrap()
        };
        let found = unneeded();
        assert_eq!((found.links, found.borrowed), (vec![pushed(b"garbage", "")], false));
        let unlink_unneeded = || {
            let (garbage, version) = (vec![digest(b"garbage")], house.storage().version(&a));
            let unlinked = house.run(house.storage().unlink_unneeded(&a, garbage, Respect::All, version)).unwrap();
            !unlinked.unwrap().gone.is_empty()
        };
        let hold = house.run(house.storage().hold(vec![digest(b"garbage")])).unwrap();
        assert!(!unlink_unneeded());
        assert!(house.link(&a, b"garbage").is_some());
        drop(hold);
        assert!(unlink_unneeded());
        assert!(house.link(&a, b"garbage").is_none());
        assert_eq!(reclaim(house, b"garbage"), Removal::Removed(7));
        assert!(unneeded().links.is_empty());
        // A tag keeps what its manifest names when the manifest's link is gone.
        house.tag(&a, "t", &image);
        house.commit(unlink(&a, &image)).unwrap();
        assert!(unneeded().links.is_empty());
        house.commit(Change { untag: vec![tag("t")], ..Change::of(&a) }).unwrap();
        assert_eq!(unneeded().links.len(), 2);
        let needed = house.run(house.storage().needed_by(vec![(digest(&image), OCI_IMAGE.to_owned())])).unwrap();
        assert_eq!(needed, [digest(&image), digest(b"config"), digest(b"layer")].into());
    });
}

#[test]
fn held_parts_are_told_from_those_that_lack() {
    each(|house| {
        let a = hosted("a");
        house.push(&a, b"blob", "");
        house.push(&a, b"child", OCI_IMAGE);
        house.push(&hosted("b"), b"theirs", "");
        let parts = [(&b"blob"[..], false), (b"blob", true), (b"child", true), (b"theirs", false), (b"no", false)];
        let parts = parts.map(|(bytes, manifest)| (digest(bytes), manifest)).to_vec();
        let (hold, lacking) = house.run(house.storage().hold_parts(&a, parts)).unwrap();
        assert_eq!(lacking, [(digest(b"blob"), true), (digest(b"theirs"), false), (digest(b"no"), false)].into());
        house.commit(unlink(&a, b"blob")).unwrap();
        assert_eq!(reclaim(house, b"blob"), Removal::Leased);
        drop(hold);
        assert_eq!(reclaim(house, b"blob"), Removal::Removed(4));
    });
}

/// A push that holds its parts and finds them can link them; or the removal comes first, and the
/// push finds them gone.
#[test]
fn a_removal_comes_before_a_push_or_not_at_all() {
    each(|house| {
        let (a, b) = (hosted("a"), hosted("b"));
        let (mut linked, mut removed) = (0, 0);
        for round in 0..150_u32 {
            let bytes = round.to_be_bytes();
            house.push(&b, &bytes, "");
            house.commit(unlink(&b, &bytes)).unwrap();
            let storage = house.storage().clone();
            let handle = house.folder.runtime.handle().clone();
            let pushing = std::thread::scope(|scope| {
                let pushing = scope.spawn(|| {
                    handle.block_on(async {
                        let _hold = storage.hold(vec![digest(&bytes)]).await.unwrap();
                        let here = storage.size(&digest(&bytes)).await.unwrap().is_some();
                        let link = storage.commit(Change::link(&a, pushed(&bytes, ""), IfLinked::Confirm)).await;
                        (here, link)
                    })
                });
                let removal = reclaim(house, &bytes);
                (pushing.join().unwrap(), removal)
            });
            match pushing {
                ((true, Ok(true)), Removal::Leased | Removal::Held) => linked += 1,
                ((false, Err(CommitError::Storage(StorageError::Gone(_)))), Removal::Removed(4)) => removed += 1,
                other => panic!("half of each in round {round}: {other:?}"),
            }
            let is_here = house.blobs.size(&digest(&bytes)).unwrap().is_some();
            assert_eq!(house.link(&a, &bytes).is_some(), is_here);
        }
        eprintln!("{linked} pushes came first, {removed} removals");
    });
}

/// A manifest that was acknowledged after the needs were looked at keeps its parts, with no grace
/// at all.
#[test]
fn a_push_after_the_look_at_the_needs_keeps_its_parts() {
    each(|house| {
        let a = hosted("a");
        let image = manifest(b"config", &[b"layer"]);
        house.push(&a, b"config", "");
        house.push(&a, b"layer", "");
        let version = house.storage().version(&a);
        let unlink = |version| {
            let digests = vec![digest(b"config"), digest(b"layer")];
            house.run(house.storage().unlink_unneeded(&a, digests, Respect::All, version)).unwrap()
        };
        house.push(&a, &image, OCI_IMAGE);
        assert!(unlink(version).is_none(), "the repository has changed");
        assert!(house.link(&a, b"config").is_some() && house.link(&a, b"layer").is_some());
        house.commit(Change { unlink: vec![digest(&image)], ..Change::of(&a) }).unwrap();
        let first = unlink(house.storage().version(&a)).unwrap();
        assert_eq!(first.gone, [digest(b"config"), digest(b"layer")].into());
        assert!(unlink(first.version).is_some(), "its own removals do not stop it");
    });
}
