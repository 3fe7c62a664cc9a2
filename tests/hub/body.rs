//! Bodies that may be larger than memory, and the noise that fills them.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Noise above this size is computed again for every answer instead of being kept.
const KEEP: u64 = 64 * 1024 * 1024;

/// Some bytes that can be read at any offset.
#[derive(Clone)]
pub enum Body {
    /// Bytes in memory.
    Bytes(Arc<[u8]>),
    /// `len` pseudo-random bytes that follow from `seed`.
    Noise {
        /// The bytes are computed from this.
        seed: u64,
        /// The number of bytes.
        len: u64,
    },
}

impl Body {
    /// `len` bytes that depend on `seed` only and do not compress.
    pub fn noise(seed: u64, len: u64) -> Body {
        let lazy = Body::Noise { seed, len };
        if len > KEEP {
            return lazy;
        }
        let mut bytes = vec![0; len as usize];
        lazy.read(0, &mut bytes);
        Body::Bytes(bytes.into())
    }

    /// The length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Noise { len, .. } => *len,
        }
    }

    /// Copies bytes from `offset` on; the caller stays within the length.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) {
        match self {
            Body::Bytes(bytes) => buffer.copy_from_slice(&bytes[offset as usize..offset as usize + buffer.len()]),
            Body::Noise { seed, .. } => noise(*seed, offset, buffer),
        }
    }

    /// Everything, copied. Only for bodies that fit into memory.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len() as usize];
        self.read(0, &mut bytes);
        bytes
    }

    /// The sha256 digest, as `sha256:<hex>`.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        while at < self.len() {
            let count = (self.len() - at).min(buffer.len() as u64) as usize;
            self.read(at, &mut buffer[..count]);
            hasher.update(&buffer[..count]);
            at += count as u64;
        }
        spell(&hasher.finalize())
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body::Bytes(bytes.into())
    }
}

impl From<&[u8]> for Body {
    fn from(bytes: &[u8]) -> Body {
        Body::Bytes(bytes.into())
    }
}

/// The sha256 digest of some bytes, as `sha256:<hex>`.
pub fn digest_of(bytes: &[u8]) -> String {
    spell(&Sha256::digest(bytes))
}

fn spell(hash: &[u8]) -> String {
    hash.iter().fold(String::from("sha256:"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A seed computed from a text.
pub(super) fn seed_of(text: &str) -> u64 {
    Sha256::digest(text.as_bytes()).iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte))
}

/// Fills `buffer` with the noise of `seed` from `offset` on: splitmix64, which can start at any
/// offset.
fn noise(seed: u64, offset: u64, buffer: &mut [u8]) {
    let mut done = 0;
    while done < buffer.len() {
        let at = offset + done as u64;
        let mut z = seed.wrapping_add((at / 8 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let word = (z ^ (z >> 31)).to_le_bytes();
        let skip = (at % 8) as usize;
        let count = (8 - skip).min(buffer.len() - done);
        buffer[done..done + count].copy_from_slice(&word[skip..skip + count]);
        done += count;
    }
}
