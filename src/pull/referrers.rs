//! The referrers of a manifest, page by page (distribution-spec, "Listing Referrers").
//!
//! Promises:
//! - An empty list means that there are no referrers: upstream has said so, or no upstream is ever
//!   asked. In an outage the known ones are listed, `stale`; if none is known, the answer is an
//!   error, not a list.
//! - An answer is an index of at most [`MAX_MANIFEST_BYTES`]. Referrers that do not fit are on the
//!   next page.
//! - Pages are in the order of the digests, each begins after the one before, and filtered-out
//!   referrers are on no page.
//! - A request holds one page, one manifest and a batch of links (without the index: all links of
//!   the repository), however long the referrers' annotations are. It reads at most [`LOOK`] bytes
//!   of them and one manifest more, so a page of a filtered list may be short.

use std::{borrow::Cow, sync::Arc, time::Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{PullError, PullThrough, Referrers, Trace, answer::trace, described::Described, lists::outcome};
use crate::{
    oci::{Digest, ErrorCode, MAX_MANIFEST_BYTES, OCI_INDEX, Outcome, Repository},
    runtime::BlockingPool,
    storage::{LinkRecord, Storage, StorageError},
    upstream::UpstreamError,
};

/// How many bytes of manifests are read for one page.
const LOOK: usize = 64 << 20;

/// How many links are looked up at a time.
const BATCH: usize = 256;

/// Which of the referrers are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// Only those of this artifact type.
    pub artifact_type: Option<String>,
    /// Only those whose digests sort after this.
    pub last: Option<String>,
    /// At most this many.
    pub n: Option<usize>,
}

/// An index as JSON, and the digest after which the next page begins.
type Page = (Bytes, Option<String>);

impl PullThrough {
    /// The referrers of `subject` in `repo` that are wanted, as many as fit.
    pub async fn referrers(
        self: &Arc<Self>,
        repo: &Repository,
        subject: &Digest,
        wanted: Selection,
    ) -> Result<Referrers, PullError> {
        let Ok(source) = self.source(repo, ErrorCode::ManifestUnknown) else {
            return self.referrers_here(repo, subject, wanted, self.hit(repo)).await;
        };
        let key = (repo.clone(), *subject);
        if let Some(index) = self.lists.referrers.within(&key, source.upstream.tag_ttl()) {
            return self.referrers_there(index, wanted, self.hit(repo)).await;
        }
        let started = Instant::now();
        let (this, asked, asked_key) = (Arc::clone(self), source.clone(), key.clone());
        let mut flight = self.lists.referrer_flights.join(&self.tasks, key.clone(), || async move {
            let index = asked.upstream.referrers(&asked.name, &asked_key.1).await;
            let index = index.map_err(|error| this.upstream_error(ErrorCode::ManifestUnknown, error))?;
            this.lists.referrers.put(asked_key, index.clone());
            Ok(index)
        });
        let answer = flight.result().await.unwrap_or(Err(PullError::Lost));
        let told = |outcome| -> Trace { trace(outcome, &source.upstream, started.elapsed()) };
        match answer {
            Ok(index) => self.referrers_there(index, wanted, told(outcome(flight.joined))).await,
            Err(error) if error.is_outage() || self.serves_stale(&source, &error) => {
                if let Some((_, index)) = self.lists.referrers.get(&key) {
                    return self.referrers_there(index, wanted, told(Outcome::Stale)).await;
                }
                if self.has_referrers(repo, subject).await? {
                    return self.referrers_here(repo, subject, wanted, told(Outcome::Stale)).await;
                }
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the store has any.
    async fn has_referrers(&self, repo: &Repository, subject: &Digest) -> Result<bool, PullError> {
        let mut links = Links::new(&self.storage, repo, subject, None);
        while let Some(link) = links.next().await? {
            if self.storage.size(&link.digest).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The referrers that the store has.
    async fn referrers_here(
        self: &Arc<Self>,
        repo: &Repository,
        subject: &Digest,
        wanted: Selection,
        trace: Trace,
    ) -> Result<Referrers, PullError> {
        let version = self.storage.version(repo);
        let links = Links::new(&self.storage, repo, subject, wanted.last.clone());
        let describe = async |link: LinkRecord| {
            if let Some(known) = self.described.get(version, repo, &link.digest) {
                return Ok(Some(known));
            }
            let described = described(&self.storage, &self.disk, &link).await?;
            if let Some(described) = &described {
                self.described.insert(version, repo, &link.digest, described);
            }
            Ok(described)
        };
        let (index, next) = page(describe, links, &wanted, LOOK).await?;
        Ok(Referrers { index, next, trace })
    }

    /// The referrers in upstream's index: the index as it came, if all are wanted.
    async fn referrers_there(&self, index: Bytes, wanted: Selection, trace: Trace) -> Result<Referrers, PullError> {
        if wanted == Selection::default() {
            return Ok(Referrers { index, next: None, trace });
        }
        let selected = self.disk.run(move || selected(&index, &wanted)).await.map_err(|_| PullError::Lost)?;
        let (index, next) = selected.map_err(|error| {
            let error = UpstreamError::Untrue { message: format!("the list of referrers is unreadable: {error}") };
            self.upstream_error(ErrorCode::ManifestUnknown, error)
        })?;
        Ok(Referrers { index, next, trace })
    }
}

impl Selection {
    fn takes(&self, digest: &str, artifact_type: Option<&str>) -> bool {
        self.last.as_deref().is_none_or(|last| digest > last)
            && self.artifact_type.as_deref().is_none_or(|wanted| artifact_type == Some(wanted))
    }
}

/// The wanted part of an upstream's index. Its other fields stay as they are.
fn selected(index: &[u8], wanted: &Selection) -> Result<Page, serde_json::Error> {
    fn text<'a>(of: &'a Value, key: &str) -> Option<&'a str> {
        of.get(key).and_then(Value::as_str)
    }
    let digest = |of: &Value| text(of, "digest").unwrap_or_default().to_owned();
    let mut index: Value = serde_json::from_slice(index)?;
    let mut next = None;
    if let Some(manifests) = index.get_mut("manifests").and_then(Value::as_array_mut) {
        manifests.retain(|of| wanted.takes(&digest(of), text(of, "artifactType")));
        manifests.sort_by_cached_key(digest);
        let n = wanted.n.unwrap_or(usize::MAX);
        if n < manifests.len() {
            manifests.truncate(n);
            next = manifests.last().map(digest);
        }
    }
    Ok((index.to_string().into(), next))
}

/// The links of a subject's referrers, sorted by their digests, looked up a batch at a time.
struct Links<'a> {
    storage: &'a Storage,
    repo: &'a Repository,
    subject: &'a Digest,
    batch: std::vec::IntoIter<LinkRecord>,
    /// The next batch begins after this, or at the beginning; the outer `None` is the end.
    next: Option<Option<String>>,
}

impl<'a> Links<'a> {
    fn new(storage: &'a Storage, repo: &'a Repository, subject: &'a Digest, last: Option<String>) -> Self {
        Links { storage, repo, subject, batch: Vec::new().into_iter(), next: Some(last) }
    }
}

impl Links<'_> {
    async fn next(&mut self) -> Result<Option<LinkRecord>, StorageError> {
        loop {
            if let Some(link) = self.batch.next() {
                return Ok(Some(link));
            }
            let Some(last) = self.next.take() else { return Ok(None) };
            let (batch, next) = self.storage.referrers(self.repo, self.subject, last, BATCH).await?;
            self.batch = batch.into_iter();
            self.next = next.map(|next| Some(next.to_string()));
        }
    }
}

/// Reads a manifest and describes it on a thread of `pool`, since it may be long; `None` if it is
/// not here.
async fn described(
    storage: &Storage,
    pool: &BlockingPool,
    link: &LinkRecord,
) -> Result<Option<Arc<Described>>, StorageError> {
    let Some(bytes) = storage.read(&link.digest).await? else { return Ok(None) };
    let link = link.clone();
    let described = pool.run(move || Arc::new(Described::of(&link, &bytes))).await;
    described.map(Some).map_err(|_| StorageError::Lost)
}

/// A page of an index of the manifests among `links` that are here and wanted. `links` are sorted
/// by their digests.
async fn page(
    describe: impl AsyncFn(LinkRecord) -> Result<Option<Arc<Described>>, StorageError>,
    mut links: Links<'_>,
    wanted: &Selection,
    look: usize,
) -> Result<Page, StorageError> {
    let mut text = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }).to_string();
    let end = text.split_off(text.find("[").map_or(text.len(), |at| at + 1));
    let (mut count, mut looked, mut last, mut more) = (0, 0, None, false);
    while let Some(link) = links.next().await? {
        let digest = link.digest.to_string();
        if wanted.last.as_ref().is_some_and(|last| digest <= *last) {
            continue;
        }
        more = looked >= look;
        if more || wanted.n == Some(0) {
            break;
        }
        let Some(described) = describe(link).await? else { continue };
        looked += described.read;
        if wanted.takes(&digest, described.artifact_type.as_deref()) {
            let fits = |one: &str| text.len() + 1 + one.len() + end.len() <= MAX_MANIFEST_BYTES;
            let mut one = Cow::Borrowed(&*described.text);
            if count == 0 && !fits(&one) {
                // An index of this one alone is too much.
                one = described.shorter(fits).into();
            }
            more = wanted.n == Some(count) || !fits(&one);
            if more {
                break;
            }
            text.push_str(if count == 0 { "" } else { "," });
            text.push_str(&one);
            count += 1;
        }
        last = Some(digest);
    }
    text.push_str(&end);
    Ok((text.into(), last.filter(|_| more)))
}

#[cfg(test)]
#[path = "referrers_tests.rs"]
mod tests;
