//! What upstream said does not exist, for a few seconds: so that a client that asks again, and clients that all ask for the
//! same misspelt tag, cost one request. Nothing on disk is touched by it.

use super::{FillFailure, PullError, PullThrough, recent::Recent};
use crate::{
    oci::{Reference, Repository},
    upstream::UpstreamError,
};

/// The negative cache.
pub(super) struct Missing(Recent<(Repository, Reference), PullError>);

impl Missing {
    pub(super) fn new() -> Self {
        Missing(Recent::new(10_000, |_| 1))
    }
}

impl PullThrough {
    /// Fails at once with what upstream said within `negative_ttl`.
    pub(super) fn known_missing(&self, repo: &Repository, reference: impl Into<Reference>) -> Result<(), PullError> {
        match self.missing.0.within(&(repo.clone(), reference.into()), self.negative_ttl) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Remembers an answer that is one: "not found", or "not for you". Trouble is not remembered here.
    pub(super) fn remember(&self, repo: &Repository, reference: Reference, error: &PullError) {
        let answer = match error {
            PullError::Upstream { error, .. } | PullError::Fill(FillFailure::Upstream(error)) => {
                matches!(**error, UpstreamError::NotFound { .. } | UpstreamError::Denied { .. })
            }
            PullError::Unknown { .. }
            | PullError::Fill(_)
            | PullError::Storage(_)
            | PullError::Range { .. }
            | PullError::Incomplete { .. }
            | PullError::Lost => false,
        };
        if answer {
            self.missing.0.put((repo.clone(), reference), error.clone());
        }
    }

    /// It exists after all.
    pub(super) fn found(&self, repo: &Repository, reference: Reference) {
        self.missing.0.forget(&(repo.clone(), reference));
    }
}
