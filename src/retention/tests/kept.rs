//! K6: what is pinned or fits a pattern of `cache.keep` stays, with everything it needs; and what
//! cannot be told stays with everything around it.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::*;
use crate::{
    oci::{Namespace, Repository},
    retention::{KeptSet, Reason, Source},
    storage::{Change, IfLinked, LinkRecord, LinkRight, Pin, PinReason, TagRecord},
};

pub(super) fn mirrored(name: &str) -> Repository {
    Repository { namespace: Namespace::Upstream("docker.io".parse().unwrap()), name: name.parse().unwrap() }
}

/// A folder with the repositories `a` and `b`, and what keeps in them.
pub(super) struct House {
    pub(super) folder: Folder,
    pub(super) kept: Arc<KeptSet>,
    pub(super) dir: tempfile::TempDir,
}

impl House {
    pub(super) fn new(keep: &[&str]) -> House {
        let patterns = keep.iter().map(|pattern| pattern.parse().unwrap()).collect();
        House::on(tempfile::tempdir().unwrap(), vec![Source::Patterns(patterns)])
    }

    /// A folder of which pins and these sources keep something.
    pub(super) fn on(dir: tempfile::TempDir, more: Vec<Source>) -> House {
        let folder = open(dir.path());
        let sources = std::iter::once(Source::Pins).chain(more).collect();
        let kept = KeptSet::new(&folder.storage, sources);
        House { folder, kept, dir }
    }

    /// Stores content as a pull does; a manifest has a type.
    pub(super) fn fetch(
        &self,
        repository: &Repository,
        bytes: &[u8],
        media_type: &str,
        subject: Option<Digest>,
    ) -> Digest {
        let digest = digest(bytes);
        self.folder.blobs.put(&digest, bytes).unwrap();
        let (media_type, size) = (media_type.to_owned(), bytes.len() as u64);
        let link = LinkRecord { digest, media_type, size, subject, right: LinkRight::Fetched, created: 1 };
        self.folder.catalog.put_links(repository, &[link]).unwrap();
        digest
    }

    /// An image of one layer, with its digest and that of its layer.
    pub(super) fn image(&self, repository: &Repository, layer: &str) -> (Digest, Digest) {
        let layer = self.fetch(repository, layer.as_bytes(), "", None);
        (self.fetch(repository, &image(&[digest(b"config"), layer]), OCI_IMAGE, None), layer)
    }

    pub(super) fn tag(&self, repository: &Repository, tag: &str, digest: Digest, media_type: &str) {
        let media_type = media_type.to_owned();
        let record = TagRecord { tag: tag.parse().unwrap(), digest, media_type, size: 1, updated: 1 };
        self.folder.catalog.put_tag(repository, &record).unwrap();
    }

    pub(super) fn pin(&self, repository: &Repository, reference: &str, platforms: &[&str]) {
        let pin = Pin {
            repository: repository.clone(),
            reference: reference.parse().unwrap(),
            platforms: platforms.iter().map(|platform| platform.parse().unwrap()).collect(),
            why: PinReason::Pinned,
            note: String::new(),
            by: String::new(),
            at: 1,
        };
        self.folder.runtime.block_on(self.folder.storage.pin(pin)).unwrap();
    }

    pub(super) fn unpin(&self, repository: &Repository, reference: &str) {
        let reference = reference.parse().unwrap();
        assert!(self.folder.runtime.block_on(self.folder.storage.unpin(repository, &reference)).unwrap());
    }

    /// Which of these are kept now.
    pub(super) fn keeps<const N: usize>(&self, digests: [Digest; N]) -> [bool; N] {
        let view = self.folder.runtime.block_on(self.kept.view()).unwrap();
        digests.map(|digest| view.keeps(&digest))
    }

    /// The same folder after a crash, and after this happened to its files.
    fn after(self, harm: impl FnOnce(&Path)) -> House {
        let House { folder, kept, dir } = self;
        drop((folder, kept));
        harm(dir.path());
        House::on(dir, Vec::new())
    }
}

#[test]
fn k6_the_pin_of_a_tag_follows_it_and_the_pin_of_a_digest_is_fixed() {
    let (house, a) = (House::new(&[]), mirrored("a"));
    let ((first, old), (second, new)) = (house.image(&a, "old"), house.image(&a, "new"));
    house.tag(&a, "t", first, OCI_IMAGE);
    assert_eq!(house.keeps([first, old, second, new]), [false; 4]);
    house.pin(&a, "t", &[]);
    assert_eq!(house.keeps([first, old, second, new, digest(b"config")]), [true, true, false, false, true]);
    house.tag(&a, "t", second, OCI_IMAGE);
    assert_eq!(house.keeps([first, old, second, new]), [false, false, true, true]);
    house.pin(&a, &first.to_string(), &[]);
    assert_eq!(house.keeps([first, old, second, new]), [true; 4]);
    house.unpin(&a, "t");
    assert_eq!(house.keeps([first, old, second, new, digest(b"config")]), [true, true, false, false, true]);
    house.unpin(&a, &first.to_string());
    assert_eq!(house.keeps([first, old, second, new, digest(b"config")]), [false; 5]);
    house.pin(&mirrored("b"), "not-here-yet", &[]);
    assert_eq!(house.keeps([first, old]), [false; 2]);
    let (third, later) = house.image(&mirrored("b"), "later");
    house.tag(&mirrored("b"), "not-here-yet", third, OCI_IMAGE);
    assert_eq!(house.keeps([third, later]), [true; 2], "a pin may come before its image");
}

/// Shared content is counted once, and what is not here or hosted not at all.
#[test]
fn the_bytes_that_stay_are_counted() {
    let (house, a, b) = (House::new(&[]), mirrored("a"), mirrored("b"));
    let bytes = || {
        drop(house.folder.runtime.block_on(house.kept.view()).unwrap());
        house.kept.bytes()
    };
    let (first, _) = house.image(&a, "a layer");
    house.tag(&a, "t", first, OCI_IMAGE);
    let (second, pushed) = house.image(&b, "another layer");
    house.tag(&b, "t", second, OCI_IMAGE);
    assert_eq!(bytes(), 0);
    house.pin(&a, "t", &[]);
    // Its configuration was never fetched.
    let manifest = image(&[digest(b"config"), digest(b"a layer")]).len() as u64;
    assert_eq!(bytes(), manifest + 7);
    let (again, _) = house.image(&b, "a layer");
    assert_eq!(again, first);
    house.pin(&b, &again.to_string(), &[]);
    assert_eq!(bytes(), manifest + 7, "it is the same content");
    house.pin(&b, "t", &[]);
    assert_eq!(bytes(), 2 * manifest + 7 + 13);
    let hosted = Repository { namespace: Namespace::Hosted, name: "c".parse().unwrap() };
    let link = LinkRecord {
        digest: pushed,
        media_type: String::new(),
        size: 13,
        subject: None,
        right: LinkRight::Pushed,
        created: 1,
    };
    house.folder.catalog.put_links(&hosted, &[link]).unwrap();
    // The next change of the repository is the next look.
    house.image(&b, "later");
    assert_eq!(bytes(), 2 * manifest + 7);
    house.unpin(&a, "t");
    assert_eq!(bytes(), 2 * manifest + 7);
    house.unpin(&b, &again.to_string());
    house.unpin(&b, "t");
    assert_eq!(bytes(), 0);
}

#[test]
fn k6_an_index_keeps_the_platforms_that_are_wanted_and_what_signs_them() {
    let (house, a) = (House::new(&[]), mirrored("a"));
    let ((amd, amd_layer), (arm, arm_layer)) = (house.image(&a, "amd"), house.image(&a, "arm"));
    let child = |digest, arch| serde_json::json!({ "digest": digest, "mediaType": OCI_IMAGE, "size": 1, "platform": { "os": "linux", "architecture": arch } });
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child(amd, "amd64"), child(arm, "arm64")] });
    let index = house.fetch(&a, index.to_string().as_bytes(), OCI_INDEX, None);
    house.tag(&a, "t", index, OCI_INDEX);
    let sign = |of: Digest, layer: &str| {
        let layer = house.fetch(&a, layer.as_bytes(), "", None);
        house.fetch(&a, &image(&[layer, digest(of.to_string().as_bytes())]), OCI_IMAGE, Some(of));
        (layer, digest(&image(&[layer, digest(of.to_string().as_bytes())])))
    };
    let ((of_amd, amd_sign), (of_arm, _)) = (sign(amd, "of amd"), sign(arm, "of arm"));
    let (of_sign, _) = sign(amd_sign, "of the signature");
    let all = [index, amd, amd_layer, of_amd, of_sign, arm, arm_layer, of_arm];
    house.pin(&a, "t", &["linux/amd64"]);
    assert_eq!(house.keeps(all), [true, true, true, true, true, false, false, false]);
    house.pin(&a, "t", &[]);
    assert_eq!(house.keeps(all), [true; 8]);
    house.pin(&a, "t", &["linux/s390x"]);
    assert_eq!(house.keeps(all), [true; 8], "it is not there, so nothing is known to go");
}

#[test]
fn k6_a_pattern_keeps_the_tags_that_fit_also_of_repositories_that_come_later() {
    let house = House::new(&["docker.io/a:v*", "docker.io/team/**:*"]);
    let a = mirrored("a");
    let ((first, one), (second, two)) = (house.image(&a, "one"), house.image(&a, "two"));
    house.tag(&a, "v1", first, OCI_IMAGE);
    house.tag(&a, "w1", second, OCI_IMAGE);
    assert_eq!(house.keeps([one, two]), [true, false]);
    house.tag(&a, "v2", second, OCI_IMAGE);
    assert_eq!(house.keeps([one, two]), [true, true]);
    let late = mirrored("team/late");
    let (third, three) = house.image(&late, "three");
    assert_eq!(house.keeps([three]), [false]);
    house.tag(&late, "x", third, OCI_IMAGE);
    assert_eq!(house.keeps([three]), [true]);
    let reason = |tag: &str, digest: Option<&Digest>| {
        let tag = tag.parse().unwrap();
        house.folder.runtime.block_on(house.kept.reason(&a, Some(&tag), digest)).unwrap()
    };
    assert_eq!(reason("v1", None), Some(Reason::Pattern("docker.io/a:v*".to_owned())));
    assert_eq!(reason("w1", None), None);
    house.pin(&a, &second.to_string(), &[]);
    assert_eq!((reason("w1", None), reason("w1", Some(&second))), (None, Some(Reason::Pinned)));
}

/// A manifest, a tag, a link or a pin that cannot be read: nothing of the repository goes, and the
/// other repositories are as before.
#[test]
fn k6_what_cannot_be_told_keeps_all_of_its_repository() {
    let blob = |digest: &Digest| format!("blobs/sha256/{}/{}", &digest.hex()[..2], digest.hex());
    let pinned = blob(&digest(&image(&[digest(b"config"), digest(b"layer")])));
    let stray = format!("repos/docker.io/a/links/sha256-{}", digest(b"other layer").hex());
    for (what, file) in [
        ("a rotten manifest", &*pinned),
        ("a damaged tag", "repos/docker.io/a/tags/t"),
        ("a damaged link", &stray),
        ("a damaged pin", "pins/docker.io/a/t"),
    ] {
        let (house, a, b) = (House::new(&[]), mirrored("a"), mirrored("b"));
        let (manifest, layer) = house.image(&a, "layer");
        let (_, other) = house.image(&a, "other layer");
        let (_, elsewhere) = house.image(&b, "elsewhere");
        house.tag(&a, "t", manifest, OCI_IMAGE);
        house.pin(&a, "t", &[]);
        assert_eq!(house.keeps([layer, other, elsewhere]), [true, false, false], "{what}");
        let house = house.after(|dir| fs::write(dir.join(file), b"torn").unwrap());
        assert_eq!(house.keeps([layer, other, elsewhere]), [true, true, false], "{what}");
        // Another image comes, and the set is gathered anew.
        let (_, late) = house.image(&a, "late");
        assert_eq!(house.keeps([layer, other, late, elsewhere]), [true, true, true, false], "{what}");
    }
    let (house, b) = (House::new(&[]), mirrored("b"));
    let (_, elsewhere) = house.image(&b, "elsewhere");
    fs::write(house.dir.path().join("pins"), b"").unwrap();
    assert_eq!(house.keeps([elsewhere]), [true], "no pin can be read");
}

/// A view that lives keeps a newer set from taking its place, so that an eviction by the view comes
/// before the pin is acknowledged.
#[test]
fn k6_no_pin_is_acknowledged_while_an_eviction_goes_by_an_older_view() {
    let (house, a) = (House::new(&[]), mirrored("a"));
    let (manifest, layer) = house.image(&a, "layer");
    house.tag(&a, "t", manifest, OCI_IMAGE);
    let view = house.folder.runtime.block_on(house.kept.view()).unwrap();
    assert!(!view.keeps(&layer));
    house.pin(&a, "t", &[]);
    let kept = Arc::clone(&house.kept);
    let newer = house.folder.runtime.spawn(async move { kept.view().await.map(|view| view.keeps(&layer)) });
    for _ in 0..100 {
        house.folder.runtime.block_on(tokio::task::yield_now());
        assert!(!newer.is_finished());
    }
    drop(view);
    assert!(house.folder.runtime.block_on(newer).unwrap().unwrap());
}

/// A repository that changes faster than it can be read: it is held still for a look, so that the
/// others' content can still be evicted, and goes on changing afterwards.
#[test]
fn k6_a_repository_that_changes_all_the_time_can_be_looked_at() {
    let (house, a) = (House::new(&["docker.io/a:*"]), mirrored("a"));
    let layers: Vec<_> = (0..100)
        .map(|n| {
            let (manifest, layer) = house.image(&a, &format!("layer {n}"));
            house.tag(&a, &format!("t{n}"), manifest, OCI_IMAGE);
            layer
        })
        .collect();
    let (storage, changes) = (house.folder.storage.clone(), Arc::new(AtomicU64::new(0)));
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::clone(&changes));
    let stop = Arc::clone(&over);
    let changing = house.folder.runtime.spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            let named = digest(&count.fetch_add(1, Ordering::Relaxed).to_le_bytes());
            let link = LinkRecord {
                digest: named,
                media_type: String::new(),
                size: 1,
                subject: None,
                right: LinkRight::Named(named),
                created: 1,
            };
            storage.commit(Change::link(&a, link, IfLinked::Keep)).await.unwrap();
        }
    });
    for _ in 0..5 {
        let before = changes.load(Ordering::Relaxed);
        let view = house.folder.runtime.block_on(house.kept.view()).unwrap();
        assert!(layers.iter().all(|layer| view.keeps(layer)));
        drop(view);
        while changes.load(Ordering::Relaxed) < before + 3 {
            std::thread::yield_now();
        }
    }
    over.store(true, Ordering::Relaxed);
    house.folder.runtime.block_on(changing).unwrap();
}
