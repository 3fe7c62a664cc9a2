//! What a commit expects, writes and refuses.

use std::time::Instant;

use super::{super::*, *};
use crate::{config::MinFree, oci::Tag};

/// A change that would write an image and point the tag `t` at it.
fn image(repository: &Repository, bytes: &'static [u8], expect: Vec<Expectation>) -> Change {
    Change {
        expect,
        content: Some((digest(bytes), Bytes::from_static(bytes))),
        links: vec![(pushed(bytes, OCI_IMAGE), IfLinked::Replace)],
        tags: vec![tag_record("t", bytes)],
        ..Change::of(repository)
    }
}

/// Whether content, link and tag of [`image`] are here.
fn is_here(house: &House, repository: &Repository, bytes: &[u8]) -> [bool; 3] {
    [
        house.blobs.size(&digest(bytes)).unwrap().is_some(),
        house.link(repository, bytes).is_some(),
        house.named(repository, "t") == Some(digest(bytes)),
    ]
}

#[test]
fn a_change_is_there_when_it_is_acknowledged() {
    each(|house| {
        let a = hosted("a");
        assert!(house.commit(image(&a, b"m", vec![])).unwrap());
        assert_eq!(is_here(house, &a, b"m"), [true; 3]);
        assert_eq!(house.link(&a, b"m"), Some(pushed(b"m", OCI_IMAGE)));
        let read = house.run(house.storage().read(&digest(b"m"))).unwrap();
        assert_eq!(read, Some(Bytes::from_static(b"m")));
        assert!(house.commit(Change::of(&a)).unwrap(), "nothing to do is done");
        assert_eq!(is_here(house, &hosted("b"), b"m"), [true, false, false]);
    });
}

#[test]
fn an_immutable_tag_stays() {
    each(|house| {
        let a = hosted("a");
        let stays = |bytes: &[u8]| vec![Expectation::TagStays(tag("t"), digest(bytes))];
        assert!(house.commit(image(&a, b"1", stays(b"1"))).unwrap());
        assert!(house.commit(image(&a, b"1", stays(b"1"))).unwrap(), "the same image again");
        assert_eq!(house.refused(image(&a, b"2", stays(b"2"))), Refusal::TagMoves(tag("t")));
        assert_eq!(is_here(house, &a, b"2"), [false; 3], "nothing of a refused change is made");
        assert_eq!(is_here(house, &a, b"1"), [true; 3]);
    });
}

#[test]
fn every_part_is_here() {
    each(|house| {
        let a = hosted("a");
        let part = |bytes: &[u8], manifest| Expectation::Part { digest: digest(bytes), manifest };
        let missing = |bytes: &[&[u8]]| Refusal::PartsMissing(bytes.iter().map(|bytes| digest(bytes)).collect());
        house.push(&a, b"blob", "");
        house.push(&a, b"child", OCI_IMAGE);
        house.push(&hosted("b"), b"theirs", "");
        house.commit(Change::link(&a, link_record(b"no content"), IfLinked::Replace)).unwrap();
        let expect = vec![
            part(b"blob", false),
            part(b"theirs", false),
            part(b"no content", false),
            part(b"blob", true),
            part(b"child", true),
            part(b"nowhere", false),
        ];
        assert_eq!(house.refused(image(&a, b"m", expect)), missing(&[b"theirs", b"no content", b"blob", b"nowhere"]));
        assert_eq!(is_here(house, &a, b"m"), [false; 3]);
        // What the change itself links is a part.
        let expect = vec![part(b"theirs", false), part(b"blob", false), part(b"child", true)];
        let mut change = image(&a, b"m", expect);
        change.links.push((pushed(b"theirs", ""), IfLinked::Keep));
        assert!(house.commit(change).unwrap());
        assert_eq!(is_here(house, &a, b"m"), [true; 3]);
        assert!(house.link(&a, b"theirs").is_some());
    });
}

#[test]
fn a_manifest_goes_with_the_tags_that_were_seen() {
    each(|house| {
        let a = hosted("a");
        house.push(&a, b"m", OCI_IMAGE);
        house.push(&a, b"other", OCI_IMAGE);
        house.tag(&a, "t", b"m");
        house.tag(&a, "u", b"m");
        house.tag(&a, "else", b"other");
        let delete = |tags: &[&str]| {
            let tags: Vec<Tag> = tags.iter().map(|name| tag(name)).collect();
            let expect = vec![Expectation::NamedBy(digest(b"m"), tags.clone())];
            Change { expect, untag: tags, unlink: vec![digest(b"m")], ..Change::of(&a) }
        };
        assert_eq!(house.refused(delete(&["t"])), Refusal::NewTag(tag("u")));
        assert_eq!(house.named(&a, "t"), Some(digest(b"m")));
        assert!(house.commit(delete(&["t", "u"])).unwrap());
        assert!(house.named(&a, "t").is_none() && house.named(&a, "u").is_none() && house.link(&a, b"m").is_none());
        assert_eq!(house.named(&a, "else"), Some(digest(b"other")));
        assert!(house.blobs.size(&digest(b"m")).unwrap().is_some(), "content goes later");
        assert!(!house.commit(delete(&["t", "u"])).unwrap(), "nothing was there");
    });
}

#[test]
fn cached_content_needs_room_and_pushed_content_does_not() {
    for kind in KINDS {
        let limits = Limits { max_size: Some(5000), min_free: MinFree::Bytes(0) };
        let house = House::open(kind, limits);
        let large = vec![b'x'; 9000];
        let fetch = |repository: &Repository| Change {
            content: Some((digest(&large), Bytes::from(large.clone()))),
            links: vec![(link_record(&large), IfLinked::Replace)],
            ..Change::of(repository)
        };
        eventually(|| house.usage().complete);
        assert_eq!(house.refused(fetch(&repository("a"))), Refusal::Full);
        assert!(house.link(&repository("a"), &large).is_none());
        assert!(house.commit(fetch(&hosted("a"))).unwrap());
    }
}

#[test]
fn a_link_that_is_there_is_replaced_or_stays() {
    let old = |right| LinkRecord { right, size: 7, created: 1, ..link_record(b"x") };
    let new = LinkRecord { right: LinkRight::Fetched, size: 9, created: 2, ..link_record(b"x") };
    let named = LinkRight::Named(digest(b"m"));
    let cases = [
        (LinkRight::Fetched, IfLinked::Replace, true),
        (LinkRight::Fetched, IfLinked::Confirm, false),
        (LinkRight::Fetched, IfLinked::Keep, false),
        (LinkRight::Fetched, IfLinked::KeepIfHeld, false),
        (named, IfLinked::Replace, true),
        (named, IfLinked::Confirm, false),
        (named, IfLinked::Keep, false),
        (named, IfLinked::KeepIfHeld, true),
    ];
    each(|house| {
        for (at, (right, linked, replaced)) in cases.into_iter().enumerate() {
            let name = repository(&format!("a{at}"));
            assert!(house.commit(Change::link(&name, new.clone(), linked)).unwrap());
            assert_eq!(house.link(&name, b"x").as_ref(), Some(&new), "{linked:?} of a digest without a link");
            assert!(house.commit(Change::link(&name, old(right), IfLinked::Replace)).unwrap());
            assert!(house.commit(Change::link(&name, new.clone(), linked)).unwrap());
            let expected = if replaced { new.clone() } else { old(right) };
            assert_eq!(house.link(&name, b"x"), Some(expected), "{linked:?} over {right:?}");
        }
        // A record that differs by its time alone keeps it.
        let name = repository("a1");
        let later = LinkRecord { created: 99, ..old(LinkRight::Fetched) };
        assert!(house.commit(Change::link(&name, later, IfLinked::Replace)).unwrap());
        assert_eq!(house.link(&name, b"x"), Some(old(LinkRight::Fetched)));
    });
}

#[test]
fn pushed_content_that_is_gone_is_not_linked() {
    each(|house| {
        let a = hosted("a");
        let links = vec![(link_record(b"1"), IfLinked::Replace), (pushed(b"gone", ""), IfLinked::Replace)];
        let change = Change { links, tags: vec![tag_record("t", b"gone")], ..Change::of(&a) };
        let refused = house.commit(change);
        assert!(
            matches!(refused, Err(CommitError::Storage(StorageError::Gone(gone))) if gone == digest(b"gone")),
            "{refused:?}"
        );
        assert!(house.link(&a, b"1").is_none() && house.link(&a, b"gone").is_none(), "all or none");
        assert_eq!(house.named(&a, "t"), None);
        assert_eq!(house.storage().presence(&a), Presence::Absent);
    });
}

#[test]
fn content_is_what_its_digest_says() {
    each(|house| {
        let mut change = image(&hosted("a"), b"m", vec![]);
        change.content = Some((digest(b"m"), Bytes::from_static(b"n")));
        let refused = house.commit(change);
        assert!(matches!(refused, Err(CommitError::Storage(StorageError::WrongDigest(_)))), "{refused:?}");
        assert_eq!(is_here(house, &hosted("a"), b"m"), [false; 3]);
    });
}

#[test]
fn a_link_leases_its_digest_unless_it_only_names_it() {
    each(|house| {
        let a = repository("a");
        house.storage().set_grace(Duration::from_secs(3600));
        let since = Respect::Since(Instant::now());
        let named = LinkRecord { right: LinkRight::Named(digest(b"m")), ..link_record(b"named") };
        house.commit(Change::link(&a, named, IfLinked::Replace)).unwrap();
        house.commit(Change::link(&a, link_record(b"fetched"), IfLinked::Replace)).unwrap();
        house.push(&a, b"pushed", "");
        house.commit(Change::link(&a, pushed(b"gone", ""), IfLinked::Replace)).unwrap_err();
        let leased = |bytes: &[u8]| house.storage().protection(&digest(bytes), since).is_some();
        assert!(leased(b"fetched") && leased(b"pushed"));
        assert!(!leased(b"named") && !leased(b"gone"));
    });
}

#[test]
fn after_the_stop_everything_is_readable_and_nothing_changes() {
    each(|house| {
        let a = hosted("a");
        assert!(house.commit(image(&a, b"m", vec![])).unwrap());
        house.storage().close();
        let changes = [
            image(&a, b"n", vec![]),
            Change::link(&a, link_record(b"x"), IfLinked::Replace),
            Change { tags: vec![tag_record("u", b"m")], ..Change::of(&a) },
            Change { untag: vec![tag("t")], ..Change::of(&a) },
            Change { unlink: vec![digest(b"m")], ..Change::of(&a) },
        ];
        for change in changes {
            let closed = house.commit(change);
            assert!(matches!(closed, Err(CommitError::Storage(StorageError::Closed))), "{closed:?}");
        }
        assert_eq!(is_here(house, &a, b"m"), [true; 3]);
        assert_eq!(house.run(house.storage().links(&a)).unwrap(), [pushed(b"m", OCI_IMAGE)]);
    });
}
