//! What upstream said does not exist, for a few seconds: so that a client that asks again, and clients that all ask for the
//! same misspelt tag, cost one request. Nothing on disk is touched by it.

use super::{FillFailure, PullError, PullThrough, recent::Recent};
use crate::{
    oci::{Digest, Reference, Repository},
    upstream::UpstreamError,
};

/// The negative cache.
pub(super) struct Missing(Recent<(Repository, Missed), PullError>);

/// What was asked for. A digest that is no manifest may well be a blob: containerd asks for one after the other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Missed {
    /// A manifest, by tag or digest.
    Manifest(Reference),
    /// A blob.
    Blob(Digest),
}

impl Missing {
    pub(super) fn new() -> Self {
        Missing(Recent::new(10_000, |_| 1))
    }
}

impl PullThrough {
    /// Fails at once with what upstream said within `negative_ttl`.
    pub(super) fn known_missing(&self, repo: &Repository, missed: Missed) -> Result<(), PullError> {
        match self.missing.0.within(&(repo.clone(), missed), self.negative_ttl) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Remembers an answer that is one: "not found", or "not for you". Trouble is not remembered here.
    pub(super) fn remember(&self, repo: &Repository, missed: Missed, error: &PullError) {
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
            self.missing.0.put((repo.clone(), missed), error.clone());
        }
    }

    /// It exists after all.
    pub(super) fn found(&self, repo: &Repository, missed: Missed) {
        self.missing.0.forget(&(repo.clone(), missed));
    }
}
