//! STAND-IN for the policy room, with its signatures and an in-memory fake, so that the HTTP face can be built and tested.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use bytes::Bytes;

use crate::oci::*;

/// How an answer came about.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Word.
    pub outcome: Outcome,
    /// Who was asked.
    pub upstream: Option<UpstreamName>,
    /// How long it took.
    pub upstream_time: Duration,
}

/// A manifest.
pub struct ManifestAnswer {
    /// Exact bytes.
    pub bytes: Bytes,
    /// Type.
    pub media_type: String,
    /// Digest.
    pub digest: Digest,
    /// How.
    pub trace: Trace,
}

/// A blob.
pub struct BlobAnswer {
    /// Whole size.
    pub size: u64,
    /// 206.
    pub range: Option<ContentRange>,
    /// Bytes.
    pub body: BlobBody,
    /// How.
    pub trace: Trace,
}

/// A blob's size.
pub struct BlobHead {
    /// Whole size.
    pub size: u64,
    /// How.
    pub trace: Trace,
}

/// Tags.
pub struct TagList {
    /// Sorted bytewise.
    pub tags: Vec<Tag>,
    /// How.
    pub trace: Trace,
}

/// Referrers.
pub struct Referrers {
    /// An OCI index.
    pub index: Bytes,
    /// How.
    pub trace: Trace,
}

/// Pieces.
pub struct BlobBody(pub VecDeque<Result<Bytes, BodyError>>);

impl BlobBody {
    /// Next piece.
    pub async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        tokio::task::yield_now().await;
        self.0.pop_front()
    }
}

/// Body broke.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(pub String);

/// Pull failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PullError {
    /// Unsatisfiable.
    #[error("range")]
    Range(u64),
    /// Not there.
    #[error("missing")]
    Missing(ErrorCode),
    /// Upstream.
    #[error("upstream failed")]
    Upstream(Trace),
}

impl PullError {
    /// For clients.
    pub fn to_registry_error(&self) -> RegistryError {
        match self {
            PullError::Range(_) => RegistryError::new(ErrorCode::RangeInvalid, "no byte of the blob is in that range"),
            PullError::Missing(code) => RegistryError::new(*code, "not found"),
            PullError::Upstream(_) => {
                let mut error = RegistryError::new(ErrorCode::Unavailable, "docker.io did not answer").with_status(502);
                error.retry_after = Some(Duration::from_millis(1500));
                error
            }
        }
    }
    /// `bytes */N`.
    pub fn total(&self) -> Option<u64> {
        match self {
            PullError::Range(total) => Some(*total),
            PullError::Missing(_) | PullError::Upstream(_) => None,
        }
    }
    /// How it came to fail, where upstream was involved.
    pub fn trace(&self) -> Option<&Trace> {
        match self {
            PullError::Upstream(trace) => Some(trace),
            PullError::Missing(_) | PullError::Range(_) => None,
        }
    }
}

/// Fake.
#[derive(Default)]
pub struct PullThrough {
    /// repo:reference
    pub manifests: Mutex<HashMap<String, (String, Bytes)>>,
    /// by digest; the flag breaks the body half way
    pub blobs: Mutex<BTreeMap<Digest, (Bytes, bool)>>,
    /// repo
    pub tags: Mutex<HashMap<String, Vec<Tag>>>,
    /// any subject
    pub referrers: Mutex<Bytes>,
    /// everything fails
    pub down: Mutex<bool>,
    /// blob() calls
    pub downloads: Mutex<u32>,
}

fn hit() -> Trace {
    Trace { outcome: Outcome::Hit, upstream: "docker.io".parse().ok(), upstream_time: Duration::ZERO }
}

impl PullThrough {
    fn up(&self) -> Result<(), PullError> {
        if self.down.lock().is_ok_and(|d| *d) { Err(PullError::Upstream(hit())) } else { Ok(()) }
    }
    /// Manifest.
    pub async fn manifest(
        &self,
        repo: &Repository,
        reference: &Reference,
        _: &Accept,
    ) -> Result<ManifestAnswer, PullError> {
        self.up()?;
        let all = self.manifests.lock().map_err(|_| PullError::Range(0))?;
        let (media_type, bytes) =
            all.get(&format!("{repo}@{reference}")).cloned().ok_or(PullError::Missing(ErrorCode::ManifestUnknown))?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(&bytes);
        Ok(ManifestAnswer { digest: hasher.finish(), bytes, media_type, trace: hit() })
    }
    /// Blob.
    pub async fn blob(
        &self,
        _: &Repository,
        digest: &Digest,
        range: Option<ByteRange>,
    ) -> Result<BlobAnswer, PullError> {
        self.up()?;
        if let Ok(mut downloads) = self.downloads.lock() {
            *downloads += 1;
        }
        let all = self.blobs.lock().map_err(|_| PullError::Range(0))?;
        let (bytes, broken) = all.get(digest).cloned().ok_or(PullError::Missing(ErrorCode::BlobUnknown))?;
        let size = bytes.len() as u64;
        let range = range.map(|r| r.over(size)).transpose().map_err(|u| PullError::Range(u.total))?;
        let bytes = match range {
            Some(r) => bytes.slice(r.first as usize..=r.last as usize),
            None => bytes,
        };
        let mut pieces: VecDeque<_> = bytes.chunks(64 << 10).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        if broken {
            pieces.truncate(pieces.len() / 2);
            pieces.push_back(Err(BodyError("docker.io broke off".into())));
        }
        Ok(BlobAnswer { size, range, body: BlobBody(pieces), trace: hit() })
    }
    /// HEAD.
    pub async fn blob_size(&self, _: &Repository, digest: &Digest) -> Result<BlobHead, PullError> {
        self.up()?;
        let all = self.blobs.lock().map_err(|_| PullError::Range(0))?;
        let size = all.get(digest).ok_or(PullError::Missing(ErrorCode::BlobUnknown))?.0.len() as u64;
        Ok(BlobHead { size, trace: hit() })
    }
    /// Tags.
    pub async fn tags(&self, repo: &Repository) -> Result<TagList, PullError> {
        self.up()?;
        let all = self.tags.lock().map_err(|_| PullError::Range(0))?;
        let tags = all.get(&repo.to_string()).cloned().ok_or(PullError::Missing(ErrorCode::NameUnknown))?;
        Ok(TagList { tags, trace: hit() })
    }
    /// Referrers.
    pub async fn referrers(&self, _: &Repository, _: &Digest) -> Result<Referrers, PullError> {
        self.up()?;
        let index = self.referrers.lock().map_err(|_| PullError::Range(0))?.clone();
        Ok(Referrers { index, trace: hit() })
    }
}

#[cfg(test)]
mod tests;
