//! The state file of a partial file, and how much of the file is good after a restart.
//!
//! Promises: a state that was saved durably never promises more than was synced before it. A
//! damaged state file reads as none. Callers: this folder; the uploads, which read the repository;
//! the check.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    oci::{Algorithm, Hasher},
    storage::{StorageError, durable, record},
};

/// Bytes hashed at a time when they are read back.
const PIECE: usize = 256 * 1024;

/// The record beside a partial file. Written when it is begun, after every 32 MiB, and when it is
/// parked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::storage) struct State {
    /// The boot of the machine in which it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::storage) boot_id: Option<String>,
    /// The file is synced up to this byte.
    pub(in crate::storage) durable_offset: u64,
    /// The hash up to there, in base64.
    pub(in crate::storage) hash_state: String,
    /// The owner's data.
    #[serde(flatten)]
    pub(in crate::storage) meta: PartialMeta,
}

/// The data that the owner of a partial file keeps with it.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(in crate::storage) struct PartialMeta {
    /// The size in bytes that it will have, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::storage) total: Option<u64>,
    /// The repository that it belongs to, if it belongs to one: namespace and name as they are on
    /// disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::storage) repository: Option<String>,
    /// The algorithm of the digest that it will have, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::storage) algorithm: Option<Algorithm>,
    /// The sources that its bytes came from, in words of its owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::storage) sources: Vec<String>,
}

impl State {
    pub(in crate::storage) fn new(boot: Option<&str>, offset: u64, hasher: &Hasher, meta: PartialMeta) -> Self {
        State {
            boot_id: boot.map(str::to_owned),
            durable_offset: offset,
            hash_state: BASE64_STANDARD.encode(hasher.state()),
            meta,
        }
    }

    /// Reads the state file in this folder; `None` if it is damaged or missing.
    pub(in crate::storage) fn read(folder: &Path) -> Result<Option<State>, StorageError> {
        record::read(&folder.join(STATE))
    }

    /// Replaces the state file. `sync`: it survives a power cut. Without it a power cut may damage
    /// it, and then the file is begun again.
    pub(super) fn save(&self, folder: &Path, sync: bool) -> Result<(), StorageError> {
        let path = folder.join(STATE);
        let next = folder.join("state.next");
        let write = || -> io::Result<()> {
            let text = record::encode(self).map_err(io::Error::other)?;
            let file = durable::create(&next)?;
            file.write_all_at(&text, 0)?;
            if sync {
                file.sync_data()?;
            }
            fs::rename(&next, &path)?;
            if sync {
                durable::sync_dir(folder)?;
                durable::sync_dir(folder.parent().unwrap_or(folder))?;
            }
            Ok(())
        };
        write().map_err(StorageError::io("writing", &path))
    }
}

/// The state file's name.
pub(super) const STATE: &str = "state";

/// Where a partial file goes on.
pub(super) struct Resumed {
    pub(super) offset: u64,
    pub(super) hasher: Hasher,
    /// The offset in the state file.
    pub(super) saved: u64,
    pub(super) meta: PartialMeta,
}

/// Finds out how much of `file` is good, by the table at the top of `mod.rs`.
pub(super) fn resume(
    folder: &Path,
    file: &File,
    algorithm: Algorithm,
    boot: Option<&str>,
) -> Result<Option<Resumed>, StorageError> {
    let Some(state) = State::read(folder)? else {
        return Ok(None);
    };
    let length = file.metadata().map_err(StorageError::io("looking at", folder))?.len();
    let hash_state = BASE64_STANDARD.decode(&state.hash_state).ok();
    let Some(mut hasher) = hash_state.and_then(|bytes| Hasher::restore(algorithm, &bytes)) else {
        return Ok(None);
    };
    let saved = state.durable_offset;
    if saved > length {
        return Ok(None);
    }
    let same_boot = boot.is_some() && state.boot_id.as_deref() == boot;
    let offset = if same_boot {
        hash_from(&mut hasher, file, saved).map_err(StorageError::io("reading", folder))?
    } else {
        saved
    };
    Ok(Some(Resumed { offset, hasher, saved, meta: state.meta }))
}

/// Hashes the file from `offset` on. Returns the offset of its end.
pub(in crate::storage) fn hash_from(hasher: &mut Hasher, file: &File, mut offset: u64) -> io::Result<u64> {
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read_at(&mut buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(0) => return Ok(offset),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                offset += count as u64;
            }
        }
    }
}

/// The kernel's name for this boot of the machine; `None` where it does not say.
pub(in crate::storage) fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}
