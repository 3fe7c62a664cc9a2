//! `rm`, by name and by bytes: what goes, what is refused, and that a dry run tells it exactly.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};

use super::{
    kept::{House, mirrored},
    *,
};
use crate::{
    oci::Repository,
    retention::{Forgetter, Named, Removals, RemoveOptions, remove},
    runtime::BlockingPool,
    storage::{Eviction, LinkRecord, LinkRight},
};

pub(super) const BY_NAME: RemoveOptions = RemoveOptions { bytes_only: false, force: false, dry_run: false };

pub(super) fn named(repository: &Repository, tag: &str) -> Named {
    let tag = Some(tag.parse().unwrap());
    let shown = format!("{repository}:{}", tag.as_ref().map(ToString::to_string).unwrap_or_default());
    Named { repository: repository.clone(), tag, digest: None, shown }
}

pub(super) fn rm(house: &House, images: &[Named], options: RemoveOptions) -> Removals {
    let removed = remove(&house.folder.storage, &house.kept, images.to_vec(), options);
    house.folder.runtime.block_on(removed).unwrap()
}

/// Every file below a folder, with its content, but for the index.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().unwrap() != "index" {
                found.extend(files(&path));
            }
        } else {
            found.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    found
}

/// K14: runs the order dry and then for real. Both tell the same, and the first changes nothing.
pub(super) fn both(house: &House, images: &[Named], options: RemoveOptions) -> Removals {
    let uses = || {
        house.folder.storage.index_has_caught_up();
        let gathered = house.folder.storage.residents(Vec::new(), |all, digest, used| all.push((digest, used)));
        let mut all = house.folder.runtime.block_on(gathered).unwrap();
        all.sort_by_key(|(digest, _)| *digest);
        all
    };
    // Both looks come from the index.
    eventually(|| house.folder.storage.index_is_ready());
    let (before, used) = (files(house.dir.path()), uses());
    let planned = rm(house, images, RemoveOptions { dry_run: true, ..options });
    assert_eq!(uses(), used, "a dry run changed a use");
    let after = files(house.dir.path());
    let differs = |(name, bytes): &(&String, &Vec<u8>)| before.get(*name) != Some(*bytes);
    let changed: Vec<_> = after.iter().filter(differs).map(|(name, _)| name).collect();
    assert!(changed.is_empty() && after.len() == before.len(), "a dry run changed {changed:?}");
    let done = rm(house, images, options);
    assert_eq!(planned, done);
    done
}

pub(super) fn here(house: &House, digest: &Digest) -> bool {
    house.folder.blobs.size(digest).unwrap().is_some()
}

/// Two images of `a` with a layer each and one in common; the second one's own layer is in `b` too.
fn two_images(house: &House) -> [Digest; 5] {
    let (a, b) = (mirrored("a"), mirrored("b"));
    let [config, shared, one, two] =
        ["config", "shared", "one", "two"].map(|part| house.fetch(&a, part.as_bytes(), "", None));
    let first = house.fetch(&a, &image(&[config, shared, one]), OCI_IMAGE, None);
    let second = house.fetch(&a, &image(&[config, shared, two]), OCI_IMAGE, None);
    house.tag(&a, "1", first, OCI_IMAGE);
    house.tag(&a, "2", second, OCI_IMAGE);
    house.fetch(&b, b"two", "", None);
    [first, second, shared, one, two]
}

#[test]
fn k14_of_two_images_that_share_layers_one_goes_with_what_is_its_own() {
    let (house, a) = (House::new(&[]), mirrored("a"));
    let [first, second, shared, one, two] = two_images(&house);
    let done = both(&house, &[named(&a, "1")], BY_NAME);
    assert_eq!((done.tags, done.manifests, done.links, done.blobs, done.shared), (1, 1, 2, 2, 0));
    assert_eq!(done.bytes, (image(&[digest(b"config"), shared, one]).len() + 3) as u64);
    assert!(!here(&house, &first) && !here(&house, &one) && here(&house, &shared) && here(&house, &second));
    let done = both(&house, &[named(&a, "1"), named(&a, "2")], BY_NAME);
    assert_eq!(done.images[0].error.as_deref(), Some("docker.io/a:1 is not here"));
    assert_eq!((done.images[1].error.clone(), done.blobs, done.shared), (None, 3, 1));
    assert!(here(&house, &two) && !here(&house, &shared), "the other repository links it");
}

#[test]
fn k14_by_bytes_the_names_stay_and_what_other_tags_need_too() {
    let (house, a) = (House::new(&[]), mirrored("a"));
    let [first, second, shared, one, two] = two_images(&house);
    let by_bytes = RemoveOptions { bytes_only: true, ..BY_NAME };
    eventually_counted(&house);
    let done = both(&house, &[named(&a, "1")], by_bytes);
    assert_eq!((done.tags, done.links, done.blobs, done.bytes), (0, 0, 1, 3));
    assert!(!here(&house, &one) && [first, second, shared, two].iter().all(|digest| here(&house, digest)));
    house.pin(&a, "2", &[]);
    let done = both(&house, &[named(&a, "1"), named(&a, "2")], by_bytes);
    assert!(done.images[1].error.as_ref().unwrap().contains("is pinned"), "{done:?}");
    assert!(here(&house, &shared) && here(&house, &two));
    house.unpin(&a, "2");
    let done = both(&house, &[named(&a, "1"), named(&a, "2")], by_bytes);
    assert_eq!((done.blobs, done.tags), (3, 0), "config, the common layer, and the second one's");
    assert!(here(&house, &first) && here(&house, &second), "a manifest is not evicted");
}

#[test]
fn what_is_pinned_or_pushed_is_refused() {
    let (house, a) = (House::new(&["docker.io/b:*"]), mirrored("a"));
    let [first, ..] = two_images(&house);
    let (other, _) = house.image(&mirrored("b"), "other");
    house.tag(&mirrored("b"), "x", other, OCI_IMAGE);
    house.pin(&a, "1", &[]);
    let hosted = Repository { namespace: crate::oci::Namespace::Hosted, name: "team/app".parse().unwrap() };
    let images = [named(&a, "1"), named(&mirrored("b"), "x"), named(&hosted, "v1"), named(&a, "nothing")];
    let refused = both(&house, &images, BY_NAME);
    let why = |at: usize| refused.images[at].error.clone().unwrap();
    assert!(why(0).contains("docker.io/a:1 is pinned: unpin it first"), "{}", why(0));
    assert!(why(1).contains("is kept by \"docker.io/b:*\" of cache.keep"), "{}", why(1));
    assert!(why(2).contains("delete it through the registry"), "{}", why(2));
    assert_eq!(why(3), "docker.io/a:nothing is not here");
    assert_eq!((refused.tags, refused.links, refused.blobs), (0, 0, 0));
    // The manifest of a tag may be pinned by its digest.
    house.unpin(&a, "1");
    house.pin(&a, &first.to_string(), &[]);
    assert!(rm(&house, &[named(&a, "1")], BY_NAME).images[0].error.is_some());
    let by_digest = Named { tag: None, digest: Some(first), shown: String::new(), ..named(&a, "1") };
    let why = rm(&house, &[by_digest], BY_NAME).images[0].error.clone().unwrap();
    assert!(why.ends_with("is what these tags name; remove them instead: 1"), "{why}");
    let forced = both(&house, &[named(&a, "1")], RemoveOptions { force: true, ..BY_NAME });
    assert_eq!((forced.images[0].error.clone(), forced.tags, forced.manifests), (None, 1, 1));
    assert_eq!(house.folder.pins.all().pins, [], "its pins go with it");
}

pub(super) fn eventually_counted(house: &House) {
    eventually(|| house.folder.storage.usage().complete);
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "it does not come about");
        std::thread::yield_now();
    }
}

pub(super) const DAY: u64 = 24 * 60 * 60;

/// Evicts content, and waits until the index has it no more.
pub(super) fn evict(house: &House, digest: Digest) {
    let evicted = house.folder.runtime.block_on(house.folder.storage.evict(&digest, 0)).unwrap();
    assert!(matches!(evicted, Eviction::Evicted(_)), "{evicted:?}");
    house.folder.storage.index_has_caught_up();
    assert!(house.folder.runtime.block_on(house.folder.storage.use_of(&digest)).unwrap().is_none());
}

pub(super) fn forgetter(house: &House, days: u64) -> Arc<Forgetter> {
    let pool = BlockingPool::new(house.folder.runtime.handle().clone(), 1);
    Forgetter::new(&house.folder.storage, pool, &house.kept, Duration::from_secs(days * DAY))
}

#[test]
fn a_name_without_content_is_forgotten_after_its_time() {
    let (house, a) = (House::new(&["docker.io/b:*"]), mirrored("a"));
    let [_, second, shared, one, two] = two_images(&house);
    let (kept, layer) = house.image(&mirrored("b"), "kept");
    house.tag(&mirrored("b"), "x", kept, OCI_IMAGE);
    let forgetter = forgetter(&house, 90);
    let now = crate::runtime::clock::now();
    let pass =
        |now: u64, ran: u64| house.folder.runtime.block_on(forgetter.pass(now, Duration::from_secs(ran))).unwrap();
    let later = now + 100 * DAY;
    assert_eq!(pass(later, 100 * DAY), 0, "all content is here");
    let evict = |digest| evict(&house, digest);
    eventually_counted(&house);
    [shared, one, digest(b"config"), layer].into_iter().for_each(evict);
    assert_eq!(pass(later, 60), 0, "a clock that was set forward forgets nothing");
    assert_eq!(pass(now + 80 * DAY, 80 * DAY), 0, "it was used within the time");
    assert_eq!(pass(now, 100 * DAY), 0, "a clock that was set back forgets nothing");
    assert_eq!(pass(later, 100 * DAY), 1, "the other image has a layer here, and the third is kept");
    assert_eq!(house.folder.catalog.tags(&a).unwrap(), ["2".parse().unwrap()]);
    evict(two);
    house.pin(&a, &second.to_string(), &[]);
    assert_eq!(pass(later, 100 * DAY), 0, "it is pinned by its digest");
    house.unpin(&a, &second.to_string());
    assert_eq!(pass(later, 100 * DAY), 1);
    assert_eq!(house.folder.catalog.links(&a).unwrap(), []);
    assert_eq!(house.folder.catalog.tags(&mirrored("b")).unwrap().len(), 1);
}

/// What a tag has moved on from, and what was asked for by digest alone, goes as well; a child and
/// a signature stay as long as their image.
#[test]
fn a_digest_that_no_tag_names_is_forgotten_after_its_time() {
    let (house, a) = (House::new(&[]), mirrored("a"));
    let ((old, old_layer), (new, _)) = (house.image(&a, "old"), house.image(&a, "new"));
    house.tag(&a, "t", old, OCI_IMAGE);
    house.tag(&a, "t", new, OCI_IMAGE);
    let (by_digest, its_layer) = house.image(&a, "by digest");
    let (pinned, pinned_layer) = house.image(&a, "pinned");
    house.pin(&a, &pinned.to_string(), &[]);
    let (child, child_layer) = house.image(&a, "child");
    let children = serde_json::json!([{ "digest": child, "mediaType": OCI_IMAGE, "size": 1 }]);
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children });
    let index = house.fetch(&a, index.to_string().as_bytes(), OCI_INDEX, None);
    house.tag(&a, "index", index, OCI_INDEX);
    let signature = house.fetch(&a, &image(&[digest(b"signs the old one")]), OCI_IMAGE, Some(old));
    let signs_new = house.fetch(&a, &image(&[digest(b"signs the new one")]), OCI_IMAGE, Some(new));
    let forgetter = forgetter(&house, 90);
    let later = crate::runtime::clock::now() + 100 * DAY;
    let pass = || {
        let passed = forgetter.pass(later, Duration::from_secs(100 * DAY));
        house.folder.runtime.block_on(passed).unwrap()
    };
    eventually_counted(&house);
    let evict = |digest| evict(&house, digest);
    let known = || {
        let links = house.folder.catalog.links(&a).unwrap();
        let manifests: HashSet<_> = links.iter().filter(|link| link.is_manifest()).map(|link| link.digest).collect();
        [old, signature, by_digest, new, signs_new, pinned, index, child].map(|digest| manifests.contains(&digest))
    };
    assert_eq!(pass(), 0, "all content is here");
    [old_layer, child_layer].into_iter().for_each(evict);
    // The index has nothing here but manifests either; with it goes its child.
    assert_eq!(pass(), 4, "{:?}", known());
    assert_eq!(known(), [false, false, true, true, true, true, false, false]);
    evict(its_layer);
    assert_eq!(pass(), 1, "{:?}", known());
    assert_eq!(known(), [false, false, false, true, true, true, false, false]);
    house.unpin(&a, &pinned.to_string());
    assert_eq!(pass(), 0, "its layer is here");
    evict(pinned_layer);
    assert_eq!(pass(), 1);
    assert_eq!(known(), [false, false, false, true, true, false, false, false]);
    assert_eq!(house.folder.catalog.tags(&a).unwrap(), ["t".parse().unwrap()]);
}

/// A HEAD of a blob that is not here leaves a link, for a push that may follow. It goes after a
/// day, unless a download or a manifest has replaced it.
#[test]
fn what_a_client_was_told_of_by_head_is_forgotten_after_a_day() {
    let (house, a) = (House::new(&[]), mirrored("a"));
    let forgetter = forgetter(&house, 90);
    let now = crate::runtime::clock::now();
    let told = |text: &[u8]| {
        let right = LinkRight::Named(digest(text));
        let (media_type, created) = (String::new(), crate::runtime::clock::now());
        let link = LinkRecord { digest: digest(text), media_type, size: 0, subject: None, right, created };
        house.folder.catalog.put_links(&a, std::slice::from_ref(&link)).unwrap();
        link
    };
    let [never, fetched, named] = [&b"never"[..], b"fetched", b"named"].map(told);
    house.fetch(&a, b"fetched", "", None);
    let manifest = house.fetch(&a, &image(&[named.digest]), OCI_IMAGE, None);
    house.tag(&a, "t", manifest, OCI_IMAGE);
    let pass = |days: u64| {
        let passed = forgetter.pass(now + days * DAY, Duration::from_secs(days * DAY));
        house.folder.runtime.block_on(passed).unwrap()
    };
    let known = || {
        let links = house.folder.catalog.links(&a).unwrap();
        [&never, &fetched, &named].map(|told| links.iter().any(|link| link.digest == told.digest))
    };
    assert_eq!((pass(1), known()), (0, [true; 3]), "a push may be under way");
    assert_eq!((pass(2), known()), (1, [false, true, true]), "the manifest names the last one");
    assert_eq!((pass(80), known()), (0, [false, true, true]));
}
