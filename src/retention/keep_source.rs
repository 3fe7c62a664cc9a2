//! The sources of the kept set: what says which images stay, and of which repositories.
//!
//! Each answers from its own truth: the records of pins, the configuration, the rules of tags and
//! their lock files. A new reason for content to stay is a new variant. Callers: `kept.rs`.

use std::{collections::HashSet, sync::Arc};

use crate::{
    config::ImagePattern,
    oci::{PlatformName, Reference, Repository, Tag},
    storage::{Storage, StorageError, TagHistory, Unsure, Untold},
};

/// What says which images stay.
pub enum Source {
    /// The pins of the data folder.
    Pins,
    /// The patterns of `cache.keep`.
    Patterns(Vec<ImagePattern>),
    /// The rules of `[[tags]]`: what frozen tags name, and the last digests of a tag (T2).
    Rules(Arc<dyn TagKeeper>),
    /// The lock files of these rules. They say nothing by themselves: when one has changed, the
    /// rules are asked anew.
    LockFiles(Arc<dyn TagKeeper>),
}

/// The rules of tags. Another room has them.
///
/// A tag in an answer stands for its name, whose record and history the rule goes by. A digest
/// stands for an image. `histories` are those of all tags of the repository.
pub trait TagKeeper: Send + Sync {
    /// A number that rises when the answers below may change for the same histories.
    fn version(&self) -> u64;

    /// Whether a rule may keep something of the repository.
    fn concerns(&self, repository: &Repository) -> bool;

    /// The frozen tags of the repository, and what they are frozen at.
    fn frozen(&self, repository: &Repository, histories: &[TagHistory]) -> Vec<Reference>;

    /// The tags of which a rule keeps the last digests, and these digests.
    fn last(&self, repository: &Repository, histories: &[TagHistory]) -> Vec<Reference>;
}

/// Why an image stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It is pinned, by its tag or its digest.
    Pinned,
    /// This pattern of `cache.keep` fits.
    Pattern(String),
    /// A rule of `[[tags]]` freezes it, or a tag at it.
    Frozen,
    /// A rule of `[[tags]]` keeps the last digests of its tag.
    Last,
    /// What stays of its repository cannot be told, for this reason.
    Untold(String),
}

/// A name or an image that stays.
pub(super) struct Stay {
    pub(super) reference: Reference,
    pub(super) reason: Reason,
    /// The platforms of its content that stay, empty for all; `None`: only the name stays.
    pub(super) content: Option<Vec<PlatformName>>,
}

/// The repositories that a source has something to say about.
#[derive(Default)]
pub(super) struct Concerned {
    pub(super) repositories: HashSet<Repository>,
    /// There may be others.
    pub(super) untold: bool,
}

impl Source {
    /// A number that rises when it may say something else, beside the versions of its repositories.
    pub(super) fn version(&self, storage: &Storage) -> u64 {
        match self {
            Source::Pins => storage.pins_version(),
            Source::Patterns(patterns) if patterns.is_empty() => 0,
            Source::Patterns(_) | Source::Rules(_) => storage.births(),
            Source::LockFiles(rules) => rules.version(),
        }
    }

    /// Whether it may say something else about a repository that has not changed.
    pub(super) fn speaks_anew(&self) -> bool {
        match self {
            Source::Pins | Source::LockFiles(_) => true,
            // A rise is another repository.
            Source::Patterns(_) | Source::Rules(_) => false,
        }
    }

    pub(super) async fn concerned(&self, storage: &Storage) -> Result<Concerned, StorageError> {
        let mut concerned = Concerned::default();
        match self {
            Source::Pins => {
                let list = storage.pins().await?;
                concerned.repositories.extend(list.pins.into_iter().map(|pin| pin.repository));
                for untold in list.untold {
                    match untold {
                        Untold::Repository(repository) => drop(concerned.repositories.insert(repository)),
                        Untold::Everything | Untold::Namespace(_) => concerned.untold = true,
                    }
                }
            }
            Source::Patterns(patterns) if patterns.is_empty() => {}
            Source::Patterns(patterns) => {
                let fits = |repository: &Repository| patterns.iter().any(|pattern| pattern.holds(repository));
                concerned.repositories = repositories(storage, fits).await?;
            }
            Source::Rules(rules) => {
                concerned.repositories = repositories(storage, |repository| rules.concerns(repository)).await?;
            }
            Source::LockFiles(_) => {}
        }
        Ok(concerned)
    }

    /// What of a repository stays, if these tags of it are not there.
    pub(super) async fn stays(
        &self,
        storage: &Storage,
        repository: &Repository,
        without: &HashSet<Tag>,
    ) -> Result<Vec<Stay>, Unsure> {
        let stays = match self {
            Source::Pins => {
                let pins = storage.pins_of(repository).await?.ok_or(Unsure::Pin)?.into_iter();
                let stays = pins.map(|pin| Stay {
                    reference: pin.reference,
                    reason: Reason::Pinned,
                    content: Some(pin.platforms),
                });
                stays.collect()
            }
            Source::Patterns(patterns) if patterns.iter().any(|pattern| pattern.holds(repository)) => {
                let fitting = |tag: Tag| {
                    let pattern = patterns.iter().find(|pattern| pattern.matches(repository, &tag))?;
                    let reason = Reason::Pattern(pattern.to_string());
                    Some(Stay { reference: tag.into(), reason, content: Some(Vec::new()) })
                };
                let tags = storage.tag_names(repository).await?.into_iter();
                tags.filter(|tag| !without.contains(tag)).filter_map(fitting).collect()
            }
            Source::Rules(rules) if rules.concerns(repository) => {
                let mut histories = storage.tag_histories(repository).await?;
                histories.retain(|seen| !without.contains(&seen.record.tag));
                let told: HashSet<_> = histories.iter().map(|seen| &seen.record.tag).collect();
                // A record that is damaged has no history.
                let names = storage.tag_names(repository).await?;
                if let Some(damaged) = names.into_iter().find(|tag| !told.contains(tag) && !without.contains(tag)) {
                    return Err(Unsure::Tag(damaged));
                }
                let by = |kept: Vec<Reference>, reason: Reason| {
                    kept.into_iter().map(move |reference| {
                        let content = matches!(reference, Reference::Digest(_)).then(Vec::new);
                        Stay { reference, reason: reason.clone(), content }
                    })
                };
                let frozen = by(rules.frozen(repository, &histories), Reason::Frozen);
                frozen.chain(by(rules.last(repository, &histories), Reason::Last)).collect()
            }
            Source::Patterns(_) | Source::Rules(_) | Source::LockFiles(_) => Vec::new(),
        };
        Ok(stays)
    }
}

/// The mirrored repositories that fit.
async fn repositories(
    storage: &Storage,
    fits: impl Fn(&Repository) -> bool,
) -> Result<HashSet<Repository>, StorageError> {
    let mut all = HashSet::new();
    for namespace in storage.namespaces().await? {
        let names = storage.folders(&namespace).await?.into_iter();
        let named = names.map(|name| Repository { namespace: namespace.clone(), name });
        all.extend(named.filter(|repository| fits(repository)));
    }
    Ok(all)
}
