//! T2: what rules of tags keep goes neither by `rm` nor by the forgetting of names, whatever name
//! leads to it.

use std::{fs, sync::Arc, time::Duration};

use super::{
    kept::{House, mirrored},
    remove::{BY_NAME, DAY, both, eventually_counted, evict, forgetter, here, named, rm},
    *,
};
use crate::{
    oci::{Reference, Repository},
    retention::{Named, RemoveOptions, Source, TagKeeper},
    storage::TagHistory,
};

/// Tags that begin with `f` are frozen at what they named first, `locked` is by a lock file at an
/// image that no history has, and of tags that begin with `v` all digests are kept.
struct Rules(Option<Digest>);

impl TagKeeper for Rules {
    fn version(&self) -> u64 {
        0
    }

    fn concerns(&self, _: &Repository) -> bool {
        true
    }

    fn frozen(&self, _: &Repository, histories: &[TagHistory]) -> Vec<Reference> {
        let of_day = histories.iter().filter(|seen| seen.record.tag.as_str().starts_with('f'));
        let first = |seen: &TagHistory| seen.before.first().map_or(seen.record.digest, |first| first.digest);
        let of_day = of_day.flat_map(|seen| [seen.record.tag.clone().into(), first(seen).into()]);
        let locked = self.0.iter().flat_map(|digest| ["locked".parse().unwrap(), Reference::from(*digest)]);
        of_day.chain(locked).collect()
    }

    fn last(&self, _: &Repository, histories: &[TagHistory]) -> Vec<Reference> {
        let seen = histories.iter().filter(|seen| seen.record.tag.as_str().starts_with('v'));
        seen.flat_map(|seen| {
            let digests = seen.last(usize::MAX).into_iter().map(Reference::from);
            digests.chain([seen.record.tag.clone().into()])
        })
        .collect()
    }
}

fn house(locked: Option<Digest>) -> House {
    House::on(tempfile::tempdir().unwrap(), vec![Source::Rules(Arc::new(Rules(locked)))])
}

fn by_digest(repository: &Repository, digest: Digest) -> Named {
    Named { repository: repository.clone(), tag: None, digest: Some(digest), shown: format!("{repository}@{digest}") }
}

/// How many names a pass forgets after a hundred days.
fn forgotten(house: &House) -> usize {
    let (forgetter, later) = (forgetter(house, 90), crate::runtime::clock::now() + 100 * DAY);
    house.folder.runtime.block_on(forgetter.pass(later, Duration::from_secs(100 * DAY))).unwrap()
}

/// The record of such a tag says what it is frozen at, though it names something else by now.
#[test]
fn t2_a_tag_that_a_rule_goes_by_keeps_its_name() {
    let (house, a) = (house(None), mirrored("a"));
    for name in ["f", "v", "w"] {
        let ((old, old_layer), (new, new_layer)) =
            (house.image(&a, &format!("old {name}")), house.image(&a, &format!("new {name}")));
        house.tag(&a, name, old, OCI_IMAGE);
        house.tag(&a, name, new, OCI_IMAGE);
        eventually_counted(&house);
        [old_layer, new_layer].into_iter().for_each(|layer| evict(&house, layer));
    }
    let tags = || {
        let mut tags = house.folder.catalog.tags(&a).unwrap();
        tags.sort_unstable();
        tags.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(forgotten(&house), 2, "the tag that no rule is about, and what it named before");
    assert_eq!(tags(), ["f", "v"]);
    for (tag, told) in [("f", "is frozen by a rule of [[tags]]"), ("v", "is kept by a rule of [[tags]]")] {
        for options in [BY_NAME, RemoveOptions { bytes_only: true, ..BY_NAME }] {
            let refused = both(&house, &[named(&a, tag)], options);
            let why = refused.images[0].error.clone().unwrap();
            assert!(why.starts_with(&format!("docker.io/a:{tag} {told}")), "{why}");
            assert_eq!((refused.tags, refused.links, refused.blobs), (0, 0, 0));
        }
    }
    let forced = both(&house, &[named(&a, "f"), named(&a, "v")], RemoveOptions { force: true, ..BY_NAME });
    assert_eq!((forced.tags, forced.manifests, forced.images[0].error.clone()), (2, 2, None));
    assert_eq!(tags(), Vec::<String>::new());
    assert_eq!(forgotten(&house), 2, "with the names went the reason to keep what they named before");
}

/// A lock file keeps its digest by force as well, and a tag of it may have no record.
#[test]
fn t2_what_a_lock_file_names_stays_by_force_too() {
    let a = mirrored("a");
    let locked = digest(&image(&[digest(b"config"), digest(b"locked")]));
    let house = house(Some(locked));
    assert_eq!(house.image(&a, "locked").0, locked);
    let why = rm(&house, &[named(&a, "locked")], BY_NAME).images[0].error.clone().unwrap();
    assert!(why.starts_with("docker.io/a:locked is frozen by a rule of [[tags]]"), "{why}");
    house.pin(&a, &locked.to_string(), &[]);
    let force = RemoveOptions { force: true, ..BY_NAME };
    let refused = both(&house, &[by_digest(&a, locked)], force);
    let why = refused.images[0].error.clone().unwrap();
    assert!(why.ends_with("is kept by a rule of [[tags]]: change the rule first"), "{why}");
    assert_eq!(house.folder.pins.all().pins.len(), 1, "nor does its pin go");
    let (newer, _) = house.image(&a, "newer");
    house.tag(&a, "locked", newer, OCI_IMAGE);
    let forced = both(&house, &[named(&a, "locked")], force);
    assert_eq!((forced.tags, forced.manifests), (1, 1));
    assert!(here(&house, &locked) && !here(&house, &newer));
}

/// A child of an index, and a signature of another image.
#[test]
fn t2_what_a_rule_keeps_stays_when_what_leads_to_it_goes() {
    for by_rm in [true, false] {
        let (house, a) = (house(None), mirrored("a"));
        let (child, layer) = house.image(&a, "child");
        house.tag(&a, "v1", child, OCI_IMAGE);
        let above = house.fetch(&a, &index(&[(child, OCI_IMAGE)], ""), OCI_INDEX, None);
        let (signed, _) = house.image(&a, "signed");
        let signs = house.fetch(&a, b"signs", "", None);
        let signature = house.fetch(&a, &image(&[digest(b"its config"), signs]), OCI_IMAGE, Some(signed));
        house.tag(&a, "v2", signature, OCI_IMAGE);
        for tag in ["v1", "v2"] {
            let (newer, _) = house.image(&a, &format!("newer {tag}"));
            house.tag(&a, tag, newer, OCI_IMAGE);
        }
        house.tag(&a, "index", above, OCI_INDEX);
        house.tag(&a, "signed", signed, OCI_IMAGE);
        assert_eq!(
            house.keeps([child, layer, signature, signs, above, signed]),
            [true, true, true, true, false, false]
        );
        eventually_counted(&house);
        if by_rm {
            let done = both(&house, &[named(&a, "index"), named(&a, "signed")], BY_NAME);
            assert_eq!((done.tags, done.manifests), (2, 2));
            assert!([child, layer, signature, signs].iter().all(|digest| here(&house, digest)));
            assert!(!here(&house, &above) && !here(&house, &signed));
        } else {
            [layer, signs, digest(b"signed")].into_iter().for_each(|layer| evict(&house, layer));
            assert_eq!(forgotten(&house), 2);
        }
        let links = house.folder.catalog.links(&a).unwrap();
        let known = |digest: &Digest| links.iter().any(|link| link.digest == *digest);
        assert!([child, signature].iter().all(known) && ![above, signed].iter().any(known));
    }
}

/// What a damaged tag named is not known, and a pattern or a rule may keep it: nothing goes.
#[test]
fn k6_a_damaged_tag_that_is_to_stay_keeps_the_names_of_its_repository() {
    let patterns = || Source::Patterns(vec!["docker.io/a:v*".parse().unwrap()]);
    for source in [patterns, || Source::Rules(Arc::new(Rules(None)))] {
        let house = House::on(tempfile::tempdir().unwrap(), vec![source()]);
        let a = mirrored("a");
        let (manifest, layer) = house.image(&a, "layer");
        house.tag(&a, "v1", manifest, OCI_IMAGE);
        house.tag(&a, "other", manifest, OCI_IMAGE);
        let House { folder, kept, dir } = house;
        drop((folder, kept));
        fs::write(dir.path().join("repos/docker.io/a/tags/v1"), b"torn").unwrap();
        let house = House::on(dir, vec![source()]);
        let refused = both(&house, &[named(&a, "other")], BY_NAME);
        let why = refused.images[0].error.clone().unwrap();
        assert!(why.contains("the record of its tag v1 is damaged"), "{why}");
        assert!(here(&house, &manifest) && here(&house, &layer));
        let forced = both(&house, &[named(&a, "v1")], RemoveOptions { force: true, ..BY_NAME });
        assert_eq!((forced.images[0].error.clone(), forced.tags), (None, 1));
        assert!(here(&house, &manifest), "the other tag names it");
    }
}
