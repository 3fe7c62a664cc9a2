//! The content of images that are to stay, as far as a repository tells.
//!
//! Promises: what an image needs is all of it, or [`Unsure`] says why that cannot be told: a tag, a
//! link or a manifest cannot be read. Content that was never fetched is no reason. To look is no
//! use. Callers: the verbs of `verbs/kept.rs`.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;

use super::{LinkRecord, StorageError, Unsure, files::Files};
use crate::oci::{
    Descriptor, Digest, MAX_MANIFEST_BYTES, Manifest, PlatformName, Platforms, Reference, Repository, is_index,
    is_manifest,
};

/// An image that is to stay.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Wanted {
    /// Its tag or digest.
    pub reference: Reference,
    /// The platforms of an index that are to stay; empty: all of them.
    pub platforms: Vec<PlatformName>,
}

/// Everything that the images need which are here, the manifests themselves, and the manifests that
/// refer to them (their signatures), with what those need.
pub(super) fn kept_content(
    files: &Files,
    repository: &Repository,
    wanted: &[Wanted],
) -> Result<HashSet<Digest>, Unsure> {
    let roots = roots(files, repository, wanted)?;
    if roots.is_empty() {
        return Ok(HashSet::new());
    }
    // A damaged link may be a signature.
    if files.catalog.has_damaged_link(repository)? {
        return Err(Unsure::Link);
    }
    let mut walk = Walk { files, repository, needed: HashSet::new(), manifests: HashSet::new() };
    for (platforms, roots) in roots {
        walk.images(roots, platforms)?;
    }
    walk.referrers()?;
    Ok(walk.needed)
}

/// All content that the repository has to do with, as far as it can be told: the digests that it
/// links, with a good record or a damaged one, and what its manifests name that can be read.
pub(super) fn everything_of(files: &Files, repository: &Repository) -> Result<HashSet<Digest>, StorageError> {
    let mut all: HashSet<_> = files.catalog.link_files(repository)?.into_iter().collect();
    let mut manifests: VecDeque<_> = all.iter().copied().collect();
    let mut read = HashSet::new();
    while let Some(digest) = manifests.pop_front() {
        if !read.insert(digest) {
            continue;
        }
        let Ok(Some(bytes)) = files.blobs.read_unnoticed(&digest, MAX_MANIFEST_BYTES) else { continue };
        let Ok(manifest) = Manifest::parse(&Manifest::sniff(&bytes), &bytes) else { continue };
        all.extend(manifest.parts().map(|part| part.digest));
        manifests.extend(manifest.children().map(|child| child.digest));
    }
    Ok(all)
}

type Roots<'a> = HashMap<&'a [PlatformName], Vec<(Digest, String)>>;

/// The manifests of the images that are here, with their types, by the platforms that are wanted.
fn roots<'a>(files: &Files, repository: &Repository, wanted: &'a [Wanted]) -> Result<Roots<'a>, Unsure> {
    let mut roots = Roots::new();
    let mut tags = None;
    for Wanted { reference, platforms } in wanted {
        let root = match reference {
            Reference::Tag(tag) => match files.catalog.tag(repository, tag)? {
                Some(record) => (record.digest, record.media_type),
                None => {
                    let tags: &mut HashSet<_> = match &mut tags {
                        Some(tags) => tags,
                        None => tags.insert(files.catalog.tag_files(repository)?.into_iter().collect()),
                    };
                    if tags.contains(tag) {
                        return Err(Unsure::Tag(tag.clone()));
                    }
                    continue;
                }
            },
            Reference::Digest(digest) => match files.catalog.link(repository, digest)? {
                Some(link) => (*digest, link.media_type),
                None if files.catalog.holds(repository, digest) => return Err(Unsure::Link),
                None => continue,
            },
        };
        roots.entry(platforms.as_slice()).or_default().push(root);
    }
    Ok(roots)
}

struct Walk<'a> {
    files: &'a Files,
    repository: &'a Repository,
    needed: HashSet<Digest>,
    /// Those of them that are manifests, here or not.
    manifests: HashSet<Digest>,
}

impl Walk<'_> {
    /// Adds these images and what they need, of an index only some platforms.
    fn images(&mut self, roots: Vec<(Digest, String)>, platforms: &[PlatformName]) -> Result<(), Unsure> {
        let mut seen = HashSet::new();
        let mut visits: VecDeque<_> =
            roots.into_iter().map(|(digest, media_type)| (digest, Some(media_type))).collect();
        while let Some((digest, media_type)) = visits.pop_front() {
            if !seen.insert(digest) {
                continue;
            }
            self.needed.insert(digest);
            // A type that is not known names nothing; without one the bytes tell.
            let media_type = media_type.filter(|media_type| !media_type.is_empty());
            if media_type.as_deref().is_some_and(|media_type| !is_manifest(media_type)) {
                continue;
            }
            self.manifests.insert(digest);
            let Some(bytes) = self.read(&digest, media_type.is_some())? else { continue };
            let told = media_type.clone().unwrap_or_else(|| Manifest::sniff(&bytes));
            let manifest = match Manifest::parse(&told, &bytes) {
                Ok(manifest) => manifest,
                Err(error) if media_type.is_some() => return Err(Unsure::Manifest(digest, error)),
                Err(_) => continue,
            };
            self.needed.extend(manifest.blobs().map(|blob| blob.digest));
            visits.extend(chosen(&manifest, &told, platforms).into_iter().map(|child| (child.digest, None)));
        }
        Ok(())
    }

    /// Adds the manifests that refer to those that are there, and so on.
    fn referrers(&mut self) -> Result<(), Unsure> {
        let mut by_subject: HashMap<Digest, Vec<LinkRecord>> = HashMap::new();
        for link in self.files.catalog.links(self.repository)? {
            if let Some(subject) = link.subject {
                by_subject.entry(subject).or_default().push(link);
            }
        }
        let mut subjects: Vec<_> = self.manifests.iter().copied().collect();
        while let Some(subject) = subjects.pop() {
            let referrers = by_subject.remove(&subject).unwrap_or_default();
            let before = self.manifests.clone();
            self.images(referrers.into_iter().map(|link| (link.digest, link.media_type)).collect(), &[])?;
            subjects.extend(self.manifests.difference(&before));
        }
        Ok(())
    }

    /// The bytes of a manifest. `None`: it was never fetched, or is none.
    fn read(&self, digest: &Digest, named: bool) -> Result<Option<Bytes>, Unsure> {
        match self.files.blobs.read_unnoticed(digest, MAX_MANIFEST_BYTES) {
            Ok(Some(bytes)) => Ok(Some(bytes)),
            Ok(None) => {
                let link = self.files.catalog.link(self.repository, digest)?;
                let was_here = link.is_some_and(|link| link.is_held() && link.is_manifest());
                if named || was_here { Err(Unsure::Missing(*digest)) } else { Ok(None) }
            }
            Err(StorageError::TooLarge { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The children that are to stay. An index without a wanted platform keeps all.
fn chosen<'m>(manifest: &'m Manifest, media_type: &str, platforms: &[PlatformName]) -> Vec<&'m Descriptor> {
    if platforms.is_empty() || !is_index(media_type) {
        return manifest.children().collect();
    }
    let only = Platforms::Only(platforms.to_vec());
    only.choose(manifest).unwrap_or_else(|_| manifest.children().collect())
}
