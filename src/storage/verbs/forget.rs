//! Forget: names of a mirrored repository go, with what only they kept known; and what would go.
//!
//! Callers: the retention, for an operator and for names that no client has asked for in a long
//! time.

use crate::{
    oci::{Digest, Namespace, Repository},
    storage::{
        Eviction, Gone, KeptFor, Leaving, Removal, Respect, Storage, StorageError, Unsure,
        forget::{forget, plan},
    },
};

/// What a removal of content would do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prospect {
    /// It would free this many bytes.
    Free(u64),
    /// It is not here.
    Absent,
    /// It would stay: a client reads it, or was told that it is here.
    InUse,
    /// It would stay: a hosted repository links it, or it is a manifest, or other repositories link
    /// it.
    Linked,
}

impl Storage {
    /// Forgets images of a mirrored repository, durably: tags, then links, the manifests' last.
    /// Content stays. No commit of the repository comes between.
    ///
    /// # Errors
    /// [`Unsure`]: what other images need cannot be told, and nothing is changed; or the disk
    /// failed, and the steps before are done.
    pub async fn forget(&self, repository: &Repository, leaving: Leaving) -> Result<Gone, Unsure> {
        if repository.namespace == Namespace::Hosted {
            return Ok(Gone::default());
        }
        let turn = self.turn_to_commit(repository).await;
        let repository = repository.clone();
        self.write_with(move |files| {
            let _turn = turn;
            Ok(forget(files, &repository, &leaving))
        })
        .await?
    }

    /// Says what [`forget`](Self::forget) would do now.
    ///
    /// # Errors
    /// As there.
    pub async fn plan_to_forget(&self, repository: &Repository, leaving: Leaving) -> Result<Gone, Unsure> {
        if repository.namespace == Namespace::Hosted {
            return Ok(Gone::default());
        }
        let repository = repository.clone();
        self.read_with(move |files| Ok(plan(files, &repository, &leaving))).await?
    }

    /// Frees cached content that no repository links.
    ///
    /// # Errors
    /// The disk's.
    pub async fn free(&self, digest: &Digest) -> Result<Prospect, StorageError> {
        let wanted = *digest;
        // What somebody reads goes too, and its bytes count until nobody does.
        let leaving = self.read_with(move |files| {
            if files.disk.readers.close(&wanted) {
                return Ok(None);
            }
            Ok(files.blobs.size(&wanted)?.map(|bytes| files.disk.ledger.leaving(bytes)))
        });
        let leaving = leaving.await?;
        Ok(match self.reclaim(digest, Respect::Promises).await? {
            Removal::Removed(bytes) => match leaving {
                Some(leaving) => {
                    self.files.disk.read_to_the_end(*digest, leaving);
                    Prospect::InUse
                }
                None => Prospect::Free(bytes),
            },
            Removal::Absent => Prospect::Absent,
            Removal::Leased => Prospect::InUse,
            Removal::Held => Prospect::Linked,
        })
    }

    /// Says what [`free`](Self::free) would do, if these repositories had no link of the digest.
    ///
    /// # Errors
    /// The disk's.
    pub async fn plan_to_free(&self, digest: &Digest, without: Vec<Repository>) -> Result<Prospect, StorageError> {
        let digest = *digest;
        self.read_with(move |files| {
            let Some(bytes) = files.blobs.size(&digest)? else { return Ok(Prospect::Absent) };
            if files.leases.left(&digest, Respect::Promises).is_some() {
                return Ok(Prospect::InUse);
            }
            let holders = files.catalog.holders(&digest)?;
            let linked = holders.iter().any(|holder| !without.contains(holder));
            Ok(match linked {
                true => Prospect::Linked,
                false if files.disk.readers.is_read(&digest) => Prospect::InUse,
                false => Prospect::Free(bytes),
            })
        })
        .await
    }

    /// Says what [`evict`](Self::evict) would do.
    ///
    /// # Errors
    /// The disk's.
    pub async fn plan_to_evict(&self, digest: &Digest) -> Result<Prospect, StorageError> {
        Ok(match self.would_stay(digest).await? {
            Some(why) => Eviction::Kept(why).into(),
            None => self.size(digest).await?.map_or(Prospect::Absent, Prospect::Free),
        })
    }
}

impl From<Eviction> for Prospect {
    fn from(eviction: Eviction) -> Self {
        match eviction {
            Eviction::Evicted(bytes) => Prospect::Free(bytes),
            Eviction::Kept(KeptFor::Absent) => Prospect::Absent,
            Eviction::Kept(KeptFor::Reader | KeptFor::Held | KeptFor::Promise(_)) => Prospect::InUse,
            Eviction::Kept(KeptFor::Hosted | KeptFor::Manifest | KeptFor::Unlinked | KeptFor::Uncounted) => {
                Prospect::Linked
            }
        }
    }
}
