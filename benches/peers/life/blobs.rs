//! Blobs of an upstream: files with their true digests, whose bytes do not compress.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lanyard::oci::{Algorithm, Digest, Hasher};

/// How many blobs [`Blobs::large`] has, and their size.
pub(crate) const LARGE: usize = 300;
pub(crate) const LARGE_SIZE: u64 = 10_000_000;

/// See the module. The folder is removed with it.
pub(crate) struct Blobs {
    folder: tempfile::TempDir,
    pub(crate) digests: Vec<Digest>,
}

impl Blobs {
    /// One blob of each size.
    pub(crate) fn of(sizes: &[u64]) -> Blobs {
        let folder = tempfile::tempdir().unwrap();
        let digests = (1..).zip(sizes).map(|(seed, size)| write(folder.path(), seed, *size)).collect();
        Blobs { folder, digests }
    }

    /// [`LARGE`] blobs of [`LARGE_SIZE`].
    pub(crate) fn large() -> Blobs {
        Blobs::of(&[LARGE_SIZE; LARGE])
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

fn write(folder: &Path, seed: u64, size: u64) -> Digest {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size as usize + 8);
    while (bytes.len() as u64) < size {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(size as usize);
    let digest = Hasher::digest(Algorithm::Sha256, &bytes);
    fs::write(folder.join(format!("sha256-{}", digest.hex())), bytes).unwrap();
    digest
}
