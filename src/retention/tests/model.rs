//! Any sequence of pushes, deletes and tags against a model: after a collection every manifest's
//! parts are here, and what nothing needs is gone once its grace is over.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    oci::{Namespace, Repository, Tag},
    retention::{
        Collection,
        sweep::{PassMode, SettledRepositories},
    },
    storage::{Hold, LinkRecord, LinkRight, TagRecord},
};

/// What somebody does. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Blob { repo: usize, content: u8 },
    Mount { from: usize, to: usize, content: u8 },
    Image { repo: usize, parts: Vec<u8>, tag: Option<u8> },
    Index { repo: usize, children: Vec<prop::sample::Index>, tag: Option<u8> },
    Fetch { content: u8 },
    Untag { repo: usize, tag: u8 },
    DeleteManifest { repo: usize, which: prop::sample::Index },
    DeleteBlob { repo: usize, content: u8 },
    GraceOver,
    Collect,
}

fn step() -> impl Strategy<Value = Step> {
    let (repo, content, tag) = (|| 0usize..3, || 0u8..8, || proptest::option::of(0u8..3));
    prop_oneof![
        4 => (repo(), content()).prop_map(|(repo, content)| Step::Blob { repo, content }),
        2 => (repo(), repo(), content()).prop_map(|(from, to, content)| Step::Mount { from, to, content }),
        4 => (repo(), prop::collection::vec(content(), 1..4), tag()).prop_map(|(repo, parts, tag)| Step::Image { repo, parts, tag }),
        2 => (repo(), prop::collection::vec(any::<prop::sample::Index>(), 1..3), tag())
            .prop_map(|(repo, children, tag)| Step::Index { repo, children, tag }),
        1 => content().prop_map(|content| Step::Fetch { content }),
        1 => (repo(), 0u8..3).prop_map(|(repo, tag)| Step::Untag { repo, tag }),
        2 => (repo(), any::<prop::sample::Index>()).prop_map(|(repo, which)| Step::DeleteManifest { repo, which }),
        1 => (repo(), content()).prop_map(|(repo, content)| Step::DeleteBlob { repo, content }),
        2 => Just(Step::GraceOver),
        3 => Just(Step::Collect),
    ]
}

/// What a repository ought to hold: each manifest with the digests it names, and the blobs.
#[derive(Default)]
struct Held {
    manifests: BTreeMap<Digest, (BTreeSet<Digest>, &'static str)>,
    blobs: BTreeSet<Digest>,
    tags: BTreeMap<u8, Digest>,
}

/// The model beside the real thing. Repositories 0 to 2 are hosted, 3 is an upstream's.
struct World {
    storage: Folder,
    held: [Held; 4],
    /// With a grace of nothing a lease is what is held.
    leased: BTreeMap<Digest, Hold>,
    on_disk: BTreeSet<Digest>,
    /// What every manifest names that was ever pushed.
    named: BTreeMap<Digest, BTreeSet<Digest>>,
    settled: SettledRepositories,
}

fn repository(number: usize) -> Repository {
    let namespace = if number < 3 { Namespace::Hosted } else { Namespace::Upstream("docker.io".parse().unwrap()) };
    Repository { namespace, name: format!("team/r{}", number % 3).parse().unwrap() }
}

fn content(number: u8) -> Vec<u8> {
    vec![number; 100 + usize::from(number)]
}

impl World {
    fn link(&mut self, repo: usize, digest: Digest, media_type: &str, right: LinkRight) {
        let link = LinkRecord { digest, media_type: media_type.to_owned(), size: 1, subject: None, right, created: 1 };
        self.storage.catalog.put_links(&repository(repo), &[link]).unwrap();
    }

    fn store(&mut self, bytes: &[u8]) -> Digest {
        let digest = digest(bytes);
        self.storage.blobs.put(&digest, bytes).unwrap();
        self.lease(digest);
        self.on_disk.insert(digest);
        digest
    }

    fn lease(&mut self, digest: Digest) {
        self.leased.insert(digest, self.storage.leases.hold([digest]));
    }

    fn manifest(
        &mut self,
        repo: usize,
        bytes: &Bytes,
        parts: BTreeSet<Digest>,
        media_type: &'static str,
        tag: Option<u8>,
    ) {
        for part in &parts {
            self.lease(*part);
        }
        let digest = self.store(bytes);
        self.link(repo, digest, media_type, LinkRight::Pushed);
        self.named.insert(digest, parts.clone());
        self.held[repo].manifests.insert(digest, (parts, media_type));
        if let Some(number) = tag {
            let (media_type, tag) = (media_type.to_owned(), name(number));
            let record = TagRecord { tag, digest, media_type, size: bytes.len() as u64, updated: 1 };
            self.storage.catalog.put_tag(&repository(repo), &record).unwrap();
            self.held[repo].tags.insert(number, digest);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Blob { repo, content } => {
                let digest = self.store(&self::content(*content));
                self.link(*repo, digest, "", LinkRight::Pushed);
                self.held[*repo].blobs.insert(digest);
            }
            Step::Mount { from, to, content } => {
                let digest = digest(&self::content(*content));
                if self.held[*from].blobs.contains(&digest) {
                    self.lease(digest);
                    self.link(*to, digest, "", LinkRight::Pushed);
                    self.held[*to].blobs.insert(digest);
                }
            }
            Step::Image { repo, parts, tag } => {
                let parts: Vec<_> = parts.iter().map(|part| digest(&content(*part))).collect();
                if parts.iter().all(|part| self.held[*repo].blobs.contains(part)) {
                    self.manifest(*repo, &image(&parts), parts.iter().copied().collect(), OCI_IMAGE, *tag);
                }
            }
            Step::Index { repo, children, tag } => {
                let manifests: Vec<_> =
                    self.held[*repo].manifests.iter().map(|(digest, held)| (*digest, held.1)).collect();
                if !manifests.is_empty() {
                    let children: Vec<_> = children.iter().map(|child| *child.get(&manifests)).collect();
                    let parts = children.iter().map(|(digest, _)| *digest).collect();
                    self.manifest(*repo, &index(&children, ""), parts, OCI_INDEX, *tag);
                }
            }
            Step::Fetch { content } => {
                let digest = self.store(&self::content(*content));
                self.link(3, digest, "", LinkRight::Fetched);
                self.held[3].blobs.insert(digest);
            }
            Step::Untag { repo, tag } => {
                self.storage.catalog.delete_tag(&repository(*repo), &name(*tag)).unwrap();
                self.held[*repo].tags.remove(tag);
            }
            Step::DeleteManifest { repo, which } => {
                let manifests: Vec<_> = self.held[*repo].manifests.keys().copied().collect();
                if !manifests.is_empty() {
                    self.delete_manifest(*repo, *which.get(&manifests));
                }
            }
            Step::DeleteBlob { repo, content } => {
                let digest = digest(&self::content(*content));
                let was_there = self.storage.catalog.delete_link(&repository(*repo), &digest).unwrap();
                assert_eq!(was_there, self.held[*repo].blobs.remove(&digest));
            }
            Step::GraceOver => self.leased.clear(),
            Step::Collect => self.collect(),
        }
    }

    /// What a repository's manifests name, and what a child names that was deleted while an index
    /// still names it: its bytes are looked into for as long as they are here.
    fn needed(&self, held: &Held) -> BTreeSet<Digest> {
        let mut needed = BTreeSet::new();
        let mut next: Vec<_> = held.manifests.values().flat_map(|(parts, _)| parts.clone()).collect();
        while let Some(digest) = next.pop() {
            if needed.insert(digest) && self.on_disk.contains(&digest) {
                next.extend(self.named.get(&digest).into_iter().flatten());
            }
        }
        needed
    }

    fn delete_manifest(&mut self, repo: usize, digest: Digest) {
        let naming: Vec<_> =
            self.held[repo].tags.iter().filter(|(_, named)| **named == digest).map(|(tag, _)| *tag).collect();
        for tag in naming {
            self.storage.catalog.delete_tag(&repository(repo), &name(tag)).unwrap();
            self.held[repo].tags.remove(&tag);
        }
        assert!(self.storage.catalog.delete_link(&repository(repo), &digest).unwrap());
        self.held[repo].manifests.remove(&digest);
    }

    fn collect(&mut self) {
        let mut expected = Collection::default();
        let leased: BTreeSet<_> = self.leased.keys().copied().collect();
        let needed: Vec<_> = self.held[..3].iter().map(|held| self.needed(held)).collect();
        for (held, needed) in self.held[..3].iter_mut().zip(needed) {
            let garbage: BTreeSet<_> = held.blobs.difference(&needed).copied().collect();
            expected.waiting += garbage.intersection(&leased).count() as u64;
            expected.links += garbage.difference(&leased).count() as u64;
            held.blobs.retain(|blob| !garbage.contains(blob) || leased.contains(blob));
        }
        let linked: BTreeSet<_> =
            self.held.iter().flat_map(|held| held.blobs.iter().chain(held.manifests.keys())).copied().collect();
        let unlinked: BTreeSet<_> = self.on_disk.difference(&linked).copied().collect();
        expected.waiting += unlinked.intersection(&leased).count() as u64;
        let gone: BTreeSet<_> = unlinked.difference(&leased).copied().collect();
        expected.blobs = gone.len() as u64;
        expected.bytes = gone.iter().filter_map(|digest| self.storage.blobs.size(digest).unwrap()).sum();

        let (planned, _) = pass(&self.storage, PassMode::Plan, SettledRepositories::default());
        // How much waits, and until when, has tests of its own.
        let counts = |all: Collection| {
            assert_eq!(all.waiting > 0, all.waiting_until.is_some());
            Collection { waiting_bytes: 0, waiting_until: None, ..all }
        };
        assert_eq!(counts(planned), expected, "what would be removed");
        assert!(self.on_disk.iter().all(|digest| self.storage.blobs.size(digest).unwrap().is_some()), "nothing was");
        let (removed, settled) = pass(&self.storage, PassMode::Remove, std::mem::take(&mut self.settled));
        assert_eq!(counts(removed), expected, "what is removed");
        self.settled = settled;
        self.on_disk.retain(|digest| !gone.contains(digest));
        self.check(&gone);
    }

    /// The disk and the model agree, whichever way it is looked at.
    fn check(&self, gone: &BTreeSet<Digest>) {
        for (number, held) in self.held.iter().enumerate() {
            let links: BTreeSet<_> =
                self.storage.catalog.links(&repository(number)).unwrap().iter().map(|link| link.digest).collect();
            let expected: BTreeSet<_> = held.blobs.iter().chain(held.manifests.keys()).copied().collect();
            assert_eq!(links, expected, "the links of {}", repository(number));
            assert!(links.iter().all(|digest| self.storage.blobs.size(digest).unwrap().is_some()), "and their content");
        }
        assert!(gone.iter().all(|digest| self.storage.blobs.size(digest).unwrap().is_none()), "garbage is gone");
        assert!(self.on_disk.iter().all(|digest| self.storage.blobs.size(digest).unwrap().is_some()));
    }
}

fn name(tag: u8) -> Tag {
    format!("t{tag}").parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_needed_stays_and_the_rest_goes_when_its_grace_is_over(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(dir.path());
        let mut world = World {
            storage,
            held: Default::default(),
            leased: BTreeMap::new(),
            on_disk: BTreeSet::new(),
            named: BTreeMap::new(),
            settled: SettledRepositories::default(),
        };
        for step in &steps {
            world.step(step);
        }
        world.leased.clear();
        // What only deleted children named goes once their own bytes are gone.
        world.collect();
        world.collect();
        let (again, _) = pass(&world.storage, PassMode::Remove, SettledRepositories::default());
        prop_assert!(again.is_empty() && again.waiting == 0, "nothing is left to do: {again:?}");
    }
}
