//! The state file of a part, and what it is worth after a restart.

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

/// Bytes hashed at a time when a tail is taken up.
const PIECE: usize = 256 * 1024;

/// What is written down about a part, at its creation and after every 32 MiB.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct State {
    /// The boot of the machine in which it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) boot_id: Option<String>,
    /// Up to here the part is synced.
    pub(super) durable_offset: u64,
    /// The hash up to there, in base64.
    pub(super) hash_state: String,
    /// The blob's size in bytes, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) total: Option<u64>,
}

impl State {
    pub(super) fn new(boot: Option<&str>, offset: u64, hasher: &Hasher, total: Option<u64>) -> Self {
        State {
            boot_id: boot.map(str::to_owned),
            durable_offset: offset,
            hash_state: BASE64_STANDARD.encode(hasher.state()),
            total,
        }
    }

    /// Replaces the state file. `sync`: it survives a power cut, in which it otherwise may end up damaged, and then the
    /// part is begun again.
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

/// Where a part goes on.
pub(super) struct Resumed {
    pub(super) offset: u64,
    pub(super) hasher: Hasher,
    /// Up to here the state file has it.
    pub(super) saved: u64,
    pub(super) total: Option<u64>,
}

/// Finds out how much of `part` is good (the table at the top of this room).
pub(super) fn resume(
    folder: &Path,
    part: &File,
    algorithm: Algorithm,
    boot: Option<&str>,
) -> Result<Option<Resumed>, StorageError> {
    let Some(state) = record::read::<State>(&folder.join(STATE))? else {
        return Ok(None);
    };
    let length = part.metadata().map_err(StorageError::io("looking at", folder))?.len();
    let hash_state = BASE64_STANDARD.decode(&state.hash_state).ok();
    let Some(mut hasher) = hash_state.and_then(|bytes| Hasher::restore(algorithm, &bytes)) else {
        return Ok(None);
    };
    if state.durable_offset > length {
        return Ok(None);
    }
    let mut offset = state.durable_offset;
    if boot.is_some() && state.boot_id.as_deref() == boot {
        let mut buffer = vec![0; PIECE];
        while offset < length {
            let count = match part.read_at(&mut buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count.map_err(StorageError::io("reading", folder))?,
            };
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            offset += count as u64;
        }
    }
    Ok(Some(Resumed { offset, hasher, saved: state.durable_offset, total: state.total }))
}

/// The kernel's name for this boot of the machine; `None` where it does not say.
pub(in crate::storage) fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}
