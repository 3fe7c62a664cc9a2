//! Where a fill gets its bytes from.
//!
//! An [`Origin`] has the blobs of one repository. It promises what a registry does, and no more:
//!
//! - It may be asked for any digest. If it has no such blob, it answers with an error that
//!   `sources::refuses` knows.
//! - Its answer begins at the offset that was asked for, or at 0. A length that it states may be
//!   wrong, and so may its bytes: the fill proves the digest.
//! - An answer that ends early is an error, if it stated a length.
//! - Its futures may be dropped at any time.
//!
//! `drive` and the files below it use origins only by these methods. Content that comes from
//! another kind of place than a registry is one more variant.

use std::{mem::discriminant, sync::Arc};

use bytes::Bytes;

#[cfg(test)]
use super::folder::{Folder, FolderBytes};
use crate::{
    oci::{Digest, Namespace, Repository, RepositoryName, UpstreamName},
    upstream::{BlobResponse, BlobStream, Registry, UpstreamError, fetcher::FetchError},
};

/// A repository at a registry.
#[derive(Clone)]
pub(crate) struct UpstreamRepository {
    /// The registry.
    pub(crate) upstream: Arc<Registry>,
    /// The repository there.
    pub(crate) name: RepositoryName,
}

/// Where the blobs of one repository can be had.
#[derive(Clone)]
pub(crate) enum Origin {
    /// A registry.
    Registry(UpstreamRepository),
    /// A folder, for tests: an origin that is no registry.
    #[cfg(test)]
    Folder(Folder),
}

/// The head of an origin's answer, and its bytes to come.
pub(crate) struct OriginBlob {
    /// The whole blob's length in bytes, if stated.
    pub(crate) total: Option<u64>,
    /// Where in the blob the bytes begin: at the offset that was asked for, or at 0.
    pub(crate) offset: u64,
    /// How many bytes come, if stated.
    pub(crate) length: Option<u64>,
    /// Whether the answer says that it is a web page.
    pub(crate) page: bool,
    /// The bytes.
    pub(crate) bytes: OriginBytes,
}

/// The bytes of a blob as they come from an origin.
pub(crate) enum OriginBytes {
    Registry(BlobStream),
    #[cfg(test)]
    Folder(FolderBytes),
}

impl OriginBytes {
    /// The next piece; `None` once all have come. Dropping the rest ends the answer.
    pub(crate) async fn chunk(&mut self) -> Option<Result<Bytes, FetchError>> {
        match self {
            OriginBytes::Registry(body) => body.chunk().await,
            #[cfg(test)]
            OriginBytes::Folder(bytes) => bytes.chunk(),
        }
    }
}

impl From<BlobResponse> for OriginBlob {
    fn from(answer: BlobResponse) -> Self {
        let BlobResponse { total, offset, length, page, body } = answer;
        OriginBlob { total, offset, length, page, bytes: OriginBytes::Registry(body) }
    }
}

impl Origin {
    /// The repository whose blobs it has. It holds what a fill brings from here.
    pub(crate) fn repository(&self) -> Repository {
        match self {
            Origin::Registry(source) => {
                let namespace = Namespace::Upstream(source.upstream.name().clone());
                Repository { namespace, name: source.name.clone() }
            }
            #[cfg(test)]
            Origin::Folder(folder) => folder.repository(),
        }
    }

    /// The name of the upstream that the repository belongs to.
    pub(crate) fn upstream(&self) -> &UpstreamName {
        match self {
            Origin::Registry(source) => source.upstream.name(),
            #[cfg(test)]
            Origin::Folder(folder) => folder.upstream(),
        }
    }

    /// The repository's name there.
    pub(crate) fn name(&self) -> &RepositoryName {
        match self {
            Origin::Registry(source) => &source.name,
            #[cfg(test)]
            Origin::Folder(folder) => folder.name(),
        }
    }

    /// Whether both are of the same upstream: what fails at one of them may well fail at the other.
    pub(crate) fn shares_upstream(&self, other: &Origin) -> bool {
        self.upstream() == other.upstream()
    }

    /// A word for it that outlives the process.
    pub(crate) fn word(&self) -> String {
        match self {
            Origin::Registry(_) => format!("{}/{}", self.upstream(), self.name()),
            #[cfg(test)]
            Origin::Folder(_) => format!("folder {}/{}", self.upstream(), self.name()),
        }
    }

    /// Asks for a blob's bytes from offset `from` to `to_inclusive`, or to its end.
    pub(crate) async fn blob(
        &self,
        digest: &Digest,
        from: u64,
        to_inclusive: Option<u64>,
    ) -> Result<OriginBlob, UpstreamError> {
        match self {
            Origin::Registry(UpstreamRepository { upstream, name }) => {
                Ok(upstream.blob(name, digest, from, to_inclusive).await?.into())
            }
            #[cfg(test)]
            Origin::Folder(folder) => folder.blob(digest, from, to_inclusive),
        }
    }

    /// Asks for a blob's length in bytes; `None` where the origin has the blob and does not tell.
    pub(crate) async fn head_blob(&self, digest: &Digest) -> Result<Option<u64>, UpstreamError> {
        match self {
            Origin::Registry(UpstreamRepository { upstream, name }) => upstream.head_blob(name, digest).await,
            #[cfg(test)]
            Origin::Folder(folder) => folder.head_blob(digest),
        }
    }

    /// The length that the origin states. A HEAD that is refused says nothing: then the answer to a
    /// GET of one byte is asked for it.
    pub(crate) async fn stated_length(&self, digest: &Digest) -> Result<Option<u64>, UpstreamError> {
        match (self.head_blob(digest).await?, self) {
            (None, Origin::Registry(UpstreamRepository { upstream, name })) => {
                upstream.blob_size_by_a_byte(name, digest).await
            }
            (stated, _) => Ok(stated),
        }
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Origin) -> bool {
        discriminant(self) == discriminant(other) && self.name() == other.name() && self.shares_upstream(other)
    }
}

impl From<&UpstreamRepository> for Origin {
    fn from(source: &UpstreamRepository) -> Self {
        Origin::Registry(source.clone())
    }
}
