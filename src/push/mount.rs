//! Mounting: a blob that another repository holds becomes this one's too, without being sent (distribution-spec, "Mounting a
//! blob from another repository").

use std::sync::Arc;

use super::{MayPull, Push, PushError};
use crate::oci::{Digest, Repository};

impl Push {
    /// Links `digest` to `repo` if the blob is here and `from` holds it; without `from`, if any repository does. Only
    /// repositories that the client may pull count: hosted ones, and those of upstreams. False: nothing happened, and the
    /// client is to upload.
    pub async fn mount(
        self: &Arc<Self>,
        repo: &Repository,
        digest: Digest,
        from: Option<Repository>,
        may_pull: MayPull,
    ) -> Result<bool, PushError> {
        let (this, repo) = (Arc::clone(self), repo.clone());
        self.to_the_end(async move {
            let found = this
                .on_disk(move |storage| {
                    // First of all: from here on collection leaves the content alone.
                    storage.leases.touch(&digest);
                    let Some(size) = storage.blobs.size(&digest)? else { return Ok(None) };
                    let allowed = match &from {
                        Some(from) => may_pull(from) && storage.catalog.link(from, &digest)?.is_some(),
                        None => storage.catalog.holders(&digest)?.iter().any(|holder| may_pull(holder)),
                    };
                    Ok(allowed.then_some(size))
                })
                .await?;
            let Some(size) = found else { return Ok(false) };
            this.link_blob(&repo, digest, size).await?;
            tracing::info!(repo = %repo, %digest, bytes = size, "blob mounted");
            Ok(true)
        })
        .await
    }
}
