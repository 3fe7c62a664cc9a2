//! Manifests by digest: from memory, from the store, or fetched once for all requests that wait.
//!
//! `elsewhere` calls `find_manifest` for each manifest that a client asks for. A repository gives
//! out only a manifest that it holds, or that its own upstream says it has (S5, S23).

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use super::{
    LARGE_MANIFEST, ManifestAnswer, PullError, PullThrough,
    answer::trace,
    fill::UpstreamRepository,
    held::{FetchResult, Fetched, Held, answer},
    memory::Missed,
    records::{self, no_room},
};
use crate::{
    oci::{
        Accept, DOCKER_IMAGE, DOCKER_LIST, Digest, ErrorCode, Manifest, OCI_IMAGE, OCI_INDEX, Outcome, Reference,
        Repository, Tag, is_index,
    },
    storage::{Change, CommitError, IfLinked, LinkRecord, LinkRight, StorageError},
    upstream::{FetchedManifest, Spend, UpstreamError},
};

/// The state of a manifest in a repository.
enum Look {
    Held(Held),
    /// The bytes are here, perhaps by way of another repository: whether this one holds them is not
    /// known.
    Foreign(Bytes),
    Absent,
}

impl PullThrough {
    /// A manifest by tag or digest, if it is here or upstream has it.
    pub(super) async fn find_manifest(
        self: &Arc<Self>,
        repo: &Repository,
        reference: &Reference,
        accept: &Accept<'_>,
    ) -> Result<ManifestAnswer, PullError> {
        match reference {
            Reference::Digest(digest) => self.by_digest(repo, digest).await,
            Reference::Tag(tag) => {
                let answer = self.by_tag(repo, tag).await?;
                let frozen = answer.frozen.clone();
                Ok(ManifestAnswer { frozen, ..self.negotiate(repo, answer, accept).await? })
            }
        }
    }

    pub(super) async fn by_digest(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
    ) -> Result<ManifestAnswer, PullError> {
        let (version, reference) = (self.storage.version(repo), Reference::Digest(*digest));
        if let Some(held) = self.warm_manifests.get(version, repo, &reference) {
            return Ok(answer(held, self.hit(repo)));
        }
        // On the heap: a hit makes no room for a miss (6,408 bytes) and its error (600 bytes).
        match Box::pin(self.by_digest_uncached(repo, digest, version)).await {
            Err(error) => Err(Box::pin(self.away_if_named(repo, digest, error)).await),
            found => found,
        }
    }

    async fn by_digest_uncached(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        version: u64,
    ) -> Result<ManifestAnswer, PullError> {
        // A request that joined a fetch for another repository finds the bytes here on its second
        // look, unless that fetch failed.
        for last in [false, false, true] {
            let bytes = match self.look(repo, digest).await? {
                Look::Held(held) => {
                    self.keep_warm(version, repo, &Reference::Digest(*digest), &held);
                    return Ok(answer(held, self.hit(repo)));
                }
                Look::Foreign(bytes) => Some(bytes),
                Look::Absent => None,
            };
            let source = self.source(repo, ErrorCode::ManifestUnknown)?;
            self.negative.check(repo, Missed::Manifest((*digest).into()))?;
            let started = Instant::now();
            if let Some(bytes) = bytes {
                return self.adopt(repo, &source, *digest, bytes, started).await;
            }
            let this = Arc::clone(self);
            let (asked, wanted, digest) = (source.clone(), repo.clone(), *digest);
            let mut flight = self.manifest_flights.join(&self.tasks, digest, || this.fetch_once(asked, wanted, digest));
            let (whose, fetched) = flight.result().await.map_err(|_| PullError::Lost)?;
            let fetched = match fetched {
                fetched if whose == *repo => fetched?,
                // The bytes are verified. Whether this repository has them is still to be asked.
                Ok(fetched) => return self.adopt(repo, &source, digest, fetched.held.bytes, started).await,
                Err(_) if last => {
                    let fetch = self.clone().fetch(source.clone(), repo.clone(), digest.into(), None, Spend::Needed);
                    self.tasks.run_detached(fetch).await.ok_or(PullError::Lost)??
                }
                Err(_) => continue,
            };
            let outcome = fetched.outcome(flight.joined);
            return Ok(answer(fetched.held, trace(outcome, &source.upstream, started.elapsed())));
        }
        Err(PullError::Lost)
    }

    /// One fetch for all requests that wait. Another one may have ended between a request's look
    /// and this fetch.
    async fn fetch_once(self: Arc<Self>, source: UpstreamRepository, repo: Repository, digest: Digest) -> FetchResult {
        let fetched = match self.look(&repo, &digest).await {
            Ok(Look::Held(held)) => Ok(Fetched { held, stored: true }),
            Ok(Look::Foreign(bytes)) => self.adopt(&repo, &source, digest, bytes, Instant::now()).await.map(
                |ManifestAnswer { bytes, media_type, digest, .. }| Fetched {
                    held: Held { digest, media_type, bytes },
                    stored: true,
                },
            ),
            Ok(Look::Absent) => self.fetch(source, repo.clone(), digest.into(), None, Spend::Needed).await,
            Err(error) => Err(error),
        };
        (repo, fetched)
    }

    /// Fetches from upstream and keeps the manifest, or remembers a refusal.
    pub(super) async fn fetch(
        self: Arc<Self>,
        source: UpstreamRepository,
        repo: Repository,
        reference: Reference,
        tag: Option<Tag>,
        spend: Spend,
    ) -> Result<Fetched, PullError> {
        match source.upstream.manifest(&source.name, &reference, spend).await {
            Ok(fetched) => {
                self.negative.forget(&repo, Missed::Manifest(reference));
                self.keep(repo, fetched, tag).await
            }
            Err(error) => {
                let error = self.upstream_error(ErrorCode::ManifestUnknown, error);
                self.negative.remember(&repo, Missed::Manifest(reference), &error);
                Err(error)
            }
        }
    }

    /// The manifest that `repo` holds under `digest`.
    pub(super) async fn held(&self, repo: &Repository, digest: &Digest) -> Result<Option<Held>, PullError> {
        match self.look(repo, digest).await? {
            Look::Held(held) => Ok(Some(held)),
            Look::Foreign(_) | Look::Absent => Ok(None),
        }
    }

    async fn look(&self, repo: &Repository, digest: &Digest) -> Result<Look, PullError> {
        let (hot, cache) = (self.hot.get(digest), self.hot.clone());
        let (known, digest) = (hot.is_some(), *digest);
        // Another request may have read them while this one waited for a thread.
        let cached = move || hot.or_else(|| cache.get(&digest));
        let (link, bytes) = self.storage.manifest(repo, &digest, cached).await?;
        let Some(bytes) = bytes else { return Ok(Look::Absent) };
        // Several requests may have read them at once: one copy stays.
        let bytes = self.hot.get(&digest).unwrap_or(bytes);
        if link.as_ref().is_some_and(|link| !is_manifest(link, &bytes)) {
            return Ok(Look::Absent);
        }
        let Some(link) = link.filter(LinkRecord::is_held) else { return Ok(Look::Foreign(bytes)) };
        if !known {
            self.keep_hot(digest, &bytes);
        }
        // Warm manifests come here once a minute (`memory/warm.rs`), so no other hit notes a use.
        self.storage.note_use(&digest);
        Ok(match link {
            link if link.media_type.is_empty() => {
                Look::Held(Held { digest, media_type: Manifest::sniff(&bytes).into(), bytes })
            }
            link => Look::Held(Held { digest, media_type: link.media_type.as_str().into(), bytes }),
        })
    }

    fn keep_hot(&self, digest: Digest, bytes: &Bytes) {
        self.hot.insert(digest, bytes.clone());
        if bytes.len() >= LARGE_MANIFEST {
            // Entries make room for it now, not with the 64th insert after it.
            self.hot.run_pending_tasks();
        }
    }

    /// Keeps what was found in this version of the repository for requests by the same name.
    pub(super) fn keep_warm(&self, version: u64, repo: &Repository, asked: &Reference, held: &Held) {
        if held.bytes.len() < LARGE_MANIFEST {
            self.warm_manifests.insert(version, repo, asked, held);
        }
    }

    /// The bytes are here. Upstream says whether this repository has them too (S5, S23), and is
    /// asked once for all requests that wait.
    async fn adopt(
        self: &Arc<Self>,
        repo: &Repository,
        source: &UpstreamRepository,
        digest: Digest,
        bytes: Bytes,
        started: Instant,
    ) -> Result<ManifestAnswer, PullError> {
        let (this, asked, key) = (Arc::clone(self), source.clone(), (repo.clone(), digest));
        let mut flight = self.adoptions.join(&self.tasks, key.clone(), || async move {
            let (repo, digest) = key;
            this.ask_to_adopt(&repo, &asked, digest, bytes).await
        });
        let held = flight.result().await.unwrap_or(Err(PullError::Lost))?;
        Ok(answer(held, trace(Outcome::Revalidated, &source.upstream, started.elapsed())))
    }

    async fn ask_to_adopt(
        &self,
        repo: &Repository,
        source: &UpstreamRepository,
        digest: Digest,
        bytes: Bytes,
    ) -> Result<Held, PullError> {
        let size = bytes.len() as u64;
        let told = source.upstream.has_manifest(&source.name, &digest, size).await.map_err(|error| {
            let error = self.upstream_error(ErrorCode::ManifestUnknown, error);
            self.negative.remember(repo, Missed::Manifest(digest.into()), &error);
            error
        })?;
        let telling = told.filter(|said| said.starts_with("application/vnd."));
        let fitting = telling.filter(|said| Manifest::parse(said, &bytes).is_ok());
        let media_type = fitting.unwrap_or_else(|| Manifest::sniff(&bytes));
        self.link(repo, records::link(digest, &media_type, bytes.len() as u64, LinkRight::Fetched)).await?;
        self.storage.note_use(&digest);
        Ok(Held { digest, media_type: media_type.into(), bytes })
    }

    /// Stores a manifest, links it and what it names, and points `tag` at it.
    pub(super) async fn keep(
        self: &Arc<Self>,
        repo: Repository,
        fetched: FetchedManifest,
        tag: Option<Tag>,
    ) -> Result<Fetched, PullError> {
        let FetchedManifest { bytes, media_type, digest } = fetched;
        let manifest = Manifest::parse(&media_type, &bytes).map_err(|error| {
            let error = UpstreamError::Untrue { message: error.to_string() };
            self.upstream_error(ErrorCode::ManifestUnknown, error)
        })?;
        let mut links = vec![records::link(digest, &media_type, bytes.len() as u64, LinkRight::Fetched)];
        links[0].subject = manifest.subject.as_ref().map(|subject| subject.digest);
        // A part with `urls` need not be here, and a registry does not check that it is: the
        // manifest is no claim to it (S2, S5).
        links.extend(
            manifest
                .parts()
                .filter(|d| d.urls.is_empty())
                .map(|d| records::link(d.digest, &d.media_type, d.size, LinkRight::Named(digest))),
        );
        let record = tag.map(|tag| records::tag(tag, digest, &media_type, bytes.len() as u64));
        let mut links = links.into_iter();
        // A link to a part that was fetched does not become one that only names it.
        let replaced = links.next().map(|link| (link, IfLinked::Replace));
        let change = Change {
            content: Some((digest, bytes.clone())),
            links: replaced.into_iter().chain(links.map(|link| (link, IfLinked::Keep))).collect(),
            tags: record.into_iter().collect(),
            ..Change::of(&repo)
        };
        let stored = match self.storage.commit(change).await {
            Ok(_) => true,
            Err(CommitError::Refused(_)) => false,
            Err(CommitError::Storage(error)) if no_room(&error) => false,
            Err(CommitError::Storage(StorageError::Lost)) => return Err(PullError::Lost),
            Err(CommitError::Storage(error)) => {
                tracing::warn!(digest = %digest, "a manifest is passed on and not kept: {error}");
                false
            }
        };
        if stored {
            self.keep_hot(digest, &bytes);
            self.storage.note_use(&digest);
            self.tend_config(&repo, &manifest);
        }
        tracing::info!(repo = %repo, digest = %digest, bytes = bytes.len(), stored, "manifest fetched");
        Ok(Fetched { held: Held { digest, media_type: media_type.into(), bytes }, stored })
    }

    /// A client that knows no indexes gets the image that Docker Hub would give it for a tag.
    async fn negotiate(
        self: &Arc<Self>,
        repo: &Repository,
        answer: ManifestAnswer,
        accept: &Accept<'_>,
    ) -> Result<ManifestAnswer, PullError> {
        if !is_index(&answer.media_type) || !accept.wants_single_image() {
            return Ok(answer);
        }
        let child = Manifest::parse(&answer.media_type, &answer.bytes)
            .ok()
            .and_then(|index| index.default_image().map(|d| (d.digest, accept.takes(&d.media_type))));
        match child {
            // On the heap: rare, and 288 bytes that other pulls do not need.
            Some((digest, true)) => Box::pin(self.by_digest(repo, &digest)).await,
            Some((_, false)) | None => Ok(answer),
        }
    }
}

/// Whether the repository holds these bytes as a manifest. It may hold them as a blob, and a config
/// is no manifest.
fn is_manifest(link: &LinkRecord, bytes: &[u8]) -> bool {
    let known = |media_type: &str| match media_type {
        OCI_INDEX | OCI_IMAGE | DOCKER_LIST | DOCKER_IMAGE => Manifest::parse(media_type, bytes).ok(),
        _ => None,
    };
    match link.right {
        LinkRight::Named(_) => known(&link.media_type).is_some(),
        // It came, or was pushed, as a blob. A client may have asked for a manifest that way.
        LinkRight::Fetched | LinkRight::Pushed if link.media_type.is_empty() => {
            known(&Manifest::sniff(bytes)).is_some_and(|m| m.manifests.is_some() || m.layers.is_some())
        }
        // A manifest, of whatever type.
        LinkRight::Fetched | LinkRight::Pushed => true,
    }
}
