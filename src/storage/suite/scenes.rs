//! Scenes of which every operation of the catalogue fails once, before and after its effect.
//!
//! After each failure nothing that was acknowledged is lost, no tag names a manifest that is
//! missing, and no link of a pushed digest is without content. The same scene, done again, then
//! comes to its end.

use super::{super::*, *};
use crate::oci::{Namespace, Tag};

/// One try of a scene: repositories and contents that no other try has.
struct Stage<'a> {
    house: &'a House,
    key: String,
}

/// A scene, done from its beginning. An error leaves the rest undone.
type Scene = fn(&Stage<'_>) -> Result<(), CommitError>;

/// What must hold when a scene has come to its end.
type End = fn(&Stage<'_>);

impl Stage<'_> {
    fn repository(&self) -> Repository {
        hosted(&format!("a{}", self.key))
    }

    fn other(&self) -> Repository {
        hosted(&format!("b{}", self.key))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        format!("{name} {}", self.key).into_bytes()
    }

    fn image(&self, name: &str) -> Vec<u8> {
        manifest(&self.bytes("config"), &[&self.bytes(name)])
    }

    fn verb<T, E: Into<CommitError>>(&self, verb: impl Future<Output = Result<T, E>>) -> Result<T, CommitError> {
        self.house.run(verb).map_err(Into::into)
    }

    /// Pushes a blob, as the end of an upload does.
    fn blob(&self, bytes: &[u8]) -> Result<(), CommitError> {
        let content = Some((digest(bytes), Bytes::copy_from_slice(bytes)));
        let links = vec![(pushed(bytes, ""), IfLinked::Confirm)];
        self.house.commit(Change { content, links, ..Change::of(&self.repository()) }).map(drop)
    }

    /// Pushes the image of this layer and points the tag at it.
    fn push(&self, layer: &str, name: &str) -> Result<(), CommitError> {
        let (image, parts) = (self.image(layer), [self.bytes("config"), self.bytes(layer)]);
        parts.iter().try_for_each(|part| self.blob(part))?;
        let asked = parts.iter().map(|part| (digest(part), false)).collect();
        let (_hold, lacking) = self.verb(self.house.storage().hold_parts(&self.repository(), asked))?;
        assert!(lacking.is_empty(), "a part that was acknowledged is not here");
        let part = |part: &Vec<u8>| Expectation::Part { digest: digest(part), manifest: false };
        let change = Change {
            expect: parts.iter().map(part).collect(),
            content: Some((digest(&image), Bytes::copy_from_slice(&image))),
            links: vec![(pushed(&image, OCI_IMAGE), IfLinked::Replace)],
            tags: vec![TagRecord { media_type: OCI_IMAGE.to_owned(), ..tag_record(name, &image) }],
            ..Change::of(&self.repository())
        };
        self.house.commit(change).map(drop)
    }

    /// Whether the image of this layer is here, with all that it needs.
    fn is_whole(&self, layer: &str) -> bool {
        let here = |bytes: &[u8]| {
            self.house.link(&self.repository(), bytes).is_some()
                && self.house.blobs.size(&digest(bytes)).unwrap().is_some()
        };
        [self.image(layer), self.bytes("config"), self.bytes(layer)].iter().all(|bytes| here(bytes))
    }

    fn tagged(&self, name: &str) -> Option<Digest> {
        self.house.named(&self.repository(), name)
    }

    /// What holds at every moment.
    fn check(&self, at: &str) {
        for repository in [self.repository(), self.other()] {
            let links = self.house.run(self.house.storage().links(&repository)).unwrap();
            for link in links.iter().filter(|link| link.right == LinkRight::Pushed) {
                assert!(self.house.blobs.size(&link.digest).unwrap().is_some(), "{at}: a link without content");
            }
            for record in self.house.run(self.house.storage().tag_records(&repository)).unwrap() {
                let named = links.iter().any(|link| link.digest == record.digest && link.is_manifest());
                assert!(named, "{at}: the tag {} names a manifest that is not here", record.tag);
            }
        }
        assert!(self.is_whole("kept"), "{at}: an image that was acknowledged is not whole");
        assert_eq!(self.tagged("kept"), Some(digest(&self.image("kept"))), "{at}");
    }
}

/// Plays the scene with each operation failing once, on every kind. The image `kept` and the image
/// `old`, tagged `t`, were pushed before.
fn play(name: &str, scene: Scene, end: End) {
    for kind in KINDS {
        let house = House::open(kind, LIMITS);
        house.storage().set_grace(Duration::ZERO);
        for when in [When::Before, When::After] {
            let mut n = 1;
            loop {
                let stage = Stage { house: &house, key: format!("{n}{when:?}").to_lowercase() };
                let at = format!("{name} on {kind:?}, {when:?} operation {n}");
                stage.push("kept", "kept").unwrap();
                stage.push("old", "t").unwrap();
                house.faults.arm(n, when);
                let played = scene(&stage);
                let struck = house.faults.disarm();
                assert!(struck || played.is_ok(), "{at}: {played:?}");
                stage.check(&at);
                scene(&stage).unwrap_or_else(|error| panic!("{at}, again: {error:?}"));
                stage.check(&at);
                end(&stage);
                if !struck {
                    break;
                }
                n += 1;
            }
            eprintln!("{name} on {kind:?}, {when:?}: {} operations", n - 1);
            assert!(n > 2, "{name} has operations to fail");
        }
    }
}

#[test]
fn an_image_is_pushed() {
    play(
        "a push",
        |stage| stage.push("new", "n"),
        |stage| {
            assert!(stage.is_whole("new") && stage.is_whole("old"));
            assert_eq!(stage.tagged("n"), Some(digest(&stage.image("new"))));
        },
    );
}

#[test]
fn a_tag_moves() {
    play(
        "a retag",
        |stage| stage.push("new", "t"),
        |stage| {
            assert!(stage.is_whole("new") && stage.is_whole("old"));
            assert_eq!(stage.tagged("t"), Some(digest(&stage.image("new"))));
        },
    );
}

#[test]
fn a_tag_is_deleted() {
    let scene: Scene = |stage| {
        let untag: Vec<Tag> = vec![tag("t")];
        stage.house.commit(Change { untag, ..Change::of(&stage.repository()) }).map(drop)
    };
    play("a tag's deletion", scene, |stage| {
        assert!(stage.is_whole("old"), "what it named stays");
        assert_eq!(stage.tagged("t"), None);
    });
}

/// As the push room does it: the tags that name it are looked for, and go with it.
fn delete_manifest(stage: &Stage<'_>) -> Result<(), CommitError> {
    let manifest = digest(&stage.image("old"));
    let records = stage.verb(stage.house.storage().tag_records(&stage.repository()))?;
    let tags: Vec<_> =
        records.into_iter().filter(|record| record.digest == manifest).map(|record| record.tag).collect();
    let expect = vec![Expectation::NamedBy(manifest, tags.clone())];
    let change = Change { expect, untag: tags, unlink: vec![manifest], ..Change::of(&stage.repository()) };
    stage.house.commit(change).map(drop)
}

#[test]
fn a_manifest_is_deleted() {
    play("a manifest's deletion", delete_manifest, |stage| {
        assert_eq!((stage.tagged("t"), stage.house.link(&stage.repository(), &stage.image("old"))), (None, None));
    });
}

#[test]
fn a_blob_is_mounted() {
    let scene: Scene = |stage| {
        let (layer, storage) = (stage.bytes("old"), stage.house.storage());
        let holders = stage.verb(storage.holders(&digest(&layer)))?;
        assert!(holders.iter().any(|holder| holder.held && holder.repository == stage.repository()));
        assert!(stage.verb(storage.keep(&digest(&layer)))?.is_some());
        stage.house.commit(Change::link(&stage.other(), pushed(&layer, ""), IfLinked::Confirm)).map(drop)
    };
    play("a mount", scene, |stage| assert!(stage.house.link(&stage.other(), &stage.bytes("old")).is_some()));
}

/// A deletion and the collection of what nothing needs any more, as the retention does it.
fn collect(stage: &Stage<'_>) -> Result<(), CommitError> {
    delete_manifest(stage)?;
    let (storage, repository) = (stage.house.storage(), stage.repository());
    let version = storage.version(&repository);
    let links = stage.verb(storage.links(&repository))?;
    let tags = stage.verb(storage.tag_records(&repository))?;
    let unneeded = stage.house.run(storage.unneeded(&repository, links, tags)).map_err(|unsure| match unsure {
        Unsure::Storage(error) => CommitError::from(error),
        unsure => panic!("{unsure}"),
    })?;
    let garbage = unneeded.links.iter().map(|link| link.digest).collect();
    let unlinked = stage.verb(storage.unlink_unneeded(&repository, garbage, Respect::All, version))?;
    assert!(unlinked.is_some(), "no other change came between");
    assert!(stage.verb(storage.folders(&Namespace::Hosted))?.contains(&repository.name));
    for bytes in [stage.image("old"), stage.bytes("old"), stage.image("kept"), stage.bytes("kept")] {
        stage.verb(storage.reclaim(&digest(&bytes), Respect::All))?;
    }
    Ok(())
}

#[test]
fn what_nothing_needs_is_collected() {
    play("a collection", collect, |stage| {
        for bytes in [stage.image("old"), stage.bytes("old")] {
            assert_eq!(stage.house.blobs.size(&digest(&bytes)).unwrap(), None, "it is collected");
        }
    });
}
