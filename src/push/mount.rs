//! Mounting (distribution-spec, "Mounting a blob from another repository").
//!
//! A blob that another repository holds is linked to this one too, and the client does not send it.
//! Only repositories that the client may pull count. A failed mount leaves no lease and tells the
//! client nothing about the disk (S5). Called by http.

use std::sync::Arc;

use super::{MayPull, Push, PushError};
use crate::{
    oci::{Digest, Repository},
    storage::{Storage, StorageError},
};

impl Push {
    /// Links `digest` to `repo` if the blob is on disk and `from` holds it. Without `from`, any
    /// repository that holds it will do. Only repositories that the client may pull count, hosted
    /// and mirrored. False: nothing happened, and the client must upload the blob.
    pub async fn mount(
        self: &Arc<Self>,
        repo: &Repository,
        digest: Digest,
        from: Option<Repository>,
        may_pull: MayPull,
    ) -> Result<bool, PushError> {
        let (this, repo) = (Arc::clone(self), repo.clone());
        self.run_detached(async move {
            let found = mountable(&this.storage, &digest, from.as_ref(), &may_pull).await?;
            let Some(size) = found else { return Ok(false) };
            this.link_blob(&repo, digest, size).await?;
            tracing::info!(repo = %repo, %digest, bytes = size, "blob mounted");
            Ok(true)
        })
        .await
    }
}

/// The size of the blob if it may be mounted; the blob is then kept for the grace.
async fn mountable(
    storage: &Storage,
    digest: &Digest,
    from: Option<&Repository>,
    may_pull: &MayPull,
) -> Result<Option<u64>, StorageError> {
    // The permission is asked in any case: the time of the answer must not tell whether the blob is
    // here (S5). A repository that only names the blob does not hold it (S23).
    let allowed = match from {
        Some(from) => may_pull(from) && storage.link(from, digest).await?.is_some_and(|link| link.is_held()),
        None => {
            let holders = storage.holders(digest).await?;
            let allowed: Vec<_> = holders.iter().filter(|holder| may_pull(&holder.repository)).collect();
            allowed.iter().any(|holder| holder.held)
        }
    };
    if allowed { storage.keep(digest).await } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        oci::{Algorithm, Hasher, Namespace},
        push::pushed,
        storage::{LinkRecord, LinkRight, testing::Folder},
    };

    fn digest(bytes: &[u8]) -> Digest {
        Hasher::digest(Algorithm::Sha256, bytes)
    }

    fn repo(name: &str) -> Repository {
        Repository { namespace: Namespace::Hosted, name: name.parse().unwrap() }
    }

    #[test]
    fn a_digest_that_is_not_here_costs_the_same_questions_and_leaves_no_lease() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Folder::open(dir.path());
        let (here, named, nowhere) = (digest(b"here"), digest(b"named"), digest(b"nowhere"));
        storage.blobs.put(&here, b"here").unwrap();
        let fetched = LinkRecord { right: LinkRight::Fetched, ..pushed(named, "", 5, None) };
        storage.catalog.put_links(&repo("a"), &[pushed(here, "", 4, None), fetched]).unwrap();
        // The rest of the test fits into this grace. The leases from before have run out first.
        storage.leases.set_grace(Duration::from_secs(2));
        let began = Instant::now();
        while storage.leases.protects(&here) || storage.leases.protects(&nowhere) {
            assert!(began.elapsed() < Duration::from_secs(20), "leases do not run out");
            std::thread::sleep(Duration::from_millis(2));
        }
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let may_pull: MayPull = Arc::new(move |repo| {
            noted.lock().unwrap().push(repo.name.to_string());
            true
        });
        let look = |digest, from: Option<&str>| {
            let from = from.map(repo);
            let found = mountable(&storage.storage, digest, from.as_ref(), &may_pull);
            let found = storage.runtime.block_on(found).unwrap();
            (found, std::mem::take(&mut *asked.lock().unwrap()))
        };
        for from in [None, Some("a")] {
            assert_eq!(
                look(&named, from),
                (None, vec!["a".to_owned()]),
                "the permission is asked whether or not the blob is here"
            );
            assert_eq!(look(&nowhere, from).0, None);
            for missing in [&named, &nowhere] {
                assert!(!storage.leases.protects(missing), "a failed mount leaves no lease");
            }
        }
        assert_eq!(look(&here, Some("b")), (None, vec!["b".to_owned()]));
        assert_eq!(look(&here, None), (Some(4), vec!["a".to_owned()]));
        assert!(storage.leases.protects(&here), "a mounted blob is kept");
    }
}
