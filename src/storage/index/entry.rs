//! Keys and values of the index's trees. Callers: this folder, and the files of the room that write
//! records.
//!
//! `tags` and `links`: the namespace as on disk, `/`, the repository's name, a zero byte, then the
//! tag or the digest; the value is the text of the record, checksum included, as in its file but
//! for the history of a tag. `holders`: every key of `links` the other way round, the digest first;
//! no value. `referrers`: as `links`, with the subject and a zero byte before the digest, where the
//! record has a subject; no value. `blobs`: the digest; the value is 36 bytes, numbers with the
//! high byte first: size (8), last use (8, milliseconds since 1970), uses (2), the minute that was
//! counted last (2), when it came (8, milliseconds since 1970), and the bytes of it that were given
//! out (8). See `blob_use.rs`.
//!
//! The zero byte sorts before any byte of a name, so the keys of a namespace are in the order of
//! its names.

use serde::Deserialize;

use crate::{
    oci::{Digest, Namespace, Repository, Tag},
    storage::{BlobUse, names, record},
};

/// The part of a key before the zero byte.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(in crate::storage) struct RepositoryKey(String);

/// A change: this tree has this value for this key from now on, or none.
#[derive(Debug)]
pub(in crate::storage) struct Entry {
    pub(super) tree: Tree,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Tree {
    Tags,
    Links,
    Blobs,
}

impl RepositoryKey {
    pub(in crate::storage) fn new(repository: &Repository) -> Self {
        RepositoryKey(format!("{}/{}", names::namespace(&repository.namespace), repository.name))
    }

    pub(in crate::storage) fn repository(&self) -> Option<Repository> {
        let (namespace, name) = self.0.split_once('/')?;
        Some(Repository { namespace: names::parse_namespace(namespace)?, name: name.parse().ok()? })
    }

    /// Parses the part of a key before the zero byte.
    pub(super) fn parse(text: &[u8]) -> Option<RepositoryKey> {
        std::str::from_utf8(text).ok().map(|text| RepositoryKey(text.to_owned()))
    }

    /// The common beginning of the keys of all repositories of a namespace.
    pub(super) fn namespace_prefix(namespace: &Namespace) -> Vec<u8> {
        format!("{}/", names::namespace(namespace)).into_bytes()
    }

    pub(super) fn prefix(&self) -> Vec<u8> {
        format!("{}\0", self.0).into_bytes()
    }
}

impl Entry {
    pub(in crate::storage) fn tag(repository: &RepositoryKey, tag: &Tag, text: Option<Vec<u8>>) -> Self {
        Entry { tree: Tree::Tags, key: tag_key(repository, tag), value: text }
    }

    pub(in crate::storage) fn link(repository: &RepositoryKey, digest: &Digest, text: Option<Vec<u8>>) -> Self {
        Entry { tree: Tree::Links, key: link_key(repository, digest), value: text }
    }

    /// A blob that was stored, or whose file was read. What the index knows of its uses stays.
    pub(in crate::storage) fn blob(digest: &Digest, blob: BlobUse) -> Self {
        Entry { tree: Tree::Blobs, key: blob_key(digest), value: Some(blob_value(blob)) }
    }

    pub(in crate::storage) fn no_blob(digest: &Digest) -> Self {
        Entry { tree: Tree::Blobs, key: blob_key(digest), value: None }
    }
}

pub(super) fn tag_key(repository: &RepositoryKey, tag: &Tag) -> Vec<u8> {
    format!("{}\0{tag}", repository.0).into_bytes()
}

pub(super) fn link_key(repository: &RepositoryKey, digest: &Digest) -> Vec<u8> {
    format!("{}\0{digest}", repository.0).into_bytes()
}

/// The common beginning of the keys of a digest's holders.
pub(super) fn holders_prefix(digest: &Digest) -> Vec<u8> {
    format!("{digest}\0").into_bytes()
}

/// The key of `holders` for a key of `links`.
pub(super) fn holder_key(link_key: &[u8]) -> Option<Vec<u8>> {
    let zero = link_key.iter().position(|byte| *byte == 0)?;
    Some([&link_key[zero + 1..], &[0], &link_key[..zero]].concat())
}

/// The common beginning of the keys of a subject's referrers in a repository.
pub(super) fn referrers_prefix(repository: &RepositoryKey, subject: &Digest) -> Vec<u8> {
    format!("{}\0{subject}\0", repository.0).into_bytes()
}

/// The key of `referrers` for a key of `links` and its value, if the record has a subject.
pub(super) fn referrer_key(link_key: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Referrer {
        subject: Option<Digest>,
    }
    // Most records have none, and are not parsed for it.
    memchr::memmem::find(text, b"\"subject\"")?;
    let subject = record::decode::<Referrer>(text).ok()?.subject?.to_string();
    let zero = link_key.iter().position(|byte| *byte == 0)?;
    Some([&link_key[..=zero], subject.as_bytes(), &link_key[zero..]].concat())
}

pub(super) fn blob_key(digest: &Digest) -> Vec<u8> {
    digest.to_string().into_bytes()
}

/// The value of `blobs`.
pub(super) fn blob_value(blob: BlobUse) -> Vec<u8> {
    let BlobUse { size, last, uses, counted, came, served } = blob;
    let counts = [uses.to_be_bytes(), counted.to_be_bytes()].concat();
    [&size.to_be_bytes()[..], &last.to_be_bytes(), &counts, &came.to_be_bytes(), &served.to_be_bytes()].concat()
}

/// Reads a value of `blobs`.
pub(super) fn parse_blob(value: &[u8]) -> Option<BlobUse> {
    let (size, rest) = value.split_first_chunk()?;
    let (last, rest) = rest.split_first_chunk()?;
    let (uses, rest) = rest.split_first_chunk()?;
    let (counted, rest) = rest.split_first_chunk()?;
    let (came, served) = rest.split_first_chunk()?;
    Some(BlobUse {
        size: u64::from_be_bytes(*size),
        last: u64::from_be_bytes(*last),
        uses: u16::from_be_bytes(*uses),
        counted: u16::from_be_bytes(*counted),
        came: u64::from_be_bytes(*came),
        served: u64::from_be_bytes(served.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_reads_as_it_was_written() {
        let blob = BlobUse { size: 1 << 40, last: 1 << 45, uses: 9, counted: u16::MAX, came: 1 << 44, served: 1 << 50 };
        let value = blob_value(blob);
        assert_eq!((value.len(), parse_blob(&value)), (36, Some(blob)));
        assert_eq!((parse_blob(&value[..18]), parse_blob(&[])), (None, None));
    }
}
