//! Commit: one change of a repository. It is checked as a whole and written in a fixed order.
//!
//! [`Storage::commit`] checks every [`Expectation`] and then writes in the order content → links →
//! tags → untag → unlink. All of it is durable when the verb returns. Commits of one repository
//! come one after the other, and each sees what the one before has written: an expectation holds
//! from the look to the end of the change. A reader sees the steps in their order: never a tag
//! whose manifest is missing. After a crash or an error in the middle the steps so far are there,
//! in the same order; the same change made again completes them.
//!
//! [`Storage::hold_commits`] makes commits wait; its holder must not commit. Callers: pull and push
//! commit; the kept set of the retention holds.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use crate::{
    oci::{Digest, Namespace, Repository, Tag},
    storage::{LOCKS, LinkRecord, RoomNeed, Storage, StorageError, TagRecord, files::Files},
};

/// A change of one repository. Fields that are left empty change nothing.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which repository.
    pub repository: Repository,
    /// What must hold, or nothing is changed.
    pub expect: Vec<Expectation>,
    /// Content that is in memory: a manifest. In an upstream's repository it counts against
    /// `max_size`.
    pub content: Option<(Digest, Bytes)>,
    /// Links to write.
    pub links: Vec<(LinkRecord, IfLinked)>,
    /// Tags to point.
    pub tags: Vec<TagRecord>,
    /// Tags to remove.
    pub untag: Vec<Tag>,
    /// Links to remove. The content goes later, when no repository links it.
    pub unlink: Vec<Digest>,
}

/// How a link is written where the repository has one of the same digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IfLinked {
    /// The new record replaces it.
    Replace,
    /// It stays, and is synced again: its writer may have died before it was durable.
    Confirm,
    /// It stays.
    Keep,
    /// It stays if the repository holds the digest, and is replaced if a manifest only names it.
    KeepIfHeld,
}

/// What must hold for a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expectation {
    /// The tag is not here, or names this digest already: it is immutable.
    TagStays(Tag, Digest),
    /// The digest is linked here, or by this change, and its content is here.
    Part {
        /// The part.
        digest: Digest,
        /// It must be linked as a manifest.
        manifest: bool,
    },
    /// No tag but these names the digest.
    NamedBy(Digest, Vec<Tag>),
}

/// Why a change was not made, by the state of the repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The tag names another digest.
    TagMoves(Tag),
    /// These parts are not here.
    PartsMissing(Vec<Digest>),
    /// Another tag names the digest by now. Look again.
    NewTag(Tag),
    /// The cache may hold no more content.
    Full,
}

/// Why a change was not made.
#[derive(Debug)]
pub enum CommitError {
    /// An expectation does not hold, or there is no room. Nothing was changed.
    Refused(Refusal),
    /// The disk failed. The steps before the failure are there.
    Storage(StorageError),
}

impl From<StorageError> for CommitError {
    fn from(error: StorageError) -> Self {
        CommitError::Storage(error)
    }
}

impl Change {
    /// A change of `repository` that does nothing yet.
    pub fn of(repository: &Repository) -> Change {
        Change {
            repository: repository.clone(),
            expect: Vec::new(),
            content: None,
            links: Vec::new(),
            tags: Vec::new(),
            untag: Vec::new(),
            unlink: Vec::new(),
        }
    }

    /// A change that writes one link.
    pub fn link(repository: &Repository, link: LinkRecord, linked: IfLinked) -> Change {
        Change { links: vec![(link, linked)], ..Change::of(repository) }
    }
}

impl Storage {
    /// Makes the change, durably. If it removes anything, says whether that was there; otherwise
    /// `true`. Linked digests are leased from then on, except for those that are only named.
    ///
    /// # Errors
    /// [`CommitError::Refused`]: nothing was changed. [`StorageError::Gone`]: a link to pushed
    /// content whose content was collected meanwhile; nothing was linked.
    /// [`StorageError::WrongDigest`]: the content is not what its digest says.
    pub async fn commit(&self, change: Change) -> Result<bool, CommitError> {
        let is_cached = matches!(change.repository.namespace, Namespace::Upstream(_));
        if let (true, Some((_, bytes))) = (is_cached, &change.content) {
            if !self.is_counted().await {
                return Err(CommitError::Refused(Refusal::Full));
            }
            self.make_way(bytes.len() as u64).await;
        }
        let turn = self.turn_to_commit(&change.repository).await;
        let made = self.write_with(move |files| {
            let _turn = turn;
            Ok(make(files, change))
        });
        made.await?
    }

    /// Waits until `bytes` fit, if cached content may make room for them.
    async fn make_way(&self, bytes: u64) {
        if self.files.room_for(bytes) || !self.files.could_fit(bytes) {
            return;
        }
        let Some(mut line) = self.files.disk.room_queue.first(RoomNeed::of(bytes)).await else { return };
        loop {
            line.looks();
            if self.files.room_for(bytes) {
                return line.found();
            }
            if !line.again().await {
                return;
            }
        }
    }

    /// The repository's turn to change. Held on the thread that writes.
    pub(super) async fn turn_to_commit(&self, repository: &Repository) -> OwnedMutexGuard<()> {
        Arc::clone(&self.commits[turn(repository)]).lock_owned().await
    }

    /// Keeps these repositories from being changed by a commit or a forgetting until it is dropped.
    /// Others may wait meanwhile, too. The holder must not commit.
    pub async fn hold_commits(&self, repositories: &[Repository]) -> HeldCommits {
        // In order, so that two of them do not wait for each other.
        let turns: BTreeSet<_> = repositories.iter().map(turn).collect();
        let mut held = Vec::with_capacity(turns.len());
        for turn in turns {
            held.push(Arc::clone(&self.commits[turn]).lock_owned().await);
        }
        HeldCommits(held)
    }
}

/// See [`Storage::hold_commits`].
#[derive(Debug)]
#[must_use = "changes go on when this is dropped"]
pub struct HeldCommits(#[expect(dead_code, reason = "it is held, and not read")] Vec<OwnedMutexGuard<()>>);

/// Which lock has a repository's turn.
fn turn(repository: &Repository) -> usize {
    let mut hasher = DefaultHasher::new();
    repository.hash(&mut hasher);
    (hasher.finish() % LOCKS as u64) as usize
}

fn make(files: &Files, change: Change) -> Result<bool, CommitError> {
    let Change { repository, expect, content, links, tags, untag, unlink } = change;
    // The content stays from the look at it until its link protects it.
    let digests = content.iter().map(|(digest, _)| *digest);
    let mut hold = match repository.namespace {
        Namespace::Hosted => files.leases.hold(digests),
        Namespace::Upstream(_) => files.leases.hold_cached(digests),
    };
    if let Some(refusal) = refusal(files, &repository, &expect, &links)? {
        // No client is told that it is here.
        hold.forget(content.iter().map(|(digest, _)| digest));
        return Err(CommitError::Refused(refusal));
    }
    if let Some((digest, bytes)) = &content {
        let room = match repository.namespace {
            Namespace::Hosted => None,
            Namespace::Upstream(_) => {
                Some(files.promise(bytes.len() as u64).ok_or(CommitError::Refused(Refusal::Full))?)
            }
        };
        files.blobs.put(digest, bytes)?;
        drop(room);
    }
    files.catalog.put_links(&repository, &chosen(files, &repository, links)?)?;
    for tag in &tags {
        files.catalog.put_tag(&repository, tag)?;
    }
    let mut there = untag.is_empty() && unlink.is_empty();
    // Tags before links: no tag may be left that names a missing manifest.
    for tag in &untag {
        there |= files.catalog.delete_tag(&repository, tag)?;
    }
    for digest in &unlink {
        there |= files.catalog.delete_link(&repository, digest)?;
    }
    Ok(there)
}

fn refusal(
    files: &Files,
    repository: &Repository,
    expect: &[Expectation],
    links: &[(LinkRecord, IfLinked)],
) -> Result<Option<Refusal>, StorageError> {
    let mut missing = Vec::new();
    for expectation in expect {
        match expectation {
            Expectation::TagStays(tag, digest) => {
                if files.catalog.tag(repository, tag)?.is_some_and(|record| record.digest != *digest) {
                    return Ok(Some(Refusal::TagMoves(tag.clone())));
                }
            }
            Expectation::Part { digest, manifest } => {
                let fits = |link: &LinkRecord| !manifest || link.is_manifest();
                let linked = links.iter().any(|(link, _)| link.digest == *digest && fits(link))
                    || files.catalog.link(repository, digest)?.is_some_and(|link| fits(&link));
                if !linked || files.blobs.size(digest)?.is_none() {
                    missing.push(*digest);
                }
            }
            Expectation::NamedBy(digest, tags) => {
                let naming = files.catalog.tags_naming(repository, digest)?;
                if let Some(new) = naming.into_iter().find(|tag| !tags.contains(tag)) {
                    return Ok(Some(Refusal::NewTag(new)));
                }
            }
        }
    }
    Ok(if missing.is_empty() { None } else { Some(Refusal::PartsMissing(missing)) })
}

/// The records to write, by what [`IfLinked`] says of each.
fn chosen(
    files: &Files,
    repository: &Repository,
    links: Vec<(LinkRecord, IfLinked)>,
) -> Result<Vec<LinkRecord>, StorageError> {
    let mut chosen = Vec::with_capacity(links.len());
    for (link, linked) in links {
        let present = match linked {
            IfLinked::Replace => None,
            IfLinked::Confirm | IfLinked::Keep | IfLinked::KeepIfHeld => {
                files.catalog.link(repository, &link.digest)?
            }
        };
        match (linked, present) {
            (IfLinked::Confirm, Some(present)) => chosen.push(present),
            (IfLinked::Keep, Some(_)) => {}
            (IfLinked::KeepIfHeld, Some(present)) if present.is_held() => {}
            (IfLinked::Replace | IfLinked::Confirm | IfLinked::Keep | IfLinked::KeepIfHeld, _) => chosen.push(link),
        }
    }
    Ok(chosen)
}
