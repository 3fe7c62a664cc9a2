//! Tag lists.
//!
//! Upstream is asked once per TTL. If it cannot be asked, the answer is the last one, or the tags
//! in the store, `stale`. `memory/lists.rs` bounds what upstreams' lists cost.

use std::{ops::Range, sync::Arc, time::Instant};

use super::{PullError, PullThrough, TagList, TagPage, answer::trace};
use crate::oci::{ErrorCode, Outcome, Repository, Tags};

/// How many tags of the store one answer has at most. The others are on the next page.
const HERE: usize = 100_000;

/// A list, the wanted positions, and whether more follow.
type Listed = (Arc<Tags>, Range<usize>, bool);

impl PullThrough {
    /// The wanted tags of a repository: upstream's, or those in the store.
    pub async fn tags(self: &Arc<Self>, repo: &Repository, wanted: TagPage) -> Result<TagList, PullError> {
        let listed = |(all, wanted, more): Listed, trace| Ok(TagList { all, wanted, more, trace });
        let source = match self.source(repo, ErrorCode::NameUnknown) {
            Ok(source) => source,
            Err(error) => return listed(self.tags_here(repo, wanted).await?.ok_or(error)?, self.hit(repo)),
        };
        if let Some(tags) = self.lists.tags.within(repo, source.upstream.tag_ttl()) {
            return listed(page(tags, &wanted), self.hit(repo));
        }
        let started = Instant::now();
        let (this, key, asked) = (Arc::clone(self), repo.clone(), source.clone());
        let permits = self.lists.permits(&source.upstream.config().name);
        let mut flight = self.lists.tag_flights.join(&self.tasks, repo.clone(), || async move {
            let _permit = permits.acquire().await.map_err(|_| PullError::Lost)?;
            let tags = asked.upstream.tags(&asked.name).await;
            let tags = Arc::new(tags.map_err(|error| this.upstream_error(ErrorCode::NameUnknown, error))?);
            this.lists.tags.put(key, Arc::clone(&tags));
            Ok(tags)
        });
        let answer = flight.result().await.unwrap_or(Err(PullError::Lost));
        let told = |outcome| trace(outcome, &source.upstream, started.elapsed());
        match answer {
            Ok(tags) => listed(page(tags, &wanted), told(outcome(flight.joined))),
            Err(error) if error.is_outage() => match self.lists.tags.get(repo) {
                Some((_, tags)) => listed(page(tags, &wanted), told(Outcome::Stale)),
                None => listed(self.tags_here(repo, wanted).await?.ok_or(error)?, told(Outcome::Stale)),
            },
            Err(error) => Err(error),
        }
    }

    /// The tags in the store; `None` if the repository is not known.
    async fn tags_here(&self, repo: &Repository, wanted: TagPage) -> Result<Option<Listed>, PullError> {
        let most = wanted.n.unwrap_or(HERE).min(HERE);
        // One more, which tells whether more follow.
        let found = self.storage.tags(repo, wanted.last, most + 1).await?;
        if !found.known {
            return Ok(None);
        }
        let packed = self.disk.run(move || {
            let mut tags = Tags::default();
            // Tags that do not fit are on the next page.
            let fitting = found.tags.iter().take_while(|tag| tags.push(tag).is_ok()).count();
            let page = 0..fitting.min(most);
            let more = most > 0 && page.end < found.tags.len();
            (Arc::new(tags), page, more)
        });
        packed.await.map(Some).map_err(|_| PullError::Lost)
    }
}

/// The wanted part of a sorted list, and whether more follow.
fn page(tags: Arc<Tags>, wanted: &TagPage) -> Listed {
    let start = wanted.last.as_deref().map_or(0, |last| tags.up_to(last));
    let rest = tags.len() - start;
    let n = wanted.n.unwrap_or(rest).min(rest);
    (tags, start..start + n, n > 0 && n < rest)
}

pub(super) fn outcome(joined: bool) -> Outcome {
    if joined { Outcome::Joined } else { Outcome::Filled }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(last: Option<&str>, n: Option<usize>) -> (Vec<String>, bool) {
        let mut tags = Tags::default();
        ["1", "10", "2", "B", "a", "b"].iter().for_each(|tag| tags.push(&tag.parse().unwrap()).unwrap());
        let (tags, page, more) = page(Arc::new(tags), &TagPage { last: last.map(str::to_owned), n });
        (tags.range(page).map(str::to_owned).collect(), more)
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
