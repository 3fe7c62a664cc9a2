//! What manifests need, told from their graph.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{digest, image, index};
use crate::{
    oci::{Digest, OCI_IMAGE, OCI_INDEX},
    storage::{StorageError, Unsure, needs::needed},
};

/// Content by digest, and which of it was read how often.
#[derive(Default)]
struct Contents {
    all: HashMap<Digest, Bytes>,
    reads: RefCell<HashMap<Digest, usize>>,
}

impl Contents {
    fn put(&mut self, bytes: Bytes) -> Digest {
        let digest = digest(&bytes);
        self.all.insert(digest, bytes);
        digest
    }

    fn needed(&self, manifests: &[(Digest, &str)]) -> Result<HashSet<Digest>, Unsure> {
        needed(manifests.iter().map(|(digest, media_type)| (*digest, (*media_type).to_owned())), |digest, _| {
            *self.reads.borrow_mut().entry(*digest).or_default() += 1;
            match self.all.get(digest) {
                Some(bytes) if bytes.len() > 1 << 20 => {
                    Err(StorageError::TooLarge { digest: *digest, size: bytes.len() as u64, max: 1 << 20 })
                }
                found => Ok(found.cloned()),
            }
        })
    }
}

#[test]
fn s21_a_diamond_of_depth_30_is_walked_once() {
    let mut contents = Contents::default();
    let leaf = contents.put(image(&[digest(b"layer")]));
    let mut level = vec![(leaf, OCI_IMAGE)];
    for depth in 0..30 {
        let pair = [0, 1].map(|side| (contents.put(index(&level, &format!("{depth} {side}"))), OCI_INDEX));
        level = pair.to_vec();
    }
    let began = Instant::now();
    let needed = contents.needed(&level).unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(needed.len(), 60 + 1 + 1);
    assert!(contents.reads.borrow().values().all(|reads| *reads == 1), "each is read once");
}

#[test]
fn what_is_held_as_a_manifest_must_be_one_and_a_child_need_not() {
    let mut contents = Contents::default();
    let (here, gone) = (contents.put(image(&[digest(b"layer")])), digest(b"gone"));
    let large = contents.put(vec![b' '; (1 << 20) + 1].into());
    let text = contents.put("no manifest".into());
    let opaque = digest(b"a layer in a list of a build cache");
    let list = contents.put(index(
        &[(here, OCI_IMAGE), (gone, OCI_IMAGE), (large, OCI_IMAGE), (text, OCI_IMAGE), (opaque, "application/x-layer")],
        "",
    ));
    let needed = contents.needed(&[(list, OCI_INDEX)]).unwrap();
    assert_eq!(needed, [list, here, gone, large, text, opaque, digest(b"layer")].into());
    assert!(!contents.reads.borrow().contains_key(&opaque), "what cannot be a manifest is not read");

    for (bad, media_type) in [(gone, OCI_IMAGE), (large, OCI_IMAGE), (text, OCI_IMAGE), (here, OCI_INDEX)] {
        // Also where it is met as a child first.
        assert!(contents.needed(&[(list, OCI_INDEX), (bad, media_type)]).is_err(), "{bad} {media_type}");
    }
    assert!(matches!(contents.needed(&[(gone, OCI_IMAGE)]), Err(Unsure::Missing(digest)) if digest == gone));
    assert_eq!(contents.needed(&[(gone, "application/x-opaque")]).unwrap(), [gone].into());
}

proptest! {
    /// Whatever the graph, everything that can be reached is needed, and nothing else.
    #[test]
    fn needed_is_what_can_be_reached(
        // Manifest n names layers, and manifests before it.
        graph in proptest::collection::vec((proptest::collection::vec(0u8..20, 0..4), proptest::collection::vec(any::<prop::sample::Index>(), 0..4)), 1..30),
        roots in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut contents = Contents::default();
        let mut made: Vec<(Digest, &str)> = Vec::new();
        let mut reach: HashMap<Digest, HashSet<Digest>> = HashMap::new();
        for (number, (layers, children)) in graph.iter().enumerate() {
            let mut reached = HashSet::new();
            let (bytes, media_type) = if children.is_empty() || made.is_empty() {
                let layers: Vec<_> = layers.iter().map(|layer| digest(&[*layer])).collect();
                reached.extend(&layers);
                (image(&layers), OCI_IMAGE)
            } else {
                let children: Vec<_> = children.iter().map(|child| *child.get(&made)).collect();
                for (child, _) in &children {
                    reached.extend(&reach[child]);
                }
                (index(&children, &number.to_string()), OCI_INDEX)
            };
            let digest = contents.put(bytes);
            reached.insert(digest);
            reach.insert(digest, reached);
            made.push((digest, media_type));
        }
        let roots: Vec<_> = roots.iter().map(|root| *root.get(&made)).collect();
        let expected: HashSet<_> = roots.iter().flat_map(|(root, _)| reach[root].clone()).collect();
        prop_assert_eq!(contents.needed(&roots).unwrap(), expected);
    }
}
