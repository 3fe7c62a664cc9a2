//! A folder with a file for each blob, named by its digest: the origin of tests.
//!
//! It answers as an honest registry does that states the length of each file that it has. It notes
//! from which offsets it was asked.

use std::{
    fs,
    io::{ErrorKind, Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bytes::Bytes;

use super::origin::{OriginBlob, OriginBytes};
use crate::{
    oci::{Digest, Namespace, Repository, RepositoryName, UpstreamName},
    upstream::{UpstreamError, fetcher::FetchError},
};

/// How many bytes it sends at a time.
const PIECE: u64 = 1000;

/// See the module. Clones share what was noted.
#[derive(Clone)]
pub(crate) struct Folder(Arc<Inner>);

struct Inner {
    path: PathBuf,
    upstream: UpstreamName,
    name: RepositoryName,
    asked: Mutex<Vec<u64>>,
}

/// The bytes of one file, from an offset on.
pub(crate) struct FolderBytes {
    file: fs::File,
    left: u64,
}

impl Folder {
    /// The blobs of the repository `name` of `upstream`.
    pub(super) fn new(path: PathBuf, upstream: &str, name: &str) -> Folder {
        let (upstream, name) = (upstream.parse().unwrap(), name.parse().unwrap());
        Folder(Arc::new(Inner { path, upstream, name, asked: Mutex::default() }))
    }

    /// Makes it have a blob: these bytes, whatever the digest.
    pub(super) fn put(&self, digest: &Digest, bytes: &[u8]) {
        fs::write(self.file(digest), bytes).unwrap();
    }

    /// From which offsets it was asked for bytes, in order.
    pub(super) fn asked(&self) -> Vec<u64> {
        self.0.asked.lock().unwrap().clone()
    }

    pub(super) fn repository(&self) -> Repository {
        Repository { namespace: Namespace::Upstream(self.0.upstream.clone()), name: self.0.name.clone() }
    }

    pub(super) fn upstream(&self) -> &UpstreamName {
        &self.0.upstream
    }

    pub(super) fn name(&self) -> &RepositoryName {
        &self.0.name
    }

    pub(super) fn blob(
        &self,
        digest: &Digest,
        from: u64,
        to_inclusive: Option<u64>,
    ) -> Result<OriginBlob, UpstreamError> {
        self.0.asked.lock().unwrap().push(from);
        let mut file = self.open(digest)?;
        let total = file.metadata().unwrap().len();
        if from > 0 && from >= total {
            return Err(UpstreamError::RangeNotSatisfiable);
        }
        file.seek(SeekFrom::Start(from)).unwrap();
        let left = to_inclusive.map_or(total, |to| total.min(to + 1)) - from;
        let bytes = OriginBytes::Folder(FolderBytes { file, left });
        Ok(OriginBlob { total: Some(total), offset: from, length: Some(left), page: false, bytes })
    }

    pub(super) fn head_blob(&self, digest: &Digest) -> Result<Option<u64>, UpstreamError> {
        Ok(Some(self.open(digest)?.metadata().unwrap().len()))
    }

    fn open(&self, digest: &Digest) -> Result<fs::File, UpstreamError> {
        fs::File::open(self.file(digest)).map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            UpstreamError::NotFound { message: "the folder has no such file".into(), told: true }
        })
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.0.path.join(digest.to_string())
    }
}

impl FolderBytes {
    /// The next piece. A file that was cut short meanwhile breaks off.
    pub(super) fn chunk(&mut self) -> Option<Result<Bytes, FetchError>> {
        if self.left == 0 {
            return None;
        }
        let mut piece = vec![0; self.left.min(PIECE) as usize];
        let read = self.file.read(&mut piece).unwrap();
        if read == 0 {
            let (host, reason) = ("folder".to_owned(), "the file was cut short".to_owned());
            return Some(Err(FetchError::Broken { host, reason }));
        }
        piece.truncate(read);
        self.left -= read as u64;
        Some(Ok(piece.into()))
    }
}
