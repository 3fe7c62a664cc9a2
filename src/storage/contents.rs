//! What images are made of, and which of it is here: for an operator's list.
//!
//! A look is no use: neither the index nor an access time shows it. The files say what is here, and
//! the index how it was used. A child of an index that is not here is another platform, and is told
//! apart from the parts; a config or a layer that is not here is missing. A manifest that cannot be
//! read is a word in its image's place, and no error of the whole list.
//!
//! Callers: the administration, which gives the findings their words.

use std::collections::HashSet;

use serde::Deserialize;

use super::{BlobUse, Files, Storage, StorageError, TagRecord};
use crate::oci::{Descriptor, Digest, MAX_MANIFEST_BYTES, Manifest, Platform, Repository, is_index};

/// Parts that are looked for, for one image.
const PARTS: usize = 4096;

/// The largest config that is read for its platform, in bytes.
const MAX_CONFIG: usize = 1 << 20;

/// A manifest and what it needs.
#[derive(Debug, Default)]
pub struct Contents {
    /// The manifest first; a part comes after the manifest that names it. Each digest once.
    pub parts: Vec<Part>,
    /// The children of its indexes that are not here, each as its platform, if it is an image's.
    pub absent: Vec<Option<String>>,
    /// How the manifest was used.
    pub used: Option<BlobUse>,
    /// Why it is not known what the image needs, or only a part of it.
    pub problem: Option<String>,
}

/// One digest of an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// The digest.
    pub digest: Digest,
    /// What it is.
    pub kind: PartKind,
    /// In bytes: of the file, or as the manifest says.
    pub size: u64,
    /// Whether the content is here.
    pub here: bool,
    /// Whether the repository was given it once. Only looked for where it is not here.
    pub was_held: bool,
    /// Bytes of it that clients were given from here.
    pub served: u64,
    /// The platform of an image's manifest, as in `linux/arm64/v8`.
    pub platform: Option<String>,
    /// The place in the list of the manifest that names it.
    pub of: Option<usize>,
}

/// What a part is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartKind {
    /// A list of manifests.
    Index,
    /// The manifest of an image or artifact.
    Manifest,
    /// An image's config.
    Config,
    /// A layer, or another blob.
    Layer,
}

/// A manifest of a repository that has a row of its own beside those of tags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Untagged {
    /// The digest.
    pub digest: Digest,
    /// It says that it belongs to another manifest.
    pub is_referrer: bool,
}

impl Storage {
    /// What these manifests of the repository need, and which of it is here; in the same order.
    ///
    /// # Errors
    /// [`StorageError::Lost`].
    pub async fn contents(
        &self,
        repository: &Repository,
        manifests: Vec<Digest>,
    ) -> Result<Vec<Contents>, StorageError> {
        let repository = repository.clone();
        self.read_with(move |files| Ok(manifests.iter().map(|digest| contents(files, &repository, digest)).collect()))
            .await
    }

    /// The records of the repository's first `limit` tags that sort after `last`.
    ///
    /// # Errors
    /// The disk's. A damaged record reads as absent.
    pub async fn tag_records_after(
        &self,
        repository: &Repository,
        last: Option<String>,
        limit: usize,
    ) -> Result<Vec<TagRecord>, StorageError> {
        let repository = repository.clone();
        self.read_with(move |files| {
            let tags = files.catalog.tags_after(&repository, last.as_deref(), limit)?;
            tags.iter().filter_map(|tag| files.catalog.tag(&repository, tag).transpose()).collect()
        })
        .await
    }

    /// The first `limit` manifests after `last`, in the order of digests, that the repository
    /// holds, without those of `tagged`, which the rows of tags show, and without the children of
    /// its indexes. A child of `own` is listed all the same. Reads the repository's indexes, and
    /// has its records in memory meanwhile.
    ///
    /// # Errors
    /// The disk's.
    pub async fn untagged_after(
        &self,
        repository: &Repository,
        tagged: HashSet<Digest>,
        own: HashSet<Digest>,
        last: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<Untagged>, StorageError> {
        let repository = repository.clone();
        self.read_with(move |files| {
            let mut untagged = untagged(files, &repository, &tagged, &own)?;
            untagged.retain(|found| last.is_none_or(|last| found.digest > last));
            untagged.sort_unstable_by_key(|found| found.digest);
            untagged.truncate(limit);
            Ok(untagged)
        })
        .await
    }
}

fn untagged(
    files: &Files,
    repository: &Repository,
    tagged: &HashSet<Digest>,
    own: &HashSet<Digest>,
) -> Result<Vec<Untagged>, StorageError> {
    let mut links = files.catalog.links(repository)?;
    links.retain(|link| link.is_manifest() && link.is_held());
    if links.iter().all(|link| tagged.contains(&link.digest)) {
        return Ok(Vec::new());
    }
    let mut children = HashSet::new();
    for link in links.iter().filter(|link| is_index(&link.media_type)) {
        // What cannot be read names nothing; a tag or its own line says so.
        let Ok(Some(bytes)) = files.blobs.read_unnoticed(&link.digest, MAX_MANIFEST_BYTES) else { continue };
        if let Ok(manifest) = Manifest::parse(&link.media_type, &bytes) {
            children.extend(manifest.children().map(|child| child.digest));
        }
    }
    let has_row = |digest: &Digest| !tagged.contains(digest) && (own.contains(digest) || !children.contains(digest));
    let untagged = links.iter().filter(|link| has_row(&link.digest));
    Ok(untagged.map(|link| Untagged { digest: link.digest, is_referrer: link.subject.is_some() }).collect())
}

fn contents(files: &Files, repository: &Repository, root: &Digest) -> Contents {
    let mut look = Look { files, repository, seen: HashSet::from([*root]), found: Contents::default() };
    if let Err(problem) = look.at(root) {
        look.found.problem = Some(problem);
    }
    look.found
}

struct Look<'a> {
    files: &'a Files,
    repository: &'a Repository,
    seen: HashSet<Digest>,
    found: Contents,
}

impl Look<'_> {
    fn at(&mut self, root: &Digest) -> Result<(), String> {
        self.found.used = self.files.blobs.use_of(root).map_err(|error| error.to_string())?;
        let size = self.size(root)?.ok_or("its manifest is not here")?;
        self.found.parts.push(part(root, PartKind::Manifest, size, None));
        let mut next = 0;
        while next < self.found.parts.len() {
            if matches!(self.found.parts[next].kind, PartKind::Index | PartKind::Manifest) {
                self.manifest(next)?;
            }
            next += 1;
        }
        Ok(())
    }

    /// Looks into the manifest at this place of the list.
    fn manifest(&mut self, at: usize) -> Result<(), String> {
        let digest = self.found.parts[at].digest;
        let which = if at == 0 { "its manifest".to_owned() } else { format!("its manifest {digest}") };
        let bytes = self.files.blobs.read_unnoticed(&digest, MAX_MANIFEST_BYTES);
        let bytes = bytes.map_err(|error| format!("{which} cannot be read: {error}"))?;
        let bytes = bytes.ok_or_else(|| format!("{which} was rotten and is gone"))?;
        let manifest = Manifest::parse(&Manifest::sniff(&bytes), &bytes);
        let manifest = manifest.map_err(|error| format!("{which} cannot be read: {error}"))?;
        if manifest.manifests.is_some() {
            self.found.parts[at].kind = PartKind::Index;
        } else if self.found.parts[at].platform.is_none() {
            self.found.parts[at].platform = manifest.config.as_ref().and_then(|config| self.platform(config));
        }
        for blob in manifest.blobs() {
            let is_config = manifest.config.as_ref().is_some_and(|config| config.digest == blob.digest);
            self.blob(at, blob, if is_config { PartKind::Config } else { PartKind::Layer })?;
        }
        for child in manifest.children() {
            if !self.is_new(&child.digest)? {
                continue;
            }
            let platform = child.platform.as_ref().and_then(written);
            match self.size(&child.digest)? {
                Some(size) => {
                    let part = part(&child.digest, PartKind::Manifest, size, Some(at));
                    self.found.parts.push(Part { platform, ..part });
                }
                None => self.found.absent.push(platform),
            }
        }
        Ok(())
    }

    fn blob(&mut self, at: usize, blob: &Descriptor, kind: PartKind) -> Result<(), String> {
        if !self.is_new(&blob.digest)? {
            return Ok(());
        }
        let size = self.size(&blob.digest)?;
        if size.is_none() && !blob.urls.is_empty() {
            // A client fetches it elsewhere.
            return Ok(());
        }
        let mut part = part(&blob.digest, kind, size.unwrap_or(blob.size), Some(at));
        part.here = size.is_some();
        if part.here {
            let used = self.files.blobs.use_of(&blob.digest).map_err(|error| error.to_string())?;
            part.served = used.map_or(0, |used| used.served);
        } else {
            let link = self.files.catalog.link(self.repository, &blob.digest).map_err(|error| error.to_string())?;
            part.was_held = link.is_some_and(|link| link.is_held());
        }
        self.found.parts.push(part);
        Ok(())
    }

    fn is_new(&mut self, digest: &Digest) -> Result<bool, String> {
        if self.seen.len() >= PARTS {
            return Err(format!("it has more than {PARTS} parts, and the rest was not looked at"));
        }
        Ok(self.seen.insert(*digest))
    }

    fn size(&self, digest: &Digest) -> Result<Option<u64>, String> {
        self.files.blobs.size(digest).map_err(|error| error.to_string())
    }

    /// The platform in an image's config.
    fn platform(&self, config: &Descriptor) -> Option<String> {
        #[derive(Deserialize)]
        struct Config {
            os: Option<String>,
            architecture: Option<String>,
            variant: Option<String>,
        }
        let bytes = self.files.blobs.read_unnoticed(&config.digest, MAX_CONFIG).ok()??;
        let config: Config = serde_json::from_slice(&bytes).ok()?;
        let (os, architecture) = (config.os?, config.architecture?);
        written(&Platform { os, architecture, variant: config.variant.filter(|variant| !variant.is_empty()) })
    }
}

fn part(digest: &Digest, kind: PartKind, size: u64, of: Option<usize>) -> Part {
    Part { digest: *digest, kind, size, here: true, was_held: false, served: 0, platform: None, of }
}

/// A platform as people write it. An attestation's is `unknown/unknown`, and is none.
fn written(platform: &Platform) -> Option<String> {
    let Platform { os, architecture, variant } = platform;
    if os.is_empty() || architecture.is_empty() || os == "unknown" {
        return None;
    }
    Some(variant.iter().fold(format!("{os}/{architecture}"), |text, variant| format!("{text}/{variant}")))
}
