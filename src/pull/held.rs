//! A manifest that is here, and the outcomes that requests wait for: of a fetch (`manifests`) and
//! of the check of a tag (`freshness`).

use std::sync::Arc;

use bytes::Bytes;

use super::{ManifestAnswer, PullError, Trace};
use crate::oci::{Digest, Outcome, Repository, Tag};

/// A manifest that is here.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) digest: Digest,
    pub(super) media_type: Arc<str>,
    pub(super) bytes: Bytes,
}

/// A manifest that was fetched.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) held: Held,
    /// Whether it could be stored. A client gets its manifest also when the disk is full (F7).
    pub(super) stored: bool,
}

/// The outcome of a fetch, and its repository: another repository must ask for itself (S5).
pub(super) type FetchResult = (Repository, Result<Fetched, PullError>);

/// A tag of a repository.
pub(super) type TagKey = (Repository, Tag);

/// The outcome of a check.
#[derive(Clone, Debug)]
pub(super) enum Checked {
    /// The tag still names the manifest that is here.
    Unmoved(Held),
    /// It names another manifest now, which is here already.
    Moved(Held),
    /// It names a manifest that had to be fetched.
    Fetched(Fetched),
    /// Upstream gave another answer, or none.
    Failed(PullError),
}

impl Fetched {
    /// The outcome word for a request that began the fetch, or `joined` it.
    pub(super) fn outcome(&self, joined: bool) -> Outcome {
        match (self.stored, joined) {
            (false, _) => Outcome::Bypassed,
            (true, true) => Outcome::Joined,
            (true, false) => Outcome::Filled,
        }
    }
}

/// The answer that gives this manifest.
pub(super) fn answer(held: Held, trace: Trace) -> ManifestAnswer {
    ManifestAnswer { bytes: held.bytes, media_type: held.media_type, digest: held.digest, frozen: None, trace }
}
