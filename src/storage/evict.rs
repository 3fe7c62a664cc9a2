//! One step of the eviction: cached content goes, or a reason says why it stays.
//!
//! Promises:
//! - Content goes only if some mirrored repository links it, so that its upstream can give it
//!   again; if no repository links it as a manifest; if no hosted repository links it; if no client
//!   was told that it stays (`leases.rs`), and nobody reads it.
//! - Either the eviction comes first, or a push that counts on the content: never half of each. The
//!   digest is reclaimed (`leases.rs`) while this looks and renames.
//! - The content is gone or whole at every moment, also after a crash: it is renamed into `tmp`,
//!   which a start empties, and unlinked from there outside of all locks. Its bytes count until
//!   then.
//! - Links and tags stay. No version of a repository is raised: what is kept in memory of manifests
//!   stays good, and an open file tells by itself that it has no name any more.
//!
//! Callers: the verbs `evict` and `would_stay`.

use std::{fs, io, time::Duration};

use super::{Respect, StorageError, blobs::BlobStore, blocks, catalog::Catalog, census::Taken, index::Entry};
use crate::{
    oci::{Digest, Namespace},
    runtime::clock,
};

/// No manifest is larger, in bytes: larger content needs no look whether it is one.
const LARGEST_MANIFEST: u64 = 4 << 20;

/// The result of an eviction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Eviction {
    /// It is gone, and this many bytes are free.
    Evicted(u64),
    /// It stays.
    Kept(KeptFor),
}

/// Why content is not evicted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeptFor {
    /// It is not here.
    Absent,
    /// Somebody reads it, so its bytes would not be free.
    Reader,
    /// Work under way holds it.
    Held,
    /// A client was told that it is here. That is so for so long.
    Promise(Duration),
    /// A hosted repository links it.
    Hosted,
    /// It is a manifest of a repository.
    Manifest,
    /// No repository links it: it is the collector's.
    Unlinked,
    /// The hosted links are not all counted yet.
    Uncounted,
}

impl BlobStore {
    /// See the module. Its uses are remembered until `remembered`, in milliseconds since 1970.
    pub(crate) fn evict(&self, digest: &Digest, catalog: &Catalog, remembered: u64) -> Result<Eviction, StorageError> {
        let kept = |why| Ok(Eviction::Kept(why));
        let Some(_right) = self.disk.leases.begin_reclaim(digest, Respect::Promises) else {
            return kept(self.disk.leases.promised(digest).map_or(KeptFor::Held, KeptFor::Promise));
        };
        let path = self.disk.layout.blob(digest);
        let size = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return kept(KeptFor::Absent),
            looked => looked.map_err(StorageError::io("looking at", &path))?,
        };
        if let Some(why) = needs_to_stay(digest, size.len(), catalog)? {
            return kept(why);
        }
        if !self.disk.readers.close(digest) {
            return kept(KeptFor::Reader);
        }
        let used = self.use_of(digest)?;
        let way_out = self.disk.temporaries.way_out();
        // From before the rename until after the unlink they count twice, and never not at all.
        let leaving = self.disk.ledger.leaving(blocks::taken(&size));
        let taken = {
            let _permission = self.disk.writing()?;
            let away = || {
                fs::rename(&path, &way_out)?;
                self.disk.index.write(None, vec![Entry::no_blob(digest)]);
                Ok(())
            };
            self.disk.census.take_cached(digest, &path, away).map_err(StorageError::io("evicting", &path))?
        };
        match taken {
            Taken::Cached(size) => {
                match fs::remove_file(&way_out) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        leaving.keep();
                        return Err(StorageError::io("removing", &way_out)(error));
                    }
                    Ok(()) | Err(_) => {}
                }
                self.disk.space.gained(size);
                if let Some(used) = used {
                    self.disk.came_back.evicted(digest, used.uses, clock::milliseconds(), remembered);
                }
                // Downloads that wait for room look again now, and find all of it.
                drop(leaving);
                Ok(Eviction::Evicted(size))
            }
            Taken::Hosted => kept(KeptFor::Hosted),
            Taken::Uncounted => kept(KeptFor::Uncounted),
            Taken::Absent => kept(KeptFor::Absent),
        }
    }
}

impl BlobStore {
    /// Why content would stay now, as [`evict`](Self::evict) looks at it; `None`: it would go.
    pub(crate) fn would_stay(&self, digest: &Digest, catalog: &Catalog) -> Result<Option<KeptFor>, StorageError> {
        let Some(size) = self.size(digest)? else { return Ok(Some(KeptFor::Absent)) };
        if self.disk.leases.left(digest, Respect::Promises).is_some() {
            return Ok(Some(self.disk.leases.promised(digest).map_or(KeptFor::Held, KeptFor::Promise)));
        }
        if let Some(why) = needs_to_stay(digest, size, catalog)? {
            return Ok(Some(why));
        }
        if self.disk.readers.is_read(digest) {
            return Ok(Some(KeptFor::Reader));
        }
        Ok(if self.disk.census.is_hosted(digest) { Some(KeptFor::Hosted) } else { None })
    }
}

fn needs_to_stay(digest: &Digest, size: u64, catalog: &Catalog) -> Result<Option<KeptFor>, StorageError> {
    let holders = catalog.holders(digest)?;
    if holders.iter().any(|holder| holder.namespace == Namespace::Hosted) {
        return Ok(Some(KeptFor::Hosted));
    }
    if holders.is_empty() {
        return Ok(Some(KeptFor::Unlinked));
    }
    if size <= LARGEST_MANIFEST {
        for holder in &holders {
            if catalog.link(holder, digest)?.is_some_and(|link| link.is_manifest()) {
                return Ok(Some(KeptFor::Manifest));
            }
        }
    }
    Ok(None)
}
