//! What is forgotten of a mirrored repository, and that a failure at any operation leaves no tag
//! without its manifest (K5).

use super::{super::*, *};

/// A mirrored repository with the images `kept` and `old`, which share their config and a layer.
struct Mirror<'a> {
    house: &'a House,
    repository: Repository,
}

impl Mirror<'_> {
    fn new<'a>(house: &'a House, name: &str) -> Mirror<'a> {
        let mirror = Mirror { house, repository: repository(name) };
        for (image, tag) in [("kept", "kept"), ("old", "t")] {
            mirror.fetch(&mirror.layer(image), "", None);
            mirror.fetch(&mirror.image(image), OCI_IMAGE, None);
            mirror.tag(tag, image);
        }
        [mirror.layer("config"), mirror.layer("shared")].iter().for_each(|part| mirror.fetch(part, "", None));
        mirror
    }

    fn layer(&self, name: &str) -> Vec<u8> {
        format!("{name} of {}", self.repository).into_bytes()
    }

    fn image(&self, name: &str) -> Vec<u8> {
        manifest(&self.layer("config"), &[&self.layer("shared"), &self.layer(name)])
    }

    fn fetch(&self, bytes: &[u8], media_type: &str, subject: Option<Digest>) {
        let link = LinkRecord { media_type: media_type.to_owned(), subject, ..link_record(bytes) };
        let content = Some((digest(bytes), Bytes::copy_from_slice(bytes)));
        let links = vec![(link, IfLinked::Replace)];
        assert!(self.house.commit(Change { content, links, ..Change::of(&self.repository) }).unwrap());
    }

    fn tag(&self, name: &str, image: &str) {
        let image = self.image(image);
        let record = TagRecord { media_type: OCI_IMAGE.to_owned(), ..tag_record(name, &image) };
        assert!(self.house.commit(Change { tags: vec![record], ..Change::of(&self.repository) }).unwrap());
    }

    fn forget(&self, leaving: &Leaving) -> Result<Gone, Unsure> {
        self.house.run(self.house.storage().forget(&self.repository, leaving.clone()))
    }

    fn plan(&self, leaving: &Leaving) -> Gone {
        self.house.run(self.house.storage().plan_to_forget(&self.repository, leaving.clone())).unwrap()
    }

    fn links(&self) -> Vec<Digest> {
        self.house.run(self.house.storage().links(&self.repository)).unwrap().iter().map(|link| link.digest).collect()
    }

    /// K5: a tag names a manifest that is linked and here. And the other image is whole.
    fn check(&self, at: &str) {
        let links = self.links();
        for record in self.house.run(self.house.storage().tag_records(&self.repository)).unwrap() {
            assert!(links.contains(&record.digest), "{at}: the tag {} names no manifest", record.tag);
            assert!(self.house.blobs.size(&record.digest).unwrap().is_some(), "{at}");
        }
        for bytes in [self.layer("config"), self.layer("shared"), self.layer("kept"), self.image("kept")] {
            assert!(links.contains(&digest(&bytes)), "{at}: a link of the other image is gone");
        }
        assert_eq!(self.house.named(&self.repository, "kept"), Some(digest(&self.image("kept"))), "{at}");
    }
}

fn by_tag(name: &str) -> Leaving {
    Leaving { tags: vec![(tag(name), None)], ..Leaving::default() }
}

#[test]
fn k5_only_what_no_other_image_needs_goes_and_the_manifest_goes_last() {
    each(|house| {
        let mirror = Mirror::new(house, "a");
        let (old, layer) = (digest(&mirror.image("old")), digest(&mirror.layer("old")));
        let planned = mirror.plan(&by_tag("t"));
        assert_eq!(planned, Gone { tags: vec![tag("t")], links: vec![layer, old], manifests: 1 });
        assert_eq!(mirror.plan(&by_tag("t")), planned, "a plan changes nothing");
        assert_eq!(mirror.forget(&by_tag("t")).unwrap(), planned);
        mirror.check("forgotten");
        assert_eq!((mirror.links().len(), house.named(&mirror.repository, "t")), (4, None));
        assert!(house.blobs.size(&layer).unwrap().is_some(), "content stays");
        assert_eq!(mirror.forget(&by_tag("t")).unwrap(), Gone::default(), "once is enough");
        assert_eq!(house.run(house.storage().forget(&hosted("team"), by_tag("t"))).unwrap(), Gone::default());
    });
}

#[test]
fn what_a_tag_a_pin_or_an_index_needs_stays() {
    each(|house| {
        let mirror = Mirror::new(house, "a");
        let old = digest(&mirror.image("old"));
        let only_the_tag = Gone { tags: vec![tag("t")], ..Gone::default() };
        mirror.tag("u", "old");
        assert_eq!(mirror.forget(&by_tag("t")).unwrap(), only_the_tag, "another tag names it");
        mirror.tag("t", "old");
        let of_other = Leaving { tags: vec![(tag("t"), Some(digest(b"other")))], ..Leaving::default() };
        assert_eq!(mirror.forget(&of_other).unwrap(), Gone::default(), "the tag names another manifest");
        let both = Leaving { tags: vec![(tag("t"), None), (tag("u"), None)], ..Leaving::default() };
        let pinned = Leaving { pinned: [old].into(), ..both.clone() };
        assert_eq!(mirror.plan(&pinned).links, [], "it is pinned by itself");
        let index = serde_json::json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{ "mediaType": OCI_IMAGE, "digest": old.to_string(), "size": 1 }] });
        let index = index.to_string().into_bytes();
        mirror.fetch(&index, "application/vnd.oci.image.index.v1+json", None);
        assert_eq!(mirror.plan(&both).links, [], "an index needs it");
        // A signature goes with its image, and the image with its index.
        let signature = manifest(&mirror.layer("config"), &[&mirror.layer("signature")]);
        mirror.fetch(&mirror.layer("signature"), "", None);
        mirror.fetch(&signature, OCI_IMAGE, Some(old));
        let all = Leaving { digests: vec![digest(&index)], ..both };
        let gone = mirror.forget(&all).unwrap();
        assert_eq!((gone.tags.len(), gone.manifests, gone.links.len()), (2, 3, 5));
        assert_eq!(mirror.links().len(), 4);
        mirror.check("forgotten");
    });
}

/// K5: whichever operation fails, before or after its effect.
#[test]
fn k5_a_failure_leaves_no_tag_without_its_manifest() {
    for kind in KINDS {
        let house = House::open(kind, LIMITS);
        for when in [When::Before, When::After] {
            let mut n = 1;
            loop {
                let mirror = Mirror::new(&house, &format!("a{n}{when:?}").to_lowercase());
                let at = format!("on {kind:?}, {when:?} operation {n}");
                house.faults.arm(n, when);
                let done = mirror.forget(&by_tag("t"));
                let struck = house.faults.disarm();
                assert!(struck || done.is_ok(), "{at}: {done:?}");
                mirror.check(&at);
                // What was left is forgotten by the next order.
                let rest = Leaving { digests: vec![digest(&mirror.image("old"))], ..by_tag("t") };
                mirror.forget(&rest).unwrap();
                mirror.check(&at);
                assert!(!mirror.links().contains(&digest(&mirror.image("old"))), "{at}");
                if !struck {
                    break;
                }
                n += 1;
            }
            eprintln!("{kind:?}, {when:?}: {} operations", n - 1);
            assert!(n > 6, "there are operations to fail");
        }
    }
}

/// A manifest or a link of another image that cannot be read: nothing goes.
#[test]
fn what_others_need_has_to_be_known() {
    each(|house| {
        let mirror = Mirror::new(house, "a");
        let kept = digest(&mirror.image("kept"));
        std::fs::write(house.disk.layout.blob(&kept), b"rotten").unwrap();
        let before = mirror.links();
        assert!(matches!(mirror.forget(&by_tag("t")), Err(Unsure::Missing(missing)) if missing == kept));
        assert_eq!((mirror.links(), house.named(&mirror.repository, "t").is_some()), (before, true));
        let all = Leaving { tags: vec![(tag("t"), None), (tag("kept"), None)], ..Leaving::default() };
        let gone = mirror.forget(&all).unwrap();
        assert_eq!((gone.tags.len(), gone.manifests), (2, 2), "the unreadable one itself can go");
    });
}
