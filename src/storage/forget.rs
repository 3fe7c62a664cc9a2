//! Forgetting: tags of a mirrored repository go, and with them what only they kept known.
//!
//! A manifest goes if it was one of the images, or their child or signature, and no tag is left
//! that names it, nor a manifest that needs it. With it go the links of parts that no other
//! manifest of the repository needs. Promises:
//! - The order on disk is tag, links of parts, children, and at last the manifest itself. After a
//!   crash in between a manifest is left that is served or forgotten later, and never a tag without
//!   one (K5).
//! - [`plan`] says exactly what [`forget`] does, and changes nothing (K14). What other images need
//!   has to be known: otherwise [`Unsure`], and nothing goes.
//! - Content stays: it goes with [`reclaim`](super::Storage::reclaim), or is evicted.
//!
//! Callers: the verbs of `verbs/forget.rs`, under the repository's turn to change.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{LinkRecord, LinkRight, TagRecord, Unsure, files::Files, needs};
use crate::oci::{Digest, MAX_MANIFEST_BYTES, Manifest, Repository, Tag};

/// Images of a mirrored repository that are to be forgotten.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Leaving {
    /// By tag; with a digest, only if the tag names that.
    pub tags: Vec<(Tag, Option<Digest>)>,
    /// By digest: the manifest goes if no tag is left that names it.
    pub digests: Vec<Digest>,
    /// Manifests that stay all the same: a pin or a rule keeps them.
    pub pinned: HashSet<Digest>,
}

/// What goes, or has gone.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Gone {
    /// The tags that were there.
    pub tags: Vec<Tag>,
    /// The links of parts, then those of children, then those of the images' own manifests.
    pub links: Vec<Digest>,
    /// How many of the links, the last ones, are of manifests that the repository held.
    pub manifests: usize,
}

/// What the repository knows.
struct Known {
    tags: Vec<TagRecord>,
    links: HashMap<Digest, LinkRecord>,
}

impl Known {
    fn read(files: &Files, repository: &Repository) -> Result<Known, Unsure> {
        let links = files.catalog.links(repository)?.into_iter().map(|link| (link.digest, link)).collect();
        let known = Known { tags: files.catalog.tag_records(repository)?, links };
        // It may be a manifest that needs everything.
        if files.catalog.has_damaged_link(repository)? { Err(Unsure::Link) } else { Ok(known) }
    }

    /// The manifest's type, if the repository holds it as one.
    fn manifest(&self, digest: &Digest) -> Option<&LinkRecord> {
        self.links.get(digest).filter(|link| link.is_held() && link.is_manifest())
    }
}

/// What would go.
pub(super) fn plan(files: &Files, repository: &Repository, leaving: &Leaving) -> Result<Gone, Unsure> {
    let known = Known::read(files, repository)?;
    let fits = |tag: &TagRecord| {
        leaving.tags.iter().any(|(name, digest)| tag.tag == *name && digest.is_none_or(|digest| digest == tag.digest))
    };
    let (going, staying): (Vec<_>, Vec<_>) = known.tags.iter().partition(|tag| fits(tag));
    let mut tags: Vec<_> = going.iter().map(|tag| tag.tag.clone()).collect();
    // A tag whose record is damaged names nothing, and can go.
    let all: HashSet<_> = files.catalog.tag_files(repository)?.into_iter().collect();
    let is_damaged = |tag: &Tag| all.contains(tag) && !known.tags.iter().any(|record| record.tag == *tag);
    tags.extend(
        leaving.tags.iter().filter(|(tag, digest)| digest.is_none() && is_damaged(tag)).map(|(tag, _)| tag.clone()),
    );
    let images = going.iter().map(|tag| tag.digest).chain(leaving.digests.iter().copied());
    let mut order = family(files, &known, images);
    let mut manifests: HashSet<Digest> = order.iter().copied().collect();
    let stays: HashSet<_> = staying.iter().map(|tag| tag.digest).chain(leaving.pinned.iter().copied()).collect();
    let needed = spare(files, &known, &mut manifests, &staying, &stays)?;
    order.retain(|digest| manifests.contains(digest));
    let parts = parts(files, &known, &order);
    let is_part = |digest: &&Digest| !needed.contains(*digest) && !manifests.contains(*digest);
    let mut links: Vec<_> =
        parts.iter().filter(is_part).filter(|part| known.links.contains_key(*part)).copied().collect();
    links.sort_unstable();
    let last: Vec<_> = order.into_iter().rev().filter(|digest| known.links.contains_key(digest)).collect();
    let manifests = last.len();
    links.extend(last);
    Ok(Gone { tags, links, manifests })
}

/// Does what [`plan`] says. An error leaves the steps so far, in their order.
pub(super) fn forget(files: &Files, repository: &Repository, leaving: &Leaving) -> Result<Gone, Unsure> {
    let gone = plan(files, repository, leaving)?;
    for tag in &gone.tags {
        files.catalog.delete_tag(repository, tag)?;
    }
    for digest in &gone.links {
        files.catalog.delete_link(repository, digest)?;
    }
    Ok(gone)
}

/// These manifests, their children and the manifests that refer to them, as far as the repository
/// holds them. Each comes after those that led to it.
fn family(files: &Files, known: &Known, images: impl Iterator<Item = Digest>) -> Vec<Digest> {
    let mut by_subject: HashMap<Digest, Vec<Digest>> = HashMap::new();
    for link in known.links.values() {
        if let Some(subject) = link.subject {
            by_subject.entry(subject).or_default().push(link.digest);
        }
    }
    let (mut order, mut seen) = (Vec::new(), HashSet::new());
    let mut visits: VecDeque<_> = images.collect();
    while let Some(digest) = visits.pop_front() {
        if !known.links.contains_key(&digest) || !seen.insert(digest) {
            continue;
        }
        order.push(digest);
        let manifest = read(files, known, &digest);
        let children = manifest.iter().flat_map(Manifest::children).map(|child| child.digest);
        // A child that was never fetched is linked as a part.
        visits.extend(children.filter(|digest| known.manifest(digest).is_some()));
        visits.extend(by_subject.remove(&digest).unwrap_or_default());
    }
    order
}

/// Takes out of `manifests` those that stay: a tag names them, or a manifest that stays needs them,
/// or they refer to one that stays. Returns everything that those which stay need.
fn spare(
    files: &Files,
    known: &Known,
    manifests: &mut HashSet<Digest>,
    staying: &[&TagRecord],
    stays: &HashSet<Digest>,
) -> Result<HashSet<Digest>, Unsure> {
    manifests.retain(|digest| !stays.contains(digest));
    loop {
        let held = known.links.values().filter(|link| known.manifest(&link.digest).is_some());
        let keepers = held.filter(|link| !manifests.contains(&link.digest));
        let keepers = keepers.map(|link| (link.digest, link.media_type.clone()));
        let tagged = staying.iter().map(|tag| (tag.digest, tag.media_type.clone()));
        let needed = needs::needed_by(files, keepers.chain(tagged).collect())?;
        let refers = |digest: &Digest| {
            let subject = known.links.get(digest).and_then(|link| link.subject);
            subject.is_some_and(|subject| known.manifest(&subject).is_some() && !manifests.contains(&subject))
        };
        let spared: Vec<_> =
            manifests.iter().filter(|digest| needed.contains(*digest) || refers(digest)).copied().collect();
        if spared.is_empty() {
            return Ok(needed);
        }
        for digest in spared {
            manifests.remove(&digest);
        }
    }
}

/// What these manifests name, as far as that is known.
fn parts(files: &Files, known: &Known, manifests: &[Digest]) -> HashSet<Digest> {
    let mut parts = HashSet::new();
    for digest in manifests {
        let manifest = read(files, known, digest);
        parts.extend(manifest.iter().flat_map(Manifest::parts).map(|part| part.digest));
    }
    let of: HashSet<_> = manifests.iter().collect();
    // The bytes of a manifest may be gone.
    let named = known.links.values().filter(|link| matches!(link.right, LinkRight::Named(by) if of.contains(&by)));
    parts.extend(named.map(|link| link.digest));
    parts
}

/// A manifest of the repository, if it can be read.
fn read(files: &Files, known: &Known, digest: &Digest) -> Option<Manifest> {
    let bytes = files.blobs.read_unnoticed(digest, MAX_MANIFEST_BYTES).ok().flatten()?;
    let told = known.links.get(digest).map(|link| link.media_type.clone()).filter(|told| !told.is_empty());
    Manifest::parse(&told.unwrap_or_else(|| Manifest::sniff(&bytes)), &bytes).ok()
}
