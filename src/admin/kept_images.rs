//! Which images of a repository stay whatever room is needed, and what its tags named before: for
//! the reasons that `ls` tells. `images.rs` and `digests.rs` ask.

use std::collections::HashSet;

use super::{Admin, RetentionError, why::Why};
use crate::{
    oci::{Digest, Reference, Repository, Tag},
    retention::Reason,
    storage::Unsure,
};

/// The images of one repository that stay.
pub(super) struct KeptImages(Vec<(Reference, Reason)>);

impl KeptImages {
    /// Why an image stays; `None`: nothing keeps it for its own sake.
    pub(super) fn why(&self, tag: Option<&Tag>, digest: &Digest) -> Option<Why> {
        let is_it = |reference: &Reference| match reference {
            Reference::Tag(kept) => Some(kept) == tag,
            Reference::Digest(kept) => kept == digest,
        };
        self.0.iter().find(|(reference, _)| is_it(reference)).map(|(_, reason)| match reason {
            // A rule that keeps the last digests of a tag keeps them as pins do.
            Reason::Pinned | Reason::Pattern(_) | Reason::Last | Reason::Untold(_) => Why::Pinned,
            Reason::Frozen => Why::Frozen,
        })
    }
}

impl Admin {
    /// The images of a repository that stay; none where that cannot be told.
    pub(super) async fn kept_images(&self, repository: &Repository) -> Result<KeptImages, RetentionError> {
        match self.kept.reasons(repository).await {
            Ok(reasons) => Ok(KeptImages(reasons)),
            Err(Unsure::Storage(error)) => Err(error.into()),
            Err(_) => Ok(KeptImages(Vec::new())),
        }
    }

    /// What the repository's tags named before.
    pub(super) async fn past_digests(&self, repository: &Repository) -> Result<HashSet<Digest>, RetentionError> {
        let histories = self.storage.tag_histories(repository).await?;
        Ok(histories.iter().flat_map(|seen| seen.last(usize::MAX)).collect())
    }
}
