//! Tag lists and referrers: asked of upstream once per TTL, kept in memory; when upstream cannot be asked, the last answer,
//! or what the store holds.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{PullError, PullThrough, Referrers, TagList, Trace, blobs::trace, flights::Flights, recent::Recent};
use crate::{
    oci::{Digest, ErrorCode, MAX_MANIFEST_BYTES, Namespace, OCI_INDEX, Outcome, Repository, Tag},
    storage::{LinkRecord, Storage, StorageError},
};

/// How many bytes of lists are kept.
const LISTS: usize = 32 << 20;

type Answer<T> = Result<T, PullError>;

/// What is known of lists.
pub(super) struct Lists {
    tags: Recent<Repository, Arc<Vec<Tag>>>,
    tag_flights: Flights<Repository, Answer<Arc<Vec<Tag>>>>,
    referrers: Recent<(Repository, Digest), Bytes>,
    referrer_flights: Flights<(Repository, Digest), Answer<Bytes>>,
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

    /// What refers to `subject` in `repo`.
    pub async fn referrers(self: &Arc<Self>, repo: &Repository, subject: &Digest) -> Result<Referrers, PullError> {
        let source = match self.source(repo, ErrorCode::ManifestUnknown) {
            Ok(source) => source,
            Err(_) => return Ok(Referrers { index: self.referrers_here(repo, subject).await?, trace: self.hit(repo) }),
        };
        let key = (repo.clone(), *subject);
        if let Some(index) = self.lists.referrers.within(&key, source.upstream.tag_ttl()) {
            return Ok(Referrers { index, trace: self.hit(repo) });
        }
        let started = Instant::now();
        let (this, asked, asked_key) = (Arc::clone(self), source.clone(), key.clone());
        let mut flight = self.lists.referrer_flights.join(&self.tasks, key.clone(), || async move {
            let index = asked.upstream.referrers(&asked.name, &asked_key.1).await;
            let index = index.map_err(|error| this.upstream_error(ErrorCode::ManifestUnknown, error))?;
            this.lists.referrers.put(asked_key, index.clone());
            Ok(index)
        });
        let answer = flight.landed().await.unwrap_or(Err(PullError::Lost));
        let told = |outcome| -> Trace { trace(outcome, &source.upstream, started.elapsed()) };
        match answer {
            Ok(index) => Ok(Referrers { index, trace: told(listed(flight.joined)) }),
            Err(error) if error.is_outage() => {
                let index = match self.lists.referrers.get(&key) {
                    Some((_, index)) => index,
                    None => self.referrers_here(repo, subject).await?,
                };
                Ok(Referrers { index, trace: told(Outcome::Stale) })
            }
            Err(error) => Err(error),
        }
    }

    async fn referrers_here(&self, repo: &Repository, subject: &Digest) -> Result<Bytes, PullError> {
        let (storage, at, subject) = (Arc::clone(&self.storage), repo.clone(), *subject);
        self.on_disk(move || referrers_index(&storage, storage.catalog.referrers(&at, &subject)?)).await
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

fn listed(joined: bool) -> Outcome {
    if joined { Outcome::Joined } else { Outcome::Filled }
}

/// The index of the manifests among `links` that are here, as the referrers API answers it.
fn referrers_index(storage: &Storage, links: Vec<LinkRecord>) -> Result<Bytes, StorageError> {
    let mut manifests = Vec::new();
    for link in links {
        let Some(bytes) = storage.blobs.read(&link.digest, MAX_MANIFEST_BYTES)? else { continue };
        let Ok(manifest) = serde_json::from_slice::<Value>(&bytes) else { continue };
        let mut descriptor = json!({ "mediaType": link.media_type, "digest": link.digest, "size": link.size });
        // image-spec, manifest.md: the config's media type stands in for a missing artifactType.
        let artifact_type = manifest.get("artifactType").or_else(|| manifest.pointer("/config/mediaType"));
        for (key, value) in [("artifactType", artifact_type), ("annotations", manifest.get("annotations"))] {
            if let Some(value) = value {
                descriptor[key] = value.clone();
            }
        }
        manifests.push(descriptor);
    }
    Ok(Bytes::from(json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests }).to_string()))
}
