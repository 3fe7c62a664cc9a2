//! Pushes of blobs under way: `uploads/<uuid>/{data,state}`.
//!
//! Promises: an upload belongs to the repository it was begun in, and is unknown to every other;
//! one request writes it at a time; after a crash it is taken up at an offset that never exceeds
//! the bytes on disk (the table of [`partial`](super::partial)); its bytes get a blob's name only
//! when its digest is proven; and an upload that a request was told of is not swept for the next
//! hour, also if the clock jumps. Callers: the verbs of `verbs/upload.rs`.

mod id;
#[cfg(test)]
mod tests;
mod upload;
mod uses;

use std::{
    collections::HashSet,
    fs, io,
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use id::{UploadId, UploadIdError};
pub(crate) use upload::Upload;
use uses::Uses;

use super::{
    StorageError,
    disk::Disk,
    keyed_lock::KeyedLock,
    names,
    partial::{PartialFile, PartialFolder, PartialMeta, State},
};
use crate::oci::{Algorithm, Repository};

/// The hash of an upload whose digest may have any algorithm.
const USUAL: Algorithm = Algorithm::Sha256;

/// The file's name.
const DATA: &str = "data";

/// The pushes under way, and those that wait for their next chunk.
#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    disk: Arc<Disk>,
    boot: Option<Arc<str>>,
    open: KeyedLock<UploadId>,
    uses: Uses,
}

impl Uploads {
    pub(super) fn new(disk: Arc<Disk>, boot: Option<Arc<str>>) -> Self {
        Uploads { disk, boot, open: KeyedLock::default(), uses: Uses::new() }
    }

    /// Begins an upload, which is empty and waits. Its digest may have any algorithm.
    pub(crate) fn begin(&self, repository: &Repository) -> Result<UploadId, StorageError> {
        self.begin_as(repository, None)
    }

    /// Begins an upload whose digest has this algorithm: its bytes are hashed with it from the
    /// first on.
    pub(crate) fn begin_with(&self, repository: &Repository, algorithm: Algorithm) -> Result<UploadId, StorageError> {
        self.begin_as(repository, Some(algorithm))
    }

    fn begin_as(&self, repository: &Repository, algorithm: Option<Algorithm>) -> Result<UploadId, StorageError> {
        let _permission = self.disk.writing()?;
        let id = UploadId::random();
        let repository = Some(names::whole_repository(repository));
        let meta = PartialMeta { repository, algorithm, ..PartialMeta::default() };
        let folder = self.folder(&id);
        if let Err(error) =
            PartialFile::begin(folder.clone(), algorithm.unwrap_or(USUAL), &self.disk.hash_threads, meta)
        {
            // A full disk is not filled further with folders of uploads that never began.
            let _ = folder.remove();
            return Err(error);
        }
        self.uses.begun(&id);
        Ok(id)
    }

    /// Opens an upload; `None` if this repository has no upload of this name.
    ///
    /// Errors: [`StorageError::UploadBusy`] while another [`Upload`] of this name lives.
    pub(crate) fn open(&self, repository: &Repository, id: &UploadId) -> Result<Option<Upload>, StorageError> {
        drop(self.disk.writing()?);
        let Some(state) = self.waiting(repository, id)? else {
            return Ok(None);
        };
        let guard = self.open.take(*id).ok_or(StorageError::UploadBusy(*id))?;
        let whose = names::whole_repository(repository);
        let ours = |meta: &PartialMeta, _| meta.repository.as_ref() == Some(&whose);
        let partial = PartialFile::take_up(
            self.folder(id),
            state.meta.algorithm.unwrap_or(USUAL),
            &self.disk.hash_threads,
            ours,
        )?;
        if partial.is_some() {
            self.uses.opened(id);
        }
        Ok(partial.map(|partial| Upload::new(Arc::clone(&self.disk), guard, partial, self.uses.clone())))
    }

    /// How many bytes of the upload survive a power cut: where its next chunk begins, if no request
    /// is writing it. `None` as for [`open`](Self::open).
    pub(crate) fn offset(&self, repository: &Repository, id: &UploadId) -> Result<Option<u64>, StorageError> {
        let Some(state) = self.waiting(repository, id)? else {
            return Ok(None);
        };
        let length = fs::metadata(self.folder(id).file_path()).map(|metadata| metadata.len());
        if length.is_ok_and(|length| length == state.durable_offset) {
            return Ok(Some(state.durable_offset));
        }
        // A request broke off: its bytes are made durable, so that this answer is right for the
        // next request.
        match self.open(repository, id) {
            Ok(Some(upload)) => upload.park().map(Some),
            Ok(None) => Ok(None),
            Err(StorageError::UploadBusy(_)) => Ok(Some(state.durable_offset)),
            Err(error) => Err(error),
        }
    }

    /// Removes an upload and its bytes. `false` where [`open`](Self::open) answers `None`; the
    /// errors are the same.
    pub(crate) fn cancel(&self, repository: &Repository, id: &UploadId) -> Result<bool, StorageError> {
        let _permission = self.disk.writing()?;
        if self.waiting(repository, id)?.is_none() {
            return Ok(false);
        }
        let _guard = self.open.take(*id).ok_or(StorageError::UploadBusy(*id))?;
        self.folder(id).remove()?;
        self.uses.gone(id);
        Ok(true)
    }

    /// The same for an upload of any repository. `false`: no upload has this name.
    pub(crate) fn discard(&self, id: &UploadId) -> Result<bool, StorageError> {
        let _permission = self.disk.writing()?;
        let folder = self.folder(id);
        if !folder.path.is_dir() {
            return Ok(false);
        }
        let _guard = self.open.take(*id).ok_or(StorageError::UploadBusy(*id))?;
        folder.remove()?;
        self.uses.gone(id);
        Ok(true)
    }

    /// Removes the uploads that got no bytes for this long, and that no request writes. Returns how
    /// many.
    ///
    /// Their age comes from the clock, which may jump. So an upload that this process has used, or
    /// may have missed, within the grace of the [`Leases`](super::leases::Leases) stays in any
    /// case: an hour, by a monotonic time.
    ///
    /// An upload that cannot be removed is reported in the log, and the sweep goes on.
    pub(crate) fn sweep(&self, older_than: Duration) -> Result<usize, StorageError> {
        let mut removed = 0;
        for id in self.idle(older_than)? {
            match self.sweep_one(id, older_than) {
                Ok(swept) => removed += usize::from(swept),
                Err(error @ (StorageError::Closed | StorageError::ReadOnly)) => return Err(error),
                Err(error) => tracing::warn!(%error, upload = %id, "an abandoned upload stays"),
            }
        }
        Ok(removed)
    }

    /// Removes an upload if it is still idle, now that no request can open it. Says whether it was.
    fn sweep_one(&self, id: UploadId, older_than: Duration) -> Result<bool, StorageError> {
        let Some(_guard) = self.open.take(id) else { return Ok(false) };
        let _permission = self.disk.writing()?;
        if !self.is_idle(&id, older_than) {
            return Ok(false);
        }
        self.folder(&id).remove()?;
        self.uses.gone(&id);
        Ok(true)
    }

    /// The uploads that [`sweep`](Self::sweep) would remove.
    pub(crate) fn idle(&self, for_at_least: Duration) -> Result<Vec<UploadId>, StorageError> {
        let mut idle = self.all()?;
        idle.retain(|id| !self.open.is_taken(id) && self.is_idle(id, for_at_least));
        Ok(idle)
    }

    /// The repositories of the uploads that are being written, or that were begun or written within
    /// `recent`.
    pub(crate) fn under_way(&self, recent: Duration) -> Result<HashSet<Repository>, StorageError> {
        let mut repositories = HashSet::new();
        for id in self.all()? {
            let age = match self.uses.age(&id) {
                Some(age) => Some(age),
                None => self.unchanged_for(&id),
            };
            if !self.open.is_taken(&id) && age.is_none_or(|age| age >= recent) {
                continue;
            }
            let state = State::read(&self.folder(&id).path)?;
            let whole = state.and_then(|state| state.meta.repository);
            repositories.extend(whole.as_deref().and_then(names::parse_whole_repository));
        }
        Ok(repositories)
    }

    /// The time since it was last written, by the clock; `None` if it is gone.
    fn unchanged_for(&self, id: &UploadId) -> Option<Duration> {
        let folder = self.folder(id);
        let changed =
            fs::metadata(folder.file_path()).or_else(|_| fs::metadata(&folder.path)).and_then(|m| m.modified());
        // A file time in the future counts as now.
        changed.ok().map(|changed| SystemTime::now().duration_since(changed).unwrap_or_default())
    }

    fn is_idle(&self, id: &UploadId, for_at_least: Duration) -> bool {
        let age = self.unchanged_for(id);
        age.is_some_and(|age| age >= for_at_least) && self.uses.unused_for(id) >= self.disk.leases.grace()
    }

    /// The state of an upload of this repository.
    fn waiting(&self, repository: &Repository, id: &UploadId) -> Result<Option<State>, StorageError> {
        let state = State::read(&self.folder(id).path)?;
        Ok(state.filter(|state| state.meta.repository == Some(names::whole_repository(repository))))
    }

    /// All uploads, waiting or not.
    pub(crate) fn all(&self) -> Result<Vec<UploadId>, StorageError> {
        let folder = self.disk.layout.uploads();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(StorageError::io("listing", &folder))?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry.map_err(StorageError::io("listing", &folder))?;
            all.extend(entry.file_name().to_str().and_then(|name| name.parse::<UploadId>().ok()));
        }
        Ok(all)
    }

    fn folder(&self, id: &UploadId) -> PartialFolder {
        PartialFolder { path: self.disk.layout.upload(id), name: DATA, boot: self.boot.clone() }
    }
}
