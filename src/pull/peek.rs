//! A manifest as a client would get it now, without a trace: nothing is stored, and no last use
//! changes (K14). Called by `prefetch` for a dry run.
//!
//! A tag that is here is asked for by HEAD. A manifest that is not here costs one GET, which counts
//! as a pull at registries that count them, and its bytes are forgotten afterwards.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    ManifestAnswer, PullError, PullThrough,
    answer::trace,
    fill::UpstreamRepository,
    freshness::ttl,
    held::{Held, answer},
    memory::Missed,
};
use crate::{
    config::Mode,
    oci::{Digest, ErrorCode, Manifest, Namespace, Outcome, Reference, Repository},
    storage::LinkRecord,
    upstream::Spend,
};

impl PullThrough {
    /// What [`manifest`](Self::manifest) would answer. The outcome says whether it is here.
    pub(super) async fn peek(
        self: &Arc<Self>,
        repo: &Repository,
        reference: &Reference,
    ) -> Result<ManifestAnswer, PullError> {
        let frozen = match reference {
            Reference::Digest(_) => None,
            Reference::Tag(tag) => self.frozen_digest(repo, tag).await?.map(|frozen| Reference::Digest(frozen.digest)),
        };
        let reference = frozen.as_ref().unwrap_or(reference);
        let digest = match reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(tag) => self.storage.tag(repo, tag).await?.map(|tag| tag.digest),
        };
        let here = match digest {
            Some(digest) => self.peek_here(repo, digest).await?,
            None => None,
        };
        let source = match (self.source(repo, ErrorCode::ManifestUnknown), &here) {
            (Ok(source), _) => source,
            // Hosted or offline.
            (Err(_), Some(held)) => return Ok(answer(held.clone(), self.hit(repo))),
            (Err(error), None) => return Err(error),
        };
        let fresh = match reference {
            Reference::Digest(_) => true,
            Reference::Tag(tag) => self.is_checked(repo, tag, &source),
        };
        match here {
            Some(held) if fresh => Ok(answer(held, self.hit(repo))),
            here => self.peek_there(repo, reference, source, here).await,
        }
    }

    /// Upstream's answer; `here` is what the tag names here.
    async fn peek_there(
        &self,
        repo: &Repository,
        reference: &Reference,
        source: UpstreamRepository,
        here: Option<Held>,
    ) -> Result<ManifestAnswer, PullError> {
        self.negative.check(repo, Missed::Manifest(reference.clone()))?;
        let started = Instant::now();
        let told = |held, outcome| answer(held, trace(outcome, &source.upstream, started.elapsed()));
        if let Some(held) = &here {
            match source.upstream.head_manifest(&source.name, reference).await {
                Ok(head) if head.digest == Some(held.digest) => return Ok(told(held.clone(), Outcome::Revalidated)),
                Ok(_) => {}
                Err(error) if error.may_be_of_head_alone() => {}
                Err(error) if error.is_outage() && self.mode != Mode::Online => {
                    return Ok(told(held.clone(), Outcome::Stale));
                }
                Err(error) => return Err(self.upstream_error(ErrorCode::ManifestUnknown, error)),
            }
        }
        let fetched = source.upstream.manifest(&source.name, reference, Spend::Needed).await;
        let fetched = fetched.map_err(|error| self.upstream_error(ErrorCode::ManifestUnknown, error))?;
        let outcome = match here {
            Some(held) if held.digest == fetched.digest => Outcome::Revalidated,
            Some(_) | None => Outcome::Filled,
        };
        let held = Held { digest: fetched.digest, media_type: fetched.media_type.into(), bytes: fetched.bytes };
        Ok(told(held, outcome))
    }

    /// The manifest that `repo` holds, without a note of its use.
    async fn peek_here(&self, repo: &Repository, digest: Digest) -> Result<Option<Held>, PullError> {
        let link = self.storage.link(repo, &digest).await?.filter(LinkRecord::is_held);
        // Hosted content without a type was pushed as a blob (S10).
        let is_manifest = |link: &LinkRecord| repo.namespace != Namespace::Hosted || !link.media_type.is_empty();
        let Some(link) = link.filter(is_manifest) else { return Ok(None) };
        let bytes = match self.hot.get(&digest) {
            Some(bytes) => Some(bytes),
            None => self.storage.read_unnoticed(&digest).await?,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let media_type = if link.media_type.is_empty() { Manifest::sniff(&bytes) } else { link.media_type };
        Ok(Some(Held { digest, media_type: media_type.into(), bytes }))
    }

    fn is_checked(&self, repo: &Repository, tag: &crate::oci::Tag, source: &UpstreamRepository) -> bool {
        let checked = self.checks.get(&(repo.clone(), tag.clone()));
        let ttl = ttl(self.tag_rules.of(repo, tag), source);
        ttl == Duration::MAX || checked.is_some_and(|(age, answered)| answered && age < ttl)
    }
}
