//! Configs that no client fetched: they are fetched in the background, so that an image stays whole
//! without upstream.
//!
//! A client that has an image's config already, or needs only its layers (oras, cosign), never asks
//! for it. The next client does, perhaps when the internet is gone. Promises: a config's fetch
//! begins after [`LATER`], so that a client that wants it begins the download itself; at most
//! [`CONFIGS`](super::CONFIGS) are waited for, and the others are left to clients; no request waits
//! for this. Called by `manifests`, after an image manifest has been stored.

use std::{sync::Arc, time::Duration};

use super::PullThrough;
use crate::{
    oci::{MAX_MANIFEST_BYTES, Manifest, Repository},
    upstream::Health,
};

/// How long clients have to ask for a config themselves.
const LATER: Duration = Duration::from_secs(3);

impl PullThrough {
    /// Has the config of this manifest of `repo` fetched soon. A config that is larger than a
    /// manifest may be is left to clients.
    pub(super) fn tend_config(self: &Arc<Self>, repo: &Repository, manifest: &Manifest) {
        let small = |size| size <= MAX_MANIFEST_BYTES as u64;
        let Some(config) = manifest.config.as_ref().filter(|config| config.urls.is_empty() && small(config.size))
        else {
            return;
        };
        let Ok(permit) = Arc::clone(&self.configs).try_acquire_owned() else { return };
        let (this, repo, digest) = (Arc::clone(self), repo.clone(), config.digest);
        self.tasks.spawn(async move {
            let stop = this.tasks.stopping();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LATER) => {}
            }
            if this.upstream_of(&repo).is_some_and(|upstream| upstream.health() == Health::Good)
                && let Err(error) = this.stored_blob(&repo, &digest).await
            {
                tracing::debug!(repo = %repo, %digest, "a config is left to clients: {error}");
            }
            drop(permit);
        });
    }
}
