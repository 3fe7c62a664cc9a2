//! Push: content gets into hosted repositories, and out of them again (DESIGN.md sections 2 and 3).
//!
//! Called by [`crate::http`] only. The ways in and out:
//!
//! ```text
//! begin ─► open ─► UploadWriter ─pieces─► the task that owns the upload, storage hashes and writes
//!                    └─ finish ─► digest proven ─► blob ─► linked to the repository ─► 201
//! mount ─► the client may pull a repository that holds the blob ─► linked to this one too ─► 201
//! push_manifest ─► understood ─► every part is held ─► content ─► links ─► tags ─► 201
//! delete_tag, delete_manifest, delete_blob ─► unlinked ─► 202
//! ```
//!
//! Promises:
//! - Success is answered after the commit: content, links and tags are durable, in this order.
//! - Every commit runs on a task of [`Tasks`]. A client that leaves does not cancel it.
//! - An upload that breaks off keeps the bytes that came and goes on there, also after a restart
//!   (`writer.rs`).
//! - Only hosted repositories change. Content of another repository becomes this one's only where
//!   the client may pull it there ([`MayPull`]); knowing a digest is not enough (S5).
//! - A part is held ([`Hold`](crate::storage::Hold)) before it is looked for. The collector does
//!   not remove it before the manifest that needs it is committed.
//! - Manifests, tags and deletions of one repository happen one after the other.

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
mod writer;

use std::{
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

pub use error::PushError;
pub use manifests::{ManifestPush, PushedManifest};
use sessions::Sessions;
pub use single::SingleUpload;
use tokio::sync::{Mutex, OwnedMutexGuard};
pub use writer::UploadWriter;

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

/// Says whether the client of this request may pull from a repository.
pub type MayPull = Arc<dyn Fn(&Repository) -> bool + Send + Sync>;

/// The repositories share this many locks, by hash.
const LOCKS: usize = 64;

/// The rooms that the push is built on.
pub struct Deps {
    /// The data folder.
    pub storage: Arc<Storage>,
    /// Threads for hashing and parsing manifests.
    pub disk: BlockingPool,
    /// Fetches the parts that a client saw in the mirror and did not upload.
    pub pull: Arc<PullThrough>,
    /// Resolves a name to a repository.
    pub names: Arc<Names>,
    /// The owner of the tasks that outlive a request.
    pub tasks: Tasks,
}

/// All pushes, mounts and deletions. One per process, shared by all workers.
pub struct Push {
    storage: Arc<Storage>,
    disk: BlockingPool,
    pull: Arc<PullThrough>,
    names: Arc<Names>,
    tasks: Tasks,
    /// The section `[hosted]` of the configuration.
    rules: Hosted,
    sessions: Sessions,
    locks: Vec<Arc<Mutex<()>>>,
}

impl Push {
    /// Nothing runs and nothing is read before the first request.
    pub fn new(rules: Hosted, deps: Deps) -> Arc<Push> {
        let Deps { storage, disk, pull, names, tasks } = deps;
        let locks = (0..LOCKS).map(|_| Arc::default()).collect();
        let sessions = Sessions::new(rules.uploads_per_user, rules.uploads);
        Arc::new(Push { storage, disk, pull, names, tasks, rules, sessions, locks })
    }

    /// Runs `work` to its end, also when the caller is dropped.
    async fn run_detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, PushError>> + Send + 'static,
    ) -> Result<T, PushError> {
        self.tasks.run_detached(work).await.ok_or(PushError::Lost)?
    }

    /// Locks a repository for a change that looks before it writes: no push comes to need the
    /// content that a deletion is about to remove. A task that takes it twice waits for ever.
    async fn lock_repository(&self, repo: &Repository) -> OwnedMutexGuard<()> {
        let mut hasher = DefaultHasher::new();
        repo.hash(&mut hasher);
        let at = (hasher.finish() % LOCKS as u64) as usize;
        Arc::clone(&self.locks[at]).lock_owned().await
    }

    /// Whether the tag can neither move nor be deleted once it exists.
    fn immutable(&self, repo: &Repository, tag: &Tag) -> bool {
        self.rules.immutable_tags.iter().any(|pattern| pattern.matches(&repo.name, tag))
    }

    /// Links a blob to `repo`. An existing link stays and is synced again: its writer may have
    /// failed or died before the link was durable.
    async fn link_blob(&self, repo: &Repository, digest: Digest, size: u64) -> Result<(), PushError> {
        let change = Change::link(repo, pushed(digest, "", size, None), IfLinked::Confirm);
        self.storage.commit(change).await?;
        Ok(())
    }
}

/// The link of content that a client pushes or mounts now.
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
