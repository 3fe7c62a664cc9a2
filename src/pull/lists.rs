//! Tag lists, and what is kept of them and of referrers (`referrers.rs`): asked of upstream once per TTL, kept in memory; when
//! upstream cannot be asked, the last answer, or what the store holds.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use super::{PullError, PullThrough, TagList, blobs::trace, flights::Flights, recent::Recent};
use crate::oci::{Digest, ErrorCode, Namespace, Outcome, Repository, Tag};

/// How many bytes of lists are kept.
const LISTS: usize = 32 << 20;

type Answer<T> = Result<T, PullError>;

/// What is known of lists.
pub(super) struct Lists {
    tags: Recent<Repository, Arc<Vec<Tag>>>,
    tag_flights: Flights<Repository, Answer<Arc<Vec<Tag>>>>,
    pub(super) referrers: Recent<(Repository, Digest), Bytes>,
    pub(super) referrer_flights: Flights<(Repository, Digest), Answer<Bytes>>,
}

impl Lists {
    pub(super) fn new() -> Self {
        Lists {
            tags: Recent::new(LISTS, |tags| tags.iter().map(|tag| tag.as_str().len() + 32).sum::<usize>() + 64),
            tag_flights: Flights::new(),
            referrers: Recent::new(LISTS, |index| index.len() + 128),
            referrer_flights: Flights::new(),
        }
    }
}

impl PullThrough {
    /// A repository's tags: upstream's, or those that are here.
    pub async fn tags(self: &Arc<Self>, repo: &Repository) -> Result<TagList, PullError> {
        let source = match self.source(repo, ErrorCode::NameUnknown) {
            Ok(source) => source,
            Err(nobody) => {
                let tags = self.tags_here(repo).await?.ok_or(nobody)?;
                return Ok(TagList { tags, trace: self.hit(repo) });
            }
        };
        if let Some(tags) = self.lists.tags.within(repo, source.upstream.tag_ttl()) {
            return Ok(TagList { tags, trace: self.hit(repo) });
        }
        let started = Instant::now();
        let (this, key, asked) = (Arc::clone(self), repo.clone(), source.clone());
        let mut flight = self.lists.tag_flights.join(&self.tasks, repo.clone(), || async move {
            let tags = asked.upstream.tags(&asked.name).await;
            let tags = Arc::new(tags.map_err(|error| this.upstream_error(ErrorCode::NameUnknown, error))?);
            this.lists.tags.put(key, Arc::clone(&tags));
            Ok(tags)
        });
        let answer = flight.landed().await.unwrap_or(Err(PullError::Lost));
        let told = |outcome| trace(outcome, &source.upstream, started.elapsed());
        match answer {
            Ok(tags) => Ok(TagList { tags, trace: told(listed(flight.joined)) }),
            Err(error) if error.is_outage() => {
                let last = self.lists.tags.get(repo).map(|(_, tags)| tags);
                let tags = match last {
                    Some(tags) => Some(tags),
                    None => self.tags_here(repo).await?,
                };
                Ok(TagList { tags: tags.ok_or(error)?, trace: told(Outcome::Stale) })
            }
            Err(error) => Err(error),
        }
    }

    async fn tags_here(&self, repo: &Repository) -> Result<Option<Arc<Vec<Tag>>>, PullError> {
        let (storage, at) = (Arc::clone(&self.storage), repo.clone());
        let hosted = repo.namespace == Namespace::Hosted;
        self.on_disk(move || {
            let tags = storage.catalog.tags(&at)?;
            // A hosted repository whose tags are all deleted is one that has none.
            let known = !tags.is_empty() || (hosted && storage.catalog.knows(&at));
            Ok(known.then(|| Arc::new(tags)))
        })
        .await
    }
}

pub(super) fn listed(joined: bool) -> Outcome {
    if joined { Outcome::Joined } else { Outcome::Filled }
}
