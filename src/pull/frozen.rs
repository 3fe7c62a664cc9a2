//! Frozen tags: a rule of `[[tags]]` says what they name, and upstream is asked for their content
//! alone (DESIGN.md section 5).
//!
//! | the record of that day, or the lock file | `unlisted` | a client gets |
//! |---|---|---|
//! | knows the tag | – | that digest, always the same one (T1), as if it had asked by digest |
//! | does not know it | refuse | 404, with the day on which the tag was first seen |
//! | does not know it | pass | what it gets without the rule (`freshness`) |
//!
//! `freshness` calls this for a tag with such a rule, `warm_tags` and `peek` as well; `admin` asks
//! for lock files and pins.

use std::sync::Arc;

use super::{ManifestAnswer, PullError, PullThrough, tag_rules::FrozenAt};
use crate::{
    config::{LockedImage, Unlisted},
    oci::{Digest, ErrorCode, Repository, Tag},
    runtime::clock,
    storage::StorageError,
};

/// A tag that a rule freezes.
pub(super) struct Frozen {
    /// What it names.
    pub(super) digest: Digest,
    /// What it is frozen at: the value of `X-Lanyard-Frozen`.
    pub(super) at: String,
}

/// What a rule makes of a tag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ruled {
    /// No rule freezes it, or the rule lets it pass: it is what its record says.
    Free,
    /// Clients get this manifest.
    Frozen(Digest),
    /// A rule freezes it, and clients are told that it is unknown.
    Refused,
}

/// A rule that freezes a tag.
struct Freezing<'a> {
    at: &'a FrozenAt,
    unlisted: Unlisted,
    digest: Option<Digest>,
}

impl PullThrough {
    /// The answer for a tag that a rule freezes. `None`: the tag is as without the rule.
    pub(super) async fn frozen(
        self: &Arc<Self>,
        repo: &Repository,
        tag: &Tag,
    ) -> Result<Option<ManifestAnswer>, PullError> {
        let Some(Frozen { digest, at }) = self.frozen_digest(repo, tag).await? else { return Ok(None) };
        let mut answer = self.by_digest(repo, &digest).await?;
        answer.frozen = Some(at.into());
        Ok(Some(answer))
    }

    /// What a tag names that a rule freezes. `None`: the tag is as without the rule.
    pub(super) async fn frozen_digest(&self, repo: &Repository, tag: &Tag) -> Result<Option<Frozen>, PullError> {
        let Some(Freezing { at, unlisted, digest }) = self.freezing(repo, tag).await? else { return Ok(None) };
        match (digest, unlisted) {
            (Some(digest), _) => Ok(Some(Frozen { digest, at: word(at) })),
            (None, Unlisted::Refuse) => Err(self.not_known_then(repo, tag, at).await?),
            (None, Unlisted::Pass) => Ok(None),
        }
    }

    /// What a rule makes of a tag. Asks no upstream, and is no use of anything.
    ///
    /// # Errors
    /// The disk's.
    pub async fn ruled(&self, repo: &Repository, tag: &Tag) -> Result<Ruled, StorageError> {
        Ok(match self.freezing(repo, tag).await? {
            Some(Freezing { digest: Some(digest), .. }) => Ruled::Frozen(digest),
            Some(Freezing { unlisted: Unlisted::Refuse, .. }) => Ruled::Refused,
            Some(Freezing { unlisted: Unlisted::Pass, .. }) | None => Ruled::Free,
        })
    }

    /// The tags of a repository that lock files freeze, as these have them.
    pub fn locked(&self, repo: &Repository) -> Vec<(Tag, LockedImage)> {
        self.tag_rules.locked(repo)
    }

    /// The rule that freezes a tag, and the digest that its day or file knows.
    async fn freezing(&self, repo: &Repository, tag: &Tag) -> Result<Option<Freezing<'_>>, StorageError> {
        let Some((rule, at)) = self.tag_rules.of(repo, tag).and_then(|rule| Some((rule, rule.freeze.as_ref()?))) else {
            return Ok(None);
        };
        let digest = match at {
            FrozenAt::Day(day) => self.named_at(repo, tag, day.end()).await?,
            FrozenAt::File(lock) => {
                lock.refresh().await;
                lock.content().digest(&format!("{repo}:{tag}"))
            }
        };
        Ok(Some(Freezing { at, unlisted: rule.unlisted, digest }))
    }

    /// What the tag named at a time, by lanyard's own record.
    async fn named_at(&self, repo: &Repository, tag: &Tag, time: u64) -> Result<Option<Digest>, StorageError> {
        let version = self.storage.version(repo);
        if let Some(named) = self.frozen_digests.get(version, repo, tag) {
            return Ok(named);
        }
        let named = self.storage.tag_history(repo, tag).await?.and_then(|seen| seen.at(time));
        self.frozen_digests.insert(version, repo, tag, &named);
        Ok(named)
    }

    async fn not_known_then(&self, repo: &Repository, tag: &Tag, at: &FrozenAt) -> Result<PullError, PullError> {
        let why = match at {
            FrozenAt::Day(day) => match self.storage.tag_history(repo, tag).await? {
                Some(seen) if seen.first_seen() <= day.end() => "of which it has no record any more".to_owned(),
                Some(seen) => format!("first seen on {}", clock::day(seen.first_seen())),
                None => "never seen".to_owned(),
            },
            FrozenAt::File(_) => "which does not list it".to_owned(),
        };
        let message = format!("{repo}:{tag} is frozen at {}, {why}", word(at));
        Ok(PullError::Unknown { code: ErrorCode::ManifestUnknown, message })
    }
}

/// The value of `X-Lanyard-Frozen`.
fn word(at: &FrozenAt) -> String {
    match at {
        FrozenAt::Day(day) => day.to_string(),
        FrozenAt::File(lock) => lock.name(),
    }
}
