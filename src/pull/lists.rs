//! Tag lists, and what is kept of them and of referrers (`referrers.rs`): asked of upstream once per TTL, kept in memory; when
//! upstream cannot be asked, the last answer, or what the store holds.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use super::{PullError, PullThrough, TagList, TagPage, blobs::trace, flights::Flights, recent::Recent};
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
    /// A repository's tags, as many as are wanted: upstream's, or those that are here.
    pub async fn tags(self: &Arc<Self>, repo: &Repository, wanted: TagPage) -> Result<TagList, PullError> {
        let listed = |(tags, more), trace| Ok(TagList { tags, more, trace });
        let source = match self.source(repo, ErrorCode::NameUnknown) {
            Ok(source) => source,
            Err(nobody) => return listed(self.tags_here(repo, wanted).await?.ok_or(nobody)?, self.hit(repo)),
        };
        if let Some(tags) = self.lists.tags.within(repo, source.upstream.tag_ttl()) {
            return listed(page(&tags, &wanted), self.hit(repo));
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
            Ok(tags) => listed(page(&tags, &wanted), told(outcome(flight.joined))),
            Err(error) if error.is_outage() => match self.lists.tags.get(repo) {
                Some((_, tags)) => listed(page(&tags, &wanted), told(Outcome::Stale)),
                None => listed(self.tags_here(repo, wanted).await?.ok_or(error)?, told(Outcome::Stale)),
            },
            Err(error) => Err(error),
        }
    }

    /// Those in the store; `None` where the repository is not known.
    async fn tags_here(&self, repo: &Repository, wanted: TagPage) -> Result<Option<(Vec<Tag>, bool)>, PullError> {
        let (storage, at) = (Arc::clone(&self.storage), repo.clone());
        let hosted = repo.namespace == Namespace::Hosted;
        self.on_disk(move || {
            // One more, which tells whether others follow.
            let limit = wanted.n.map_or(usize::MAX, |n| n.saturating_add(1));
            let tags = storage.catalog.tags_after(&at, wanted.last.as_deref(), limit)?;
            // A hosted repository whose tags are all deleted is one that has none.
            let known = !tags.is_empty()
                || (hosted && storage.catalog.knows(&at))
                || !storage.catalog.tags_after(&at, None, 1)?.is_empty();
            Ok(known.then(|| page(&tags, &wanted)))
        })
        .await
    }
}

/// The part of a sorted list that is wanted, and whether others follow.
fn page(tags: &[Tag], wanted: &TagPage) -> (Vec<Tag>, bool) {
    let start = wanted.last.as_deref().map_or(0, |last| tags.partition_point(|tag| tag.as_str() <= last));
    let rest = tags.get(start..).unwrap_or_default();
    let n = wanted.n.unwrap_or(rest.len());
    (rest.get(..n).unwrap_or(rest).to_vec(), n > 0 && n < rest.len())
}

pub(super) fn outcome(joined: bool) -> Outcome {
    if joined { Outcome::Joined } else { Outcome::Filled }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(last: Option<&str>, n: Option<usize>) -> (Vec<String>, bool) {
        let tags: Vec<Tag> = ["1", "10", "2", "B", "a", "b"].iter().map(|tag| tag.parse().unwrap()).collect();
        let (page, more) = page(&tags, &TagPage { last: last.map(str::to_owned), n });
        (page.iter().map(Tag::to_string).collect(), more)
    }

    #[test]
    fn pages_meet_without_gap_or_overlap() {
        let (mut seen, mut last) = (Vec::new(), String::new());
        loop {
            let (page, more) = ask(Some(&last), Some(2));
            last = page.last().unwrap().clone();
            seen.extend(page);
            if !more {
                break;
            }
        }
        assert_eq!(seen, ask(None, None).0);
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn edges() {
        assert_eq!(ask(None, Some(6)), (ask(None, None).0, false));
        assert_eq!(ask(None, Some(0)), (vec![], false));
        assert_eq!(ask(Some("zzz"), None), (vec![], false));
        assert_eq!(ask(Some("11"), Some(1)), (vec!["2".to_owned()], true));
        assert_eq!(ask(None, Some(1000)).0.len(), 6);
    }
}
