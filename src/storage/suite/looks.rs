//! What is seen: tags, referrers, holders, repositories, presence, versions.

use super::{super::*, *};
use crate::oci::{Namespace, RepositoryName, Tag};

#[test]
fn tags_come_in_pages_in_the_order_of_their_bytes() {
    each(|house| {
        let a = hosted("a");
        let tags = |last: Option<&str>, limit| {
            let page = house.run(house.storage().tags(&a, last.map(str::to_owned), limit)).unwrap();
            (page.tags.iter().map(Tag::to_string).collect::<Vec<_>>(), page.known)
        };
        let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(tags(None, 9), (vec![], false));
        for name in ["b", "B", "a", "1.", "nul"] {
            house.tag(&a, name, name.as_bytes());
        }
        house.tag(&hosted("a/b"), "other", b"x");
        assert_eq!(tags(None, 9), (strings(&["1.", "B", "a", "b", "nul"]), true));
        assert_eq!(tags(None, 2), (strings(&["1.", "B"]), true));
        assert_eq!(tags(Some("B"), 2), (strings(&["a", "b"]), true));
        assert_eq!(tags(Some("A no tag"), 1), (strings(&["B"]), true), "it need not be a tag");
        assert_eq!(tags(Some("nul"), 9), (vec![], true));
        let records = house.run(house.storage().tag_records(&a)).unwrap();
        assert_eq!(records, ["1.", "B", "a", "b", "nul"].map(|name| tag_record(name, name.as_bytes())));
        house.tag(&a, "B", b"moved");
        assert_eq!(house.named(&a, "B"), Some(digest(b"moved")));
        for name in ["b", "B", "a", "1.", "nul"] {
            assert!(house.commit(Change { untag: vec![tag(name)], ..Change::of(&a) }).unwrap());
        }
        assert_eq!(house.named(&a, "B"), None);
        assert_eq!(tags(None, 9), (vec![], true), "it stays known");
    });
}

#[test]
fn referrers_come_in_pages_in_the_order_of_digests() {
    each(|house| {
        let (a, subject) = (hosted("a"), digest(b"subject"));
        let mut expected = Vec::new();
        for n in 0..7_u8 {
            let link = LinkRecord { subject: Some(subject), ..pushed(&[n], OCI_IMAGE) };
            house.push(&a, &[n], OCI_IMAGE);
            house.commit(Change::link(&a, link.clone(), IfLinked::Replace)).unwrap();
            expected.push(link);
        }
        expected.sort_unstable_by_key(|link| link.digest);
        house.push(&a, b"no subject", OCI_IMAGE);
        let about_another = LinkRecord { subject: Some(digest(b"another")), ..link_record(b"z") };
        house.commit(Change::link(&a, about_another, IfLinked::Replace)).unwrap();
        let elsewhere = LinkRecord { subject: Some(subject), ..link_record(b"y") };
        house.commit(Change::link(&hosted("b"), elsewhere, IfLinked::Replace)).unwrap();
        for limit in [1, 3, 7, 100] {
            let (mut found, mut last) = (Vec::new(), None::<Digest>);
            loop {
                let from = last.map(|digest| digest.to_string());
                let (page, next) = house.run(house.storage().referrers(&a, &subject, from, limit)).unwrap();
                found.extend(page);
                last = next;
                if last.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{limit} at a time");
        }
        house.commit(Change { unlink: vec![expected[0].digest], ..Change::of(&a) }).unwrap();
        let (rest, _) = house.run(house.storage().referrers(&a, &subject, None, 100)).unwrap();
        assert_eq!(rest, expected[1..]);
    });
}

#[test]
fn holders_are_the_repositories_that_link_a_digest() {
    each(|house| {
        let holders = || house.run(house.storage().holders(&digest(b"x"))).unwrap();
        let holder = |repository, held| Holder { repository, held };
        assert_eq!(holders(), []);
        house.push(&hosted("b"), b"x", "");
        house.push(&hosted("a"), b"x", "");
        house.push(&hosted("c"), b"other", "");
        let named = LinkRecord { right: LinkRight::Named(digest(b"m")), ..link_record(b"x") };
        house.commit(Change::link(&repository("a"), named, IfLinked::Replace)).unwrap();
        let named = holder(repository("a"), false);
        assert_eq!(holders(), [holder(hosted("a"), true), holder(hosted("b"), true), named.clone()]);
        house.commit(Change { unlink: vec![digest(b"x")], ..Change::of(&hosted("a")) }).unwrap();
        assert_eq!(holders(), [holder(hosted("b"), true), named]);
        assert!(house.storage().links_to(&hosted("b"), &digest(b"x")));
        assert!(!house.storage().links_to(&hosted("a"), &digest(b"x")));
        assert!(house.storage().holds_anything(&hosted("b")) && !house.storage().holds_anything(&hosted("a")));
        assert!(!house.storage().holds_anything(&repository("a")), "what is only named is not held");
    });
}

#[test]
fn repositories_are_listed_while_they_hold_something() {
    each(|house| {
        let all = ["a", "a-b", "a/b", "a0", "b"];
        for name in all.iter().rev() {
            house.push(&hosted(name), b"x", "");
        }
        house.push(&repository("mirrored"), b"x", "");
        house.tag(&hosted("c"), "t", b"x");
        house.push(&hosted("gone"), b"x", "");
        house.commit(Change { unlink: vec![digest(b"x")], ..Change::of(&hosted("gone")) }).unwrap();
        let list = |last: Option<&str>, limit| {
            let page = house.storage().repositories(&Namespace::Hosted, last.map(str::to_owned), limit);
            house.run(page).unwrap().iter().map(RepositoryName::to_string).collect::<Vec<_>>()
        };
        let mut expected: Vec<_> = all.iter().chain(&["c"]).map(|name| hosted(name).name).collect();
        expected.sort_unstable();
        let expected: Vec<_> = expected.iter().map(RepositoryName::to_string).collect();
        assert_eq!(list(None, 99), expected);
        assert_eq!(list(None, 2), expected[..2]);
        assert_eq!(list(Some(&expected[1]), 3), expected[2..5]);
        assert_eq!(list(Some("No Name"), 99), expected, "it need not be a name");
        let mut folders = house.run(house.storage().folders(&Namespace::Hosted)).unwrap();
        folders.retain(|name| !expected.contains(&name.to_string()));
        assert_eq!(folders, [hosted("gone").name], "one that holds nothing is still begun");
        let namespaces = house.run(house.storage().namespaces()).unwrap();
        assert!(namespaces.contains(&Namespace::Hosted) && namespaces.contains(&repository("a").namespace));
    });
}

#[test]
fn a_repository_is_known_from_its_first_manifest_on_and_for_good() {
    each(|house| {
        let a = hosted("a");
        let presence = || house.storage().presence(&a);
        let unlink = |bytes: &[u8]| Change { unlink: vec![digest(bytes)], ..Change::of(&a) };
        assert_eq!(presence(), Presence::Absent);
        assert!(!house.commit(unlink(b"x")).unwrap());
        assert!(!house.commit(Change { untag: vec![tag("t")], ..Change::of(&a) }).unwrap());
        assert_eq!(presence(), Presence::Absent, "a deletion begins nothing");
        house.push(&a, b"x", "");
        assert_eq!(presence(), Presence::Begun);
        assert!(!house.storage().knows(&a));
        house.commit(unlink(b"x")).unwrap();
        assert_eq!(presence(), Presence::Begun);
        house.push(&a, b"m", OCI_IMAGE);
        assert_eq!(presence(), Presence::Known);
        house.commit(unlink(b"m")).unwrap();
        assert_eq!(presence(), Presence::Known, "it stays known");
        assert!(house.storage().knows(&a));
        house.tag(&hosted("b"), "t", b"x");
        assert_eq!(house.storage().presence(&hosted("b")), Presence::Known, "by a tag as well");
    });
}

#[test]
fn every_change_raises_the_version() {
    each(|house| {
        let a = hosted("a");
        let last = std::cell::Cell::new(house.storage().version(&a));
        let rises = |why: &str| {
            let now = house.storage().version(&a);
            assert!(now > last.replace(now), "{why}");
        };
        house.push(&a, b"x", OCI_IMAGE);
        rises("a link");
        house.tag(&a, "t", b"x");
        rises("a tag");
        house.tag(&a, "t", b"y");
        rises("a tag that moves");
        house.commit(Change { untag: vec![tag("t")], ..Change::of(&a) }).unwrap();
        rises("a tag that goes");
        house.commit(Change { unlink: vec![digest(b"x")], ..Change::of(&a) }).unwrap();
        rises("a link that goes");
        assert_eq!(house.run(house.storage().reclaim(&digest(b"x"), Respect::All)).unwrap(), Removal::Removed(1));
        rises("content that goes");
        house.named(&a, "t");
        house.link(&a, b"x");
        assert_eq!(house.storage().version(&a), last.get(), "a look does not");
    });
}
