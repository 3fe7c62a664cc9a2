//! The folders of the blobs, by algorithm and first byte, and a walk through them.
//!
//! Promises: the walk visits every blob that is there from its beginning to its end, in the order
//! of digests. A blob that comes or goes meanwhile may be visited or not. A folder that cannot be
//! listed is an error in its place, and the walk goes on. Callers: the blobs, the rebuild, and the
//! verb `walk`.

use std::{fs, io};

use super::{StorageError, layout::Layout, names};
use crate::oci::{Algorithm, Digest};

/// The blobs of a data folder, one after the other, in the order of digests:
/// [`Storage::walk`](super::Storage::walk).
#[derive(Debug)]
pub(crate) struct BlobIter {
    layout: Layout,
    last: Option<Digest>,
    shards: std::vec::IntoIter<(Algorithm, u8)>,
    found: std::vec::IntoIter<Digest>,
}

impl BlobIter {
    pub(super) fn new(layout: Layout, last: Option<Digest>) -> Self {
        let reached = last.map(|last| (last.algorithm(), last.as_bytes().first().copied().unwrap_or_default()));
        let shards: Vec<_> = all().filter(|shard| Some(*shard) >= reached).collect();
        BlobIter { layout, last, shards: shards.into_iter(), found: Vec::new().into_iter() }
    }
}

impl Iterator for BlobIter {
    type Item = Result<Digest, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(digest) = self.found.next() {
                return Some(Ok(digest));
            }
            let (algorithm, first) = self.shards.next()?;
            let mut found = Vec::new();
            match look_into(&self.layout, algorithm, first, |digest, _| {
                found.push(digest);
                Ok(())
            }) {
                Ok(()) => {
                    found.retain(|digest| Some(*digest) > self.last);
                    found.sort_unstable();
                    self.found = found.into_iter();
                }
                Err(error) => {
                    let folder = self.layout.shard(algorithm, first);
                    return Some(Err(StorageError::io("listing", &folder)(error)));
                }
            }
        }
    }
}

/// The folders of the blobs.
pub(super) fn all() -> impl Iterator<Item = (Algorithm, u8)> {
    [Algorithm::Sha256, Algorithm::Sha512]
        .into_iter()
        .flat_map(|algorithm| (0..=u8::MAX).map(move |first| (algorithm, first)))
}

/// Calls `show` for every blob of one of those folders.
pub(super) fn look_into(
    layout: &Layout,
    algorithm: Algorithm,
    first: u8,
    mut show: impl FnMut(Digest, &fs::DirEntry) -> io::Result<()>,
) -> io::Result<()> {
    let files = match fs::read_dir(layout.shard(algorithm, first)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        files => files?,
    };
    for file in files {
        let file = file?;
        if let Some(digest) = file.file_name().to_str().and_then(|name| names::parse_blob(algorithm, name)) {
            show(digest, &file)?;
        }
    }
    Ok(())
}
