//! What upstream said does not exist, remembered for a few seconds.
//!
//! A client that asks again, and many clients that ask for the same misspelt tag, cost one request
//! upstream. Nothing on disk depends on it.

use std::time::Duration;

use super::{
    super::{FillFailure, PullError},
    aged::AgedCache,
};
use crate::{
    oci::{Digest, Reference, Repository},
    upstream::UpstreamError,
};

/// How many answers are remembered.
const ANSWERS: u64 = 10_000;

/// See the module.
pub(in crate::pull) struct NegativeCache {
    answers: AgedCache<(Repository, Missed), PullError>,
    ttl: Duration,
}

/// What a request asked for. A digest that is no manifest may well be a blob: containerd asks for
/// one after the other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(in crate::pull) enum Missed {
    /// A manifest, by tag or digest.
    Manifest(Reference),
    /// A blob.
    Blob(Digest),
}

impl NegativeCache {
    /// Answers count for `ttl`.
    pub(in crate::pull) fn new(ttl: Duration) -> Self {
        NegativeCache { answers: AgedCache::new(ANSWERS, |_| 1), ttl }
    }

    /// Fails with what upstream answered within the last `ttl`, if that was a refusal.
    pub(in crate::pull) fn check(&self, repo: &Repository, missed: Missed) -> Result<(), PullError> {
        match self.answers.within(&(repo.clone(), missed), self.ttl) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Remembers `error` if it is an answer of upstream: "not found", or "not for you". An outage
    /// is none.
    pub(in crate::pull) fn remember(&self, repo: &Repository, missed: Missed, error: &PullError) {
        let answer = match error {
            PullError::Upstream { error, .. } | PullError::Fill(FillFailure::Upstream(error)) => {
                matches!(**error, UpstreamError::NotFound { .. } | UpstreamError::Denied { .. })
            }
            PullError::Unknown { .. }
            | PullError::Fill(_)
            | PullError::Storage(_)
            | PullError::Range { .. }
            | PullError::Away { .. }
            | PullError::Lost => false,
        };
        if answer {
            self.answers.put((repo.clone(), missed), error.clone());
        }
    }

    /// Forgets what upstream answered: the content exists.
    pub(in crate::pull) fn forget(&self, repo: &Repository, missed: Missed) {
        self.answers.forget(&(repo.clone(), missed));
    }
}
