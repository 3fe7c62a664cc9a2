//! The push: how content gets into hosted repositories, and out of them again (DESIGN.md sections 2 and 3).
//!
//! ```text
//! http ──► Push::begin ─► Push::open ─► Writing ──pieces──► a task that owns the upload: disk threads hash and write
//!                                          └─ finish ─► proven ─► blob ─► linked to the repository ─► 201
//! http ──► Push::mount ─► a repository that links the blob, and that the client may pull ─► linked here too
//! http ──► Push::put_manifest ─► understood ─► every part is here ─► content ─► links ─► tags ─► 201
//! http ──► Push::delete_tag, delete_manifest, delete_blob
//! ```
//!
//! Promises:
//! - Success is told after the commit protocol: content, links and tags are durable, in this order.
//! - Everything that commits runs on a task of [`Tasks`]: a client that leaves neither cancels nor halves it.
//! - An upload that breaks off keeps what came, and goes on where it ended, also after a restart (`writing.rs`).
//! - Only hosted repositories change. What another repository holds becomes a repository's own only where the client may pull
//!   it there ([`MayPull`]); a digest that a client happens to know gives it nothing (S5).
//! - A part is held ([`Hold`](crate::storage::Hold)) before it is counted as here, so that it is not collected while the
//!   manifest that needs it is on its way.
//! - Manifests, tags and deletions of one repository happen one after the other.
//!
//! Called by [`crate::http`] only.

mod catalog;
mod delete;
mod error;
mod manifests;
mod mount;
mod names;
mod references;
mod sessions;
mod single;
mod uploads;
mod writing;

use std::{
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

pub use error::PushError;
pub use manifests::{Put, PutManifest};
use sessions::Sessions;
pub use single::Single;
use tokio::sync::{Mutex, OwnedMutexGuard};
pub use writing::Writing;

/// The name of an upload.
pub use crate::storage::UploadId;

use crate::{
    config::Hosted,
    names::Names,
    oci::{Digest, Repository, Tag},
    pull::PullThrough,
    runtime::{BlockingPool, Tasks, clock},
    storage::{Change, IfLinked, LinkRecord, LinkRight, Storage},
};

/// Whether the client that asks may pull from a repository.
pub type MayPull = Arc<dyn Fn(&Repository) -> bool + Send + Sync>;

/// Locks that the repositories share by hash.
const TURNS: usize = 64;

/// What the push is built from.
pub struct Deps {
    /// The disk.
    pub storage: Arc<Storage>,
    /// Threads to hash and parse on.
    pub disk: BlockingPool,
    /// For parts that a client saw in the mirror and did not upload.
    pub pull: Arc<PullThrough>,
    /// Which repository a name means.
    pub names: Arc<Names>,
    /// The owner of what goes on without a client.
    pub tasks: Tasks,
}

/// Everything a push needs. One per process, shared by all workers.
pub struct Push {
    storage: Arc<Storage>,
    disk: BlockingPool,
    pull: Arc<PullThrough>,
    names: Arc<Names>,
    tasks: Tasks,
    /// What the operator said.
    rules: Hosted,
    sessions: Sessions,
    turns: Vec<Arc<Mutex<()>>>,
}

impl Push {
    /// Puts the push together.
    pub fn new(rules: Hosted, deps: Deps) -> Arc<Push> {
        let Deps { storage, disk, pull, names, tasks } = deps;
        let turns = (0..TURNS).map(|_| Arc::default()).collect();
        let sessions = Sessions::new(rules.uploads_per_user, rules.uploads);
        Arc::new(Push { storage, disk, pull, names, tasks, rules, sessions, turns })
    }

    /// Runs `work` to its end, also when the caller is dropped.
    async fn run_detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, PushError>> + Send + 'static,
    ) -> Result<T, PushError> {
        self.tasks.run_detached(work).await.ok_or(PushError::Lost)?
    }

    /// The lock of a repository, for a change that looks first: a deletion may not meet a push that
    /// comes to need what it deletes. Not to be taken twice by one task.
    async fn lock_repository(&self, repo: &Repository) -> OwnedMutexGuard<()> {
        let mut hasher = DefaultHasher::new();
        repo.hash(&mut hasher);
        let at = (hasher.finish() % TURNS as u64) as usize;
        Arc::clone(&self.turns[at]).lock_owned().await
    }

    /// Whether the tag, once there, neither moves nor goes.
    fn immutable(&self, repo: &Repository, tag: &Tag) -> bool {
        self.rules.immutable_tags.iter().any(|pattern| pattern.matches(&repo.name, tag))
    }

    /// Makes `repo` hold a blob. A link that is there stays and is synced again: its writer may have
    /// failed, or died, before it was durable.
    async fn link_blob(&self, repo: &Repository, digest: Digest, size: u64) -> Result<(), PushError> {
        let change = Change::link(repo, pushed(digest, "", size, None), IfLinked::Confirm);
        self.storage.commit(change).await?;
        Ok(())
    }
}

/// That a repository holds what a client pushed or mounted, from now on.
fn pushed(digest: Digest, media_type: &str, size: u64, subject: Option<Digest>) -> LinkRecord {
    LinkRecord {
        digest,
        media_type: media_type.to_owned(),
        size,
        subject,
        right: LinkRight::Pushed,
        created: clock::now(),
    }
}
