//! `/api/v1/images`: the images that lanyard knows, page by page, each with what is here of it and
//! why.
//!
//! The order is that of namespaces (pushed ones first), names, tags, and then digests without a
//! tag. A page ends after [`ROWS`] images, [`PARTS`] parts, or [`PAUSE`], whichever comes first; it
//! may be empty and still have a next one. So no page takes long or much memory, however large the
//! data folder is. Nothing is marked as used by it.
//!
//! An image is *whole* if all configs and layers of the manifests that are here are here, *gone* if
//! none of them is or if an index is here and no manifest that it names, else *partial*.
//!
//! A tag is shown as what clients get for it. A tag that a rule freezes is the image of the frozen
//! digest, whatever its record names. A tag that a rule refuses is gone: clients get nothing for
//! it. What the record of such a tag names has a row by its digest. `http/api/` calls it.

use std::time::{Duration, Instant};

use super::{
    Admin, RetentionError,
    kept_images::KeptImages,
    selection::Selection,
    views::{Completeness, ImageRow, Images, PartRow},
    why::Why,
};
use crate::{
    names::Image,
    oci::{Digest, ErrorCode, Namespace, RegistryError, Repository, RepositoryName, Tag},
    pull::Ruled,
    storage::{Contents, Part, PartKind, TagRecord, Untagged},
};

/// The most images in a page, and the most that are looked at in one step.
const ROWS: usize = 256;
const STEP: usize = 64;

/// A page with so many parts ends.
const PARTS: usize = 20_000;

/// A page that has taken so long ends.
const PAUSE: Duration = Duration::from_millis(100);

/// Repositories that are listed at once.
const NAMES: usize = 64;

/// Why clients get nothing for a tag from here.
const REFUSED: &str = "clients get 404: a rule of [[tags]] freezes it at a day or file that does not know it";
const NOT_HELD: &str = "its manifest is not here";

/// The place after which a page begins: all images of this repository up to `seen` are done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor {
    repository: Repository,
    seen: Seen,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Seen {
    Nothing,
    Tag(Tag),
    AllTags,
    Digest(Digest),
    Everything,
}

impl Cursor {
    /// Reads what [`Images::next`] has.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Cursor, RegistryError> {
        let cursor = || {
            let [namespace, name, seen] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
            let namespace = match namespace {
                "" => Namespace::Hosted,
                upstream => Namespace::Upstream(upstream.parse().ok()?),
            };
            let seen = match seen.split_at_checked(1)? {
                ("-", "") => Seen::Nothing,
                (":", "") => Seen::AllTags,
                (":", tag) => Seen::Tag(tag.parse().ok()?),
                ("@", digest) => Seen::Digest(digest.parse().ok()?),
                ("*", "") => Seen::Everything,
                _ => return None,
            };
            Some(Cursor { repository: Repository { namespace, name: name.parse().ok()? }, seen })
        };
        let none = || RegistryError::new(ErrorCode::Unsupported, "last is not the next of another page");
        cursor().ok_or_else(|| none().with_status(400))
    }

    fn written(&self) -> String {
        let namespace = match &self.repository.namespace {
            Namespace::Hosted => "",
            Namespace::Upstream(upstream) => upstream.as_str(),
        };
        let seen = match &self.seen {
            Seen::Nothing => "-".to_owned(),
            Seen::Tag(tag) => format!(":{tag}"),
            Seen::AllTags => ":".to_owned(),
            Seen::Digest(digest) => format!("@{digest}"),
            Seen::Everything => "*".to_owned(),
        };
        format!("{namespace} {} {seen}", self.repository.name)
    }
}

impl Admin {
    /// The page after `last`, of the images that are asked for.
    ///
    /// # Errors
    /// The disk's.
    pub async fn images(&self, asked: &Selection, last: Option<Cursor>) -> Result<Images, RetentionError> {
        if last.is_none() {
            self.storage.count_served().await?;
        }
        let mut page = Page { admin: self, asked, images: Vec::new(), parts: 0, began: Instant::now() };
        let next = page.fill(last).await?;
        Ok(Images { images: page.images, next: next.map(|cursor| cursor.written()) })
    }
}

/// A page that is being filled.
struct Page<'a> {
    admin: &'a Admin,
    asked: &'a Selection,
    images: Vec<ImageRow>,
    parts: usize,
    began: Instant,
}

/// An image to look at.
struct Known {
    image: Image,
    digest: Digest,
    why: Why,
    /// Why clients get nothing for it from here, whatever content is here.
    refused: Option<&'static str>,
}

impl Page<'_> {
    fn is_full(&self) -> bool {
        self.images.len() >= ROWS || self.parts >= PARTS || self.began.elapsed() > PAUSE
    }

    /// Fills the page from `last` on. Returns where the next one begins.
    async fn fill(&mut self, last: Option<Cursor>) -> Result<Option<Cursor>, RetentionError> {
        let storage = &self.admin.storage;
        let mut namespaces = storage.namespaces().await?;
        namespaces.sort_unstable();
        for namespace in namespaces {
            let mut after: Option<RepositoryName> = None;
            if let Some(last) = &last {
                if namespace < last.repository.namespace {
                    continue;
                }
                if namespace == last.repository.namespace {
                    after = Some(last.repository.name.clone());
                    if let Some(next) = self.repository(last.clone()).await? {
                        return Ok(Some(next));
                    }
                }
            }
            loop {
                let from = after.as_ref().map(|name| name.as_str().to_owned());
                let names = storage.repositories(&namespace, from, NAMES).await?;
                let is_last = names.len() < NAMES;
                after = names.last().cloned();
                for name in names {
                    let repository = Repository { namespace: namespace.clone(), name };
                    let cursor = Cursor { repository, seen: Seen::Nothing };
                    if self.asked.may_have(&cursor.repository)
                        && let Some(next) = self.repository(cursor).await?
                    {
                        return Ok(Some(next));
                    }
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Adds the images of a repository from a place on. Returns where the next page begins, if this
    /// one is full.
    async fn repository(&mut self, Cursor { repository, mut seen }: Cursor) -> Result<Option<Cursor>, RetentionError> {
        while seen != Seen::Everything {
            if self.is_full() {
                return Ok(Some(Cursor { repository, seen }));
            }
            let (known, next) = self.step(&repository, seen).await?;
            let wanted = known.into_iter().filter(|known| self.asked.has(&known.image)).collect();
            self.add(&repository, wanted).await?;
            seen = next;
        }
        Ok(self.is_full().then_some(Cursor { repository, seen }))
    }

    /// The next few images of a repository, and how far they lead.
    async fn step(&self, repository: &Repository, seen: Seen) -> Result<(Vec<Known>, Seen), RetentionError> {
        let storage = &self.admin.storage;
        let last_tag = match &seen {
            Seen::Nothing => Some(None),
            Seen::Tag(tag) => Some(Some(tag.as_str().to_owned())),
            Seen::AllTags | Seen::Digest(_) | Seen::Everything => None,
        };
        if let Some(last) = last_tag {
            let records = storage.tag_records_after(repository, last, STEP).await?;
            let next = match records.last() {
                Some(record) if records.len() == STEP => Seen::Tag(record.tag.clone()),
                Some(_) | None => Seen::AllTags,
            };
            let kept = self.admin.kept_images(repository).await?;
            let mut known = Vec::with_capacity(records.len());
            for record in records {
                known.push(self.tagged(repository, record, &kept).await?);
            }
            return Ok((known, next));
        }
        let last = match seen {
            Seen::Digest(digest) => Some(digest),
            Seen::Nothing | Seen::Tag(_) | Seen::AllTags | Seen::Everything => None,
        };
        let known = self.untagged(repository, last).await?;
        let next = match known.last() {
            Some(last) if known.len() == STEP => Seen::Digest(last.digest),
            Some(_) | None => Seen::Everything,
        };
        Ok((known, next))
    }

    /// The image that clients get for a tag.
    async fn tagged(
        &self,
        repository: &Repository,
        record: TagRecord,
        kept: &KeptImages,
    ) -> Result<Known, RetentionError> {
        let Admin { storage, pull, .. } = self.admin;
        let TagRecord { tag, digest: recorded, .. } = record;
        let otherwise = if repository.namespace == Namespace::Hosted { Why::Hosted } else { Why::Tagged };
        let (digest, why, refused) = match pull.ruled(repository, &tag).await? {
            Ruled::Free => (recorded, kept.why(Some(&tag), &recorded).unwrap_or(otherwise), None),
            Ruled::Frozen(digest) if digest == recorded => {
                (digest, kept.why(Some(&tag), &digest).unwrap_or(Why::Frozen), None)
            }
            Ruled::Frozen(digest) => {
                // Bytes that another repository brought are not given out here.
                let link = storage.link(repository, &digest).await?;
                let refused = if link.is_some_and(|link| link.is_held()) { None } else { Some(NOT_HELD) };
                (digest, kept.why(None, &digest).unwrap_or(Why::Frozen), refused)
            }
            Ruled::Refused => (recorded, Why::Frozen, Some(REFUSED)),
        };
        let image = Image { repository: repository.clone(), tag: Some(tag), digest: None };
        Ok(Known { image, digest, why, refused })
    }

    /// The next few images that have a row by their digest.
    async fn untagged(&self, repository: &Repository, last: Option<Digest>) -> Result<Vec<Known>, RetentionError> {
        let tags = self.admin.ruled_tags(repository).await?;
        let kept = self.admin.kept_images(repository).await?;
        let past = self.admin.past_digests(repository).await?;
        let (given, own) = (tags.given.clone(), tags.rows(&kept));
        let untagged = self.admin.storage.untagged_after(repository, given, own, last, STEP).await?;
        let known = untagged.into_iter().map(|Untagged { digest, is_referrer }| {
            let otherwise = match (&repository.namespace, is_referrer) {
                (Namespace::Hosted, _) => Why::Hosted,
                (Namespace::Upstream(_), _) if tags.passes_over(&digest) => Why::Tagged,
                (Namespace::Upstream(_), true) => Why::Referrer,
                (Namespace::Upstream(_), false) if past.contains(&digest) => Why::Superseded,
                (Namespace::Upstream(_), false) => Why::Digest,
            };
            Known {
                image: Image { repository: repository.clone(), tag: None, digest: Some(digest) },
                digest,
                why: tags.why(&kept, &digest).unwrap_or(otherwise),
                refused: None,
            }
        });
        Ok(known.collect())
    }

    async fn add(&mut self, repository: &Repository, known: Vec<Known>) -> Result<(), RetentionError> {
        if known.is_empty() {
            return Ok(());
        }
        let digests = known.iter().map(|known| known.digest).collect();
        let all = self.admin.storage.contents(repository, digests).await?;
        for (known, contents) in known.into_iter().zip(all) {
            let contents = match known.refused {
                Some(problem) => Contents { problem: Some(problem.to_owned()), ..Contents::default() },
                None => contents,
            };
            self.parts += contents.parts.len();
            self.images.push(row(known, contents));
        }
        Ok(())
    }
}

fn row(Known { image, digest, why, .. }: Known, contents: Contents) -> ImageRow {
    let Contents { parts, absent, used, problem } = contents;
    let sum = |of: &dyn Fn(&Part) -> bool| parts.iter().filter(|part| of(part)).map(|part| part.size).sum();
    let is_blob = |part: &&Part| matches!(part.kind, PartKind::Config | PartKind::Layer);
    let (here, blobs) = (parts.iter().filter(is_blob).filter(|part| part.here).count(), parts.iter().filter(is_blob));
    let of = match blobs.count() {
        0 if parts.is_empty() || !absent.is_empty() => Completeness::Gone,
        blobs if blobs == here => Completeness::Whole,
        _ if here == 0 => Completeness::Gone,
        _ => Completeness::Partial,
    };
    let mut platforms: Vec<_> = parts.iter().filter_map(|part| part.platform.clone()).collect();
    platforms.dedup();
    let mut other_platforms: Vec<_> = absent.into_iter().flatten().collect();
    other_platforms.dedup();
    ImageRow {
        image: image.to_string(),
        digest,
        platforms,
        other_platforms,
        here: sum(&|part| part.here),
        let_go: sum(&|part| !part.here && part.was_held),
        never_fetched: sum(&|part| !part.here && !part.was_held),
        of,
        why,
        last_used: used.map(|used| used.last / 1000),
        uses: used.map_or(0, |used| used.uses),
        saved: parts.iter().fold(0, |sum, part| sum.saturating_add(part.served)),
        problem,
        parts: parts.into_iter().map(part_row).collect(),
    }
}

fn part_row(part: Part) -> PartRow {
    let Part { digest, kind, size, here, was_held, platform, of, .. } = part;
    let kind = match kind {
        PartKind::Index => "index",
        PartKind::Manifest => "manifest",
        PartKind::Config => "config",
        PartKind::Layer => "layer",
    };
    PartRow { digest, kind: kind.to_owned(), size, here, let_go: was_held && !here, platform, of }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let digest = Digest::Sha256([7; 32]);
        for seen in
            [Seen::Nothing, Seen::Tag("1.2".parse().unwrap()), Seen::AllTags, Seen::Digest(digest), Seen::Everything]
        {
            for namespace in [Namespace::Hosted, Namespace::Upstream("localhost:5001".parse().unwrap())] {
                let repository = Repository { namespace, name: "team/app".parse().unwrap() };
                let cursor = Cursor { repository, seen: seen.clone() };
                assert_eq!(Cursor::parse(&cursor.written()).unwrap(), cursor);
            }
        }
        for text in ["", "a", "docker.io library/x", "docker.io library/x !", "docker.io library/x :a b", " X -", "  "]
        {
            assert!(Cursor::parse(text).is_err(), "{text:?}");
        }
    }
}
