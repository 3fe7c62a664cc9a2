//! The text of a record file: one line of JSON with its version, one line with the CRC of the
//! first.
//!
//! ```text
//! {"v":1,"tag":"latest","digest":"sha256:…","media_type":"…","size":529,"updated":1700000000}
//! crc32 1a2b3c4d
//! ```
//!
//! Promises: `cat` shows a record. A torn or rotten one is recognized and reads as [`Damage`],
//! which [`read`] reports in the log and treats as absent. Every older version is read. The index
//! keeps the same texts as its values. Callers: the files of this room that keep records.

use std::path::Path;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{StorageError, durable};

/// The version written; every older one is read.
const VERSION: u32 = 1;

/// Far above most records: a link has about 300 bytes, a part's state about 500, a tag with all of
/// its history about 4,000.
pub(super) const MAX_BYTES: u64 = 16 * 1024;

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    record: T,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// Why a text is no record.
#[derive(Debug, thiserror::Error)]
pub(super) enum Damage {
    /// Torn, or a bit has flipped.
    #[error("its checksum does not match")]
    Checksum,
    /// Whole, but not of this kind.
    #[error("it is not a record of its kind: {0}")]
    Content(#[from] serde_json::Error),
    /// Of a later lanyard.
    #[error("it has version {0}, which is newer than this lanyard")]
    Newer(u32),
}

/// The text of a record.
pub(super) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, Damage> {
    let mut text = serde_json::to_vec(&Versioned { v: VERSION, record })?;
    let crc = crc32fast::hash(&text);
    text.extend_from_slice(format!("\ncrc32 {crc:08x}\n").as_bytes());
    Ok(text)
}

/// The record of a text.
pub(super) fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, Damage> {
    let end = text.iter().position(|byte| *byte == b'\n').ok_or(Damage::Checksum)?;
    let (json, rest) = text.split_at(end);
    if rest != format!("\ncrc32 {:08x}\n", crc32fast::hash(json)).as_bytes() {
        return Err(Damage::Checksum);
    }
    match serde_json::from_slice(json) {
        Ok(Versioned { v, record }) if v <= VERSION => Ok(record),
        Ok(Versioned { v, .. }) => Err(Damage::Newer(v)),
        // A record of a later version may have another shape.
        Err(error) => match serde_json::from_slice(json) {
            Ok(Version { v }) if v > VERSION => Err(Damage::Newer(v)),
            _ => Err(error.into()),
        },
    }
}

/// Reads a record file. A damaged one is reported and reads as `None`.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StorageError> {
    Ok(load(path)?.and_then(|record| record.inspect_err(|damage| report(path, damage)).ok()))
}

/// Reads a record file; `None` if there is none.
pub(super) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<Result<T, Damage>>, StorageError> {
    load_up_to(path, MAX_BYTES)
}

/// The same for a kind of record that may have `max` bytes.
pub(super) fn load_up_to<T: DeserializeOwned>(
    path: &Path,
    max: u64,
) -> Result<Option<Result<T, Damage>>, StorageError> {
    let text = durable::read_small(path, max).or_else(oversized).map_err(StorageError::io("reading", path))?;
    Ok(text.map(|text| decode(&text)))
}

/// Says in the log that a record is treated as missing.
pub(super) fn report(path: &Path, why: &dyn std::fmt::Display) {
    tracing::warn!(path = %path.display(), %why, "a damaged record is treated as missing");
}

/// A file that has grown beyond any record is damage, not an error: its text is empty, whose
/// checksum is wrong.
fn oversized(error: std::io::Error) -> std::io::Result<Option<Vec<u8>>> {
    if error.kind() == std::io::ErrorKind::InvalidData { Ok(Some(Vec::new())) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    struct Sample {
        name: String,
        size: u64,
    }

    #[test]
    fn is_readable_text() {
        let text = encode(&Sample { name: "x".into(), size: u64::MAX }).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("{\"v\":1,\"name\":\"x\",\"size\":18446744073709551615}\ncrc32 "), "{text}");
    }

    #[test]
    fn says_that_it_is_newer() {
        for json in [&br#"{"v":2,"name":"x","size":1}"#[..], br#"{"v":2,"names":[]}"#] {
            let text = [json, format!("\ncrc32 {:08x}\n", crc32fast::hash(json)).as_bytes()].concat();
            assert!(matches!(decode::<Sample>(&text), Err(Damage::Newer(2))));
        }
    }

    proptest! {
        #[test]
        fn comes_back(name in "\\PC*", size: u64) {
            let sample = Sample { name, size };
            prop_assert_eq!(decode::<Sample>(&encode(&sample).unwrap()).unwrap(), sample);
        }

        #[test]
        fn no_flipped_bit_and_no_cut_goes_unnoticed(at: prop::sample::Index, bit in 0..8_u32, name in "[a-z]{0,20}") {
            let whole = encode(&Sample { name, size: 7 }).unwrap();
            let mut rotten = whole.clone();
            rotten[at.index(whole.len())] ^= 1 << bit;
            prop_assert!(decode::<Sample>(&rotten).is_err());
            prop_assert!(decode::<Sample>(&whole[..at.index(whole.len())]).is_err());
        }
    }
}
