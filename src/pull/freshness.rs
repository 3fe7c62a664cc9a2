//! Tags: how long they are believed, and what is served when upstream does not answer (DESIGN.md
//! section 5).
//!
//! | upstream says | a tag that is here | a tag that is not |
//! |---|---|---|
//! | same digest | served, `revalidated` | – |
//! | another digest | fetched, `filled`; `stale` while the quota runs out | fetched, `filled` |
//! | 404, in a list of errors | passed on; served `stale` with `keep_deleted` | passed on |
//! | 401, 403 | served `stale` if the upstream is asked anonymously | 404 with upstream's words |
//! | anything else, or nothing | served `stale` | 404 as it is, else 502, 503, 504 |
//!
//! A tag that is here is asked for by HEAD, which costs no pull. A HEAD is believed only if it
//! names the same digest, or another one whose manifest can be had. In all other cases one GET by
//! the tag decides: some registries refuse HEAD, answer it with an old digest, or name one that GET
//! does not have. A tag that is not here is asked for by GET at once.
//!
//! One check runs for all requests that wait, on a task of its own. A request whose tag is here
//! waits for it only [`PATIENCE`], and not at all while the upstream is known to be late: an
//! upstream that swallows packets delays one request, not every request.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    ManifestAnswer, PullError, PullThrough,
    answer::trace,
    fill::UpstreamRepository,
    held::{Checked, Fetched, Held, TagKey, answer},
    memory::Missed,
    records::{self, no_room},
    tag_rules::Rule,
};
use crate::{
    config::{Mode, TagTtl},
    oci::{ErrorCode, Outcome, Reference, Repository, Tag},
    storage::{Change, CommitError, Expectation},
    upstream::{Health, ManifestHead, Spend, UpstreamError},
};

/// How long a request that could be answered from the store waits for upstream's answer.
const PATIENCE: Duration = Duration::from_secs(2);

impl PullThrough {
    pub(super) async fn by_tag(self: &Arc<Self>, repo: &Repository, tag: &Tag) -> Result<ManifestAnswer, PullError> {
        let asked = Instant::now();
        let rule = self.tag_rules.of(repo, tag);
        // On the heap: rare.
        if rule.is_some_and(|rule| rule.freeze.is_some())
            && let Some(frozen) = Box::pin(self.frozen(repo, tag)).await?
        {
            return Ok(frozen);
        }
        let known = self.known(repo, tag).await?;
        let source = match self.source(repo, ErrorCode::ManifestUnknown) {
            Ok(source) => source,
            Err(error) => {
                // Hosted or offline: the content that is here is the truth.
                let held = known.ok_or(error)?;
                return Ok(answer(held, self.hit(repo)));
            }
        };
        let key = (repo.clone(), tag.clone());
        let ttl = ttl(rule, &source);
        // On the heap: a hit makes no room for a new tag (184 bytes) and for one that is due (544
        // bytes).
        let Some(held) = known else {
            return Box::pin(self.first_sight(repo, tag, source, asked)).await;
        };
        match self.checks.get(&key) {
            _ if ttl == Duration::MAX => return Ok(answer(held, self.hit(repo))),
            Some((age, true)) if age < ttl => {
                return Ok(answer(held, self.hit(repo)));
            }
            Some((age, false)) if self.believes_failure(age, ttl) => {
                // A refusal is passed on as long as it is believed; all other failures are outages.
                if let Err(error) = self.negative.check(repo, Missed::Manifest(tag.clone().into()))
                    && !self.serves_stale(&source, &error)
                {
                    return Err(error);
                }
                return Ok(stale(held, &source, Duration::ZERO));
            }
            Some(_) | None => {}
        }
        Box::pin(self.due(repo, tag, held, source, asked)).await
    }

    /// A tag that is here and was not checked for longer than its TTL.
    async fn due(
        self: &Arc<Self>,
        repo: &Repository,
        tag: &Tag,
        held: Held,
        source: UpstreamRepository,
        asked: Instant,
    ) -> Result<ManifestAnswer, PullError> {
        let started = Instant::now();
        let mut flight = self.begin_check(repo, tag, &source, Some(held.clone()), asked);
        let patience = match (self.mode, source.upstream.health()) {
            (Mode::Online, _) => Duration::MAX,
            (Mode::Auto | Mode::Offline, Health::Good) => PATIENCE,
            (Mode::Auto | Mode::Offline, Health::Late | Health::Open) => Duration::ZERO,
        };
        let checked = tokio::time::timeout(patience, flight.result()).await;
        let waited = started.elapsed();
        match checked {
            Ok(Ok(Checked::Unmoved(now) | Checked::Moved(now))) => {
                Ok(answer(now, trace(Outcome::Revalidated, &source.upstream, waited)))
            }
            Ok(Ok(Checked::Fetched(fetched))) => {
                let outcome = fetched.outcome(flight.joined);
                Ok(answer(fetched.held, trace(outcome, &source.upstream, waited)))
            }
            Ok(Ok(Checked::Failed(error))) if !self.serves_stale(&source, &error) => Err(error),
            Ok(Ok(Checked::Failed(_)) | Err(_)) | Err(_) => Ok(stale(held, &source, waited)),
        }
    }

    /// A tag that is not here.
    async fn first_sight(
        self: &Arc<Self>,
        repo: &Repository,
        tag: &Tag,
        source: UpstreamRepository,
        asked: Instant,
    ) -> Result<ManifestAnswer, PullError> {
        self.negative.check(repo, Missed::Manifest(tag.clone().into()))?;
        let started = Instant::now();
        let mut flight = self.begin_check(repo, tag, &source, None, asked);
        let checked = flight.result().await.map_err(|_| PullError::Lost)?;
        let trace = |outcome| trace(outcome, &source.upstream, started.elapsed());
        match checked {
            Checked::Fetched(fetched) => {
                let outcome = fetched.outcome(flight.joined);
                Ok(answer(fetched.held, trace(outcome)))
            }
            // Joined, or came just after, the check of an earlier request.
            Checked::Moved(held) | Checked::Unmoved(held) => Ok(answer(held, trace(Outcome::Joined))),
            Checked::Failed(error) => Err(error),
        }
    }

    pub(super) fn begin_check(
        self: &Arc<Self>,
        repo: &Repository,
        tag: &Tag,
        source: &UpstreamRepository,
        held: Option<Held>,
        asked: Instant,
    ) -> crate::runtime::Flight<Checked> {
        let (this, key, source) = (Arc::clone(self), (repo.clone(), tag.clone()), source.clone());
        let ttl = ttl(self.tag_rules.of(repo, tag), &source);
        self.tag_flights.join(&self.tasks, key.clone(), move || async move {
            // A check that ended after this request began is as good as its own.
            match this.checks.get(&key).filter(|(age, _)| *age <= asked.elapsed()) {
                Some((_, true)) => {
                    if let Ok(Some(now)) = this.known(&key.0, &key.1).await {
                        return Checked::Unmoved(now);
                    }
                }
                Some((age, false)) if this.believes_failure(age, ttl) => {
                    match this.negative.check(&key.0, Missed::Manifest(key.1.clone().into())) {
                        Err(refused) => return Checked::Failed(refused),
                        // An outage, of which no words are kept.
                        Ok(()) if held.is_some() => return Checked::Failed(PullError::Lost),
                        Ok(()) => {}
                    }
                }
                Some((_, false)) | None => {}
            }
            let checked = this.check(&key, source, held).await;
            match &checked {
                // A tag that could not be written is not known to the next request, which has to
                // ask.
                Checked::Fetched(fetched) if !fetched.stored => this.checks.forget(&key),
                Checked::Unmoved(_) | Checked::Moved(_) | Checked::Fetched(_) => this.checks.put(key, true),
                Checked::Failed(_) => this.checks.put(key, false),
            }
            checked
        })
    }

    /// Whether a check that failed `age` ago spares the next one.
    fn believes_failure(&self, age: Duration, ttl: Duration) -> bool {
        age < self.negative_ttl.min(ttl) && self.mode != Mode::Online
    }

    async fn check(self: &Arc<Self>, key: &TagKey, source: UpstreamRepository, held: Option<Held>) -> Checked {
        let (repo, tag) = key;
        let by_tag = Reference::Tag(tag.clone());
        let Some(held) = held else {
            let fetched = Arc::clone(self).fetch(source, repo.clone(), by_tag, Some(tag.clone()), Spend::Needed).await;
            return fetched.map_or_else(Checked::Failed, Checked::Fetched);
        };
        self.metrics.tag_checked(source.upstream.name());
        match source.upstream.head_manifest(&source.name, &by_tag).await {
            Ok(ManifestHead { digest: Some(digest), .. }) if digest == held.digest => {
                self.negative.forget(repo, Missed::Manifest(by_tag));
                return Checked::Unmoved(held);
            }
            Ok(ManifestHead { digest: Some(digest), .. }) => match self.held(repo, &digest).await {
                Ok(Some(now)) => {
                    self.negative.forget(repo, Missed::Manifest(by_tag));
                    return self.repoint(repo, tag, now).await;
                }
                Ok(None) => match self.got(key, &source, digest.into(), &held).await {
                    Err(PullError::Upstream { error, .. }) if error.may_be_of_head_alone() => {}
                    got => return got.unwrap_or_else(Checked::Failed),
                },
                Err(error) => return Checked::Failed(error),
            },
            Ok(ManifestHead { digest: None, .. }) => {}
            Err(error) if error.may_be_of_head_alone() => {}
            Err(error) => return Checked::Failed(self.upstream_error(ErrorCode::ManifestUnknown, error)),
        }
        // No answer that can be relied on: one GET by the tag decides.
        self.got(key, &source, by_tag, &held).await.unwrap_or_else(Checked::Failed)
    }

    /// What a GET says of a tag that named `held` before. The error is upstream's.
    async fn got(
        self: &Arc<Self>,
        (repo, tag): &TagKey,
        source: &UpstreamRepository,
        reference: Reference,
        held: &Held,
    ) -> Result<Checked, PullError> {
        // In this mode nothing stale may be served, so the request fails without the answer.
        let spend = if self.mode == Mode::Online { Spend::Needed } else { Spend::Refresh };
        match source.upstream.manifest(&source.name, &reference, spend).await {
            Ok(fetched) => {
                self.negative.forget(repo, Missed::Manifest(reference));
                self.negative.forget(repo, Missed::Manifest(tag.clone().into()));
                if fetched.digest == held.digest {
                    return Ok(Checked::Unmoved(held.clone()));
                }
                let kept = self.keep(repo.clone(), fetched, Some(tag.clone())).await;
                Ok(kept.map_or_else(Checked::Failed, Checked::Fetched))
            }
            Err(error) => {
                let error = self.upstream_error(ErrorCode::ManifestUnknown, error);
                self.negative.remember(repo, Missed::Manifest(reference), &error);
                Err(error)
            }
        }
    }

    /// The tag moved to a manifest that is here already.
    async fn repoint(&self, repo: &Repository, tag: &Tag, now: Held) -> Checked {
        let record = records::tag(tag.clone(), now.digest, &now.media_type, now.bytes.len() as u64);
        // It may have been forgotten since it was looked at.
        let expect = vec![Expectation::Part { digest: now.digest, manifest: false }];
        match self.storage.commit(Change { expect, tags: vec![record], ..Change::of(repo) }).await {
            Ok(_) => Checked::Moved(now),
            // Upstream names this manifest now, whether or not that can be written.
            Err(CommitError::Refused(_)) => Checked::Fetched(Fetched { held: now, stored: false }),
            Err(CommitError::Storage(error)) if no_room(&error) => {
                Checked::Fetched(Fetched { held: now, stored: false })
            }
            Err(CommitError::Storage(error)) => Checked::Failed(error.into()),
        }
    }

    /// The manifest that the tag named at the last check, if it is still here.
    pub(super) async fn known(&self, repo: &Repository, tag: &Tag) -> Result<Option<Held>, PullError> {
        let (version, reference) = (self.storage.version(repo), Reference::Tag(tag.clone()));
        if let Some(held) = self.warm_manifests.get(version, repo, &reference) {
            return Ok(Some(held));
        }
        // On the heap: 1,488 bytes that a hit does not need.
        Box::pin(self.known_on_disk(repo, tag, version)).await
    }

    async fn known_on_disk(&self, repo: &Repository, tag: &Tag, version: u64) -> Result<Option<Held>, PullError> {
        let Some(record) = self.storage.tag(repo, tag).await? else { return Ok(None) };
        let held = self.held(repo, &record.digest).await?;
        if let Some(held) = &held {
            self.keep_warm(version, repo, &Reference::Tag(tag.clone()), held);
        }
        Ok(held)
    }

    pub(super) fn serves_stale(&self, source: &UpstreamRepository, error: &PullError) -> bool {
        if self.mode == Mode::Online {
            return false;
        }
        let answered = match error {
            PullError::Upstream { error, .. } => error,
            PullError::Storage(_) => return true,
            PullError::Unknown { .. }
            | PullError::Fill(_)
            | PullError::Range { .. }
            | PullError::Away { .. }
            | PullError::Lost => return error.is_outage(),
        };
        match &**answered {
            // The page of a proxy or a load balancer does not say that the tag is gone.
            UpstreamError::NotFound { told, .. } => !told || source.upstream.keep_deleted(),
            UpstreamError::Denied { .. } => source.upstream.anonymous(),
            UpstreamError::Failed { .. } | UpstreamError::Untrue { .. } | UpstreamError::RangeNotSatisfiable => true,
            UpstreamError::RateLimited { .. }
            | UpstreamError::Unreachable(_)
            | UpstreamError::CircuitOpen { .. }
            | UpstreamError::Offline => true,
            UpstreamError::Blocked => false,
        }
    }
}

/// How long a tag of this rule is believed. [`Duration::MAX`]: for ever, once it is here.
pub(super) fn ttl(rule: Option<&Rule>, source: &UpstreamRepository) -> Duration {
    match rule.and_then(|rule| rule.ttl) {
        Some(TagTtl::Never) => Duration::MAX,
        Some(TagTtl::For(ttl)) => ttl,
        None => source.upstream.tag_ttl(),
    }
}

fn stale(held: Held, source: &UpstreamRepository, waited: Duration) -> ManifestAnswer {
    answer(held, trace(Outcome::Stale, &source.upstream, waited))
}
