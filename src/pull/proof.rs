//! Whether a repository may give out a blob that is on disk, perhaps by way of another repository
//! (S5, S23). The repository's link, its record of the digest, decides:
//!
//! | the link | the repository's upstream | then |
//! |---|---|---|
//! | held: fetched or pushed | is not asked | the blob is given out |
//! | only named by a manifest, or none | has the blob | the same; the link is held from now on |
//! | the same | refuses | its error is the answer |
//! | only named by a manifest | cannot be reached | 503 with the reason ([`PullThrough::away`]) |
//!
//! In the last case `http` asks [`PullThrough::holder`] for another repository that holds the blob
//! and that the client may pull. A manifest may name any digest, so a name is no permission.
//! Callers: `blobs`, `manifests`, `stored`, `http`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    PullError, PullThrough, Trace,
    answer::trace,
    fill::{FillFailure, Origin, UpstreamRepository},
    memory::Missed,
    records,
};
use crate::{
    config::Mode,
    oci::{Digest, ErrorCode, Hasher, Namespace, Outcome, Repository},
    storage::{Finder, Found, LinkRecord, LinkRight, StoredBlob},
    upstream::UpstreamError,
};

/// How often a registry may state a wrong length of a digest.
const WRONG_WORDS: u32 = 10;
/// How long it is not believed after that.
const WRONG_FOR: Duration = Duration::from_secs(3600);

/// How an upstream is asked for a blob's length.
#[derive(Clone, Copy)]
enum Question {
    Head,
    Byte,
}

impl PullThrough {
    /// Whether this repository may give out a blob that is on disk: it holds the digest, or its
    /// upstream says that it has it (S5). A manifest here that names it is not enough (S23). The
    /// upstream is asked once, and its answer is remembered.
    pub(super) async fn permission(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        found: &Found,
        stored: &StoredBlob,
    ) -> Result<Trace, PullError> {
        if found.is_held() {
            return Ok(self.hit(repo));
        }
        // Its own fill has brought the blob, and is about to write the link.
        if self
            .source(repo, ErrorCode::BlobUnknown)
            .is_ok_and(|source| self.fills.vouches(digest, &Origin::from(&source)))
        {
            return Ok(self.hit(repo));
        }
        let named = found.link.as_ref();
        self.proof(repo, digest, stored).await.map_err(|error| self.away(repo, digest, named, error))
    }

    /// Asks the upstream whether the repository has the blob that is on disk, once for all requests
    /// that wait.
    async fn proof(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        stored: &StoredBlob,
    ) -> Result<Trace, PullError> {
        let source = self.source(repo, ErrorCode::BlobUnknown)?;
        self.negative.check(repo, Missed::Blob(*digest))?;
        let started = Instant::now();
        let (this, asked, key, size) = (Arc::clone(self), source.clone(), (repo.clone(), *digest), stored.size);
        let mut flight = self.proofs.join(&self.tasks, key.clone(), || async move {
            let (repo, digest) = key;
            this.prove(&asked, &repo, &digest, size).await
        });
        flight.result().await.unwrap_or(Err(PullError::Lost))?;
        Ok(trace(Outcome::Revalidated, &source.upstream, started.elapsed()))
    }

    async fn prove(
        self: &Arc<Self>,
        source: &UpstreamRepository,
        repo: &Repository,
        digest: &Digest,
        stored: u64,
    ) -> Result<(), PullError> {
        let link = self.storage.link(repo, digest).await?;
        if link.is_some_and(|link| link.is_held()) {
            // The flight before this one has asked.
            return Ok(());
        }
        match self.agree(source, repo, digest, stored).await {
            Err(_) if self.is_distrusted(source, digest) && self.sends(source, digest, stored).await? => {
                self.wrong_words.forget(&(source.upstream.name().clone(), *digest));
            }
            Err(PullError::Upstream { error, .. })
                if matches!(*error, UpstreamError::Untrue { .. }) && !self.is_sound(digest).await? =>
            {
                // It is not here any more: look again.
                return Err(PullError::Fill(FillFailure::Abandoned));
            }
            agreed => agreed?,
        }
        self.link(repo, records::link(*digest, "", stored, LinkRight::Fetched)).await
    }

    /// A repository that the client may pull, and that holds the digest: where `repo` only names
    /// it, and its own upstream cannot be asked, the client can have the same bytes there.
    pub async fn holder(
        &self,
        repo: &Repository,
        digest: &Digest,
        may_pull: impl Fn(&Repository) -> bool + Send + 'static,
    ) -> Result<Option<Repository>, PullError> {
        if self.storage.link(repo, digest).await?.is_none() || self.storage.size(digest).await?.is_none() {
            return Ok(None);
        }
        let holders = self.storage.holders(digest).await?.into_iter();
        Ok(holders.filter(|holder| holder.held).map(|holder| holder.repository).find(may_pull))
    }

    /// [`away`](Self::away), with the link looked up.
    pub(super) async fn away_if_named(&self, repo: &Repository, digest: &Digest, error: PullError) -> PullError {
        match self.storage.link(repo, digest).await {
            Ok(named) => self.away(repo, digest, named.as_ref(), error),
            Err(_) => error,
        }
    }

    /// The error for a part that a manifest here names, that is not here, and that cannot be
    /// fetched now. Other errors stay as they are.
    pub(super) fn away(
        &self,
        repo: &Repository,
        digest: &Digest,
        named: Option<&LinkRecord>,
        error: PullError,
    ) -> PullError {
        let why = match &error {
            _ if named.is_none() => return error,
            PullError::Unknown { .. } if self.mode == Mode::Offline && repo.namespace != Namespace::Hosted => {
                "lanyard is offline (mode = \"offline\")".to_owned()
            }
            PullError::Upstream { error, .. } | PullError::Fill(FillFailure::Upstream(error)) if is_down(error) => {
                error.to_string()
            }
            PullError::Unknown { .. }
            | PullError::Upstream { .. }
            | PullError::Fill(_)
            | PullError::Storage(_)
            | PullError::Range { .. }
            | PullError::Away { .. }
            | PullError::Lost => return error,
        };
        PullError::Away { message: format!("{digest} of {repo} is not here, and {why}") }
    }

    async fn is_sound(&self, digest: &Digest) -> Result<bool, PullError> {
        Ok(self.storage.prove(digest, Finder::Read).await?.is_some())
    }

    /// Whether the registry was wrong about the digest so often that its answers do not count.
    fn is_distrusted(&self, source: &UpstreamRepository, digest: &Digest) -> bool {
        let key = (source.upstream.name().clone(), *digest);
        self.wrong_words.within(&key, WRONG_FOR).is_some_and(|wrong| wrong >= WRONG_WORDS)
    }

    /// Whether the repository's upstream sends the whole blob: that proves more than an answer.
    async fn sends(&self, source: &UpstreamRepository, digest: &Digest, length: u64) -> Result<bool, PullError> {
        let failed = |error| self.upstream_error(ErrorCode::BlobUnknown, error);
        let mut answer = source.upstream.blob(&source.name, digest, 0, None).await.map_err(failed)?;
        let (mut hasher, mut came) = (Hasher::new(digest.algorithm()), 0);
        while let Some(piece) = answer.body.chunk().await {
            let piece = piece.map_err(|error| failed(error.into()))?;
            came += piece.len() as u64;
            if came > length {
                return Ok(false);
            }
            hasher.update(&piece);
        }
        Ok(hasher.finish() == *digest)
    }

    /// Makes sure that the upstream states the true length, and so has the blob. A HEAD that is
    /// refused or states another length does not count, because a login page says yes to
    /// everything: then the answer to a GET of one byte must state it. A registry that was wrong
    /// about a digest [`WRONG_WORDS`] times is not believed for an hour, because it might guess one
    /// length after the other. Then a stored blob is given out once the registry has sent all of
    /// it.
    pub(super) async fn agree(
        self: &Arc<Self>,
        source: &UpstreamRepository,
        repo: &Repository,
        digest: &Digest,
        length: u64,
    ) -> Result<(), PullError> {
        if !self.is_distrusted(source, digest) {
            let key = (source.upstream.name().clone(), *digest);
            let wrong = self.wrong_words.within(&key, WRONG_FOR).unwrap_or(0);
            let by_head = self.ask_blob(source, repo, digest).await?;
            if by_head == Some(length) {
                return Ok(());
            }
            // Counted before it is asked again: that may fail.
            self.wrong_words.put(key.clone(), wrong + u32::from(by_head.is_some()));
            let by_a_byte = self.ask_a_byte(source, repo, digest).await?;
            if by_a_byte == Some(length) {
                self.wrong_words.forget(&key);
                return Ok(());
            }
            self.wrong_words.put(key, wrong + u32::from(by_head.or(by_a_byte).is_some()));
        }
        let message = "the answer is not about the blob asked for".into();
        Err(self.upstream_error(ErrorCode::BlobUnknown, UpstreamError::Untrue { message }))
    }

    /// Asks the repository's upstream whether it has the blob, once for all requests that wait;
    /// gives its length, if stated.
    pub(super) async fn ask_blob(
        self: &Arc<Self>,
        source: &UpstreamRepository,
        repo: &Repository,
        digest: &Digest,
    ) -> Result<Option<u64>, PullError> {
        self.length_by(Question::Head, source, repo, digest).await
    }

    /// The length by a GET of one byte, for content networks whose addresses are signed for GET
    /// alone.
    pub(super) async fn ask_a_byte(
        self: &Arc<Self>,
        source: &UpstreamRepository,
        repo: &Repository,
        digest: &Digest,
    ) -> Result<Option<u64>, PullError> {
        self.length_by(Question::Byte, source, repo, digest).await
    }

    async fn length_by(
        self: &Arc<Self>,
        question: Question,
        source: &UpstreamRepository,
        repo: &Repository,
        digest: &Digest,
    ) -> Result<Option<u64>, PullError> {
        let flights = match question {
            Question::Head => &self.blob_flights,
            Question::Byte => &self.blob_bytes,
        };
        let (this, source, key) = (Arc::clone(self), source.clone(), (repo.clone(), *digest));
        let mut flight = flights.join(&self.tasks, key.clone(), || async move {
            let (repo, digest) = key;
            let asked = match question {
                Question::Head => source.upstream.head_blob(&source.name, &digest).await,
                Question::Byte => source.upstream.blob_size_by_a_byte(&source.name, &digest).await,
            };
            asked.map_err(|error| this.blob_error(&repo, digest, error))
        });
        flight.result().await.unwrap_or(Err(PullError::Lost))
    }

    /// The error of an upstream's answer about a blob. A refusal is remembered.
    fn blob_error(&self, repo: &Repository, digest: Digest, error: UpstreamError) -> PullError {
        let error = self.upstream_error(ErrorCode::BlobUnknown, error);
        self.negative.remember(repo, Missed::Blob(digest), &error);
        error
    }
}

/// Whether the upstream could not be asked. A spent quota is not one of these: it is told with its
/// time.
fn is_down(error: &UpstreamError) -> bool {
    error.is_outage() && !matches!(error, UpstreamError::RateLimited { .. })
}
