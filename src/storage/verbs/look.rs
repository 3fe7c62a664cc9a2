//! Look: the content, records and repositories that are here. No verb of this file changes a
//! record, with one exception: a link whose length its file contradicts is set right.
//!
//! An answer is true at the moment of the look. [`Storage::version`] says whether it may have
//! changed since; [`Storage::hold`](super::super::Storage::hold) before the look keeps it from
//! being collected.

use bytes::Bytes;

use crate::{
    oci::{Digest, MAX_MANIFEST_BYTES, Namespace, Repository, RepositoryName, Tag},
    storage::{LinkRecord, Presence, Storage, StorageError, StoredBlob, TagRecord, files::Files},
};

/// A digest in a repository.
#[derive(Debug)]
pub struct Found {
    /// The repository's record of it.
    pub link: Option<LinkRecord>,
    /// The content, open for reading, whichever repository brought it.
    pub stored: Option<StoredBlob>,
}

impl Found {
    /// Whether the repository is known to hold it; a manifest that names it proves nothing (S23).
    pub fn is_held(&self) -> bool {
        self.link.as_ref().is_some_and(LinkRecord::is_held)
    }
}

/// A repository that links a digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The repository.
    pub repository: Repository,
    /// Whether it is known to hold the digest, and is not only named in it (S23).
    pub held: bool,
}

/// A page of a repository's tags.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tags {
    /// In the order of their bytes.
    pub tags: Vec<Tag>,
    /// Whether the repository has a tag, or, if it is hosted, has ever held a manifest.
    pub known: bool,
}

impl Storage {
    /// A number that each change of the repository raises, and some changes of others. An answer
    /// that was looked for after this was asked is good while the number stays the same. No lock
    /// and no disk: for every request.
    pub fn version(&self, repository: &Repository) -> u64 {
        self.files.catalog.version(repository)
    }

    /// How much there is of a repository: one look at the disk, or two. Except for
    /// [`Presence::Unseen`] the answer is good for a [`version`](Self::version).
    pub fn presence(&self, repository: &Repository) -> Presence {
        self.files.catalog.presence(repository)
    }

    /// Whether the repository has ever held a manifest. A folder that cannot be looked at is known:
    /// a hosted name must not seem free because the disk fails for a moment. One look at the disk,
    /// or two.
    pub fn knows(&self, repository: &Repository) -> bool {
        self.files.catalog.knows(repository)
    }

    /// Whether the repository has a link of the digest, good or damaged. One look at the disk; a
    /// link that cannot be looked at counts as there.
    pub fn links_to(&self, repository: &Repository, digest: &Digest) -> bool {
        self.files.catalog.holds(repository, digest)
    }

    /// Whether the repository is known to hold anything. From the index, or else from the files of
    /// its links.
    pub fn holds_anything(&self, repository: &Repository) -> bool {
        self.files.catalog.links(repository).is_ok_and(|links| links.iter().any(LinkRecord::is_held))
    }

    /// The repository's record of a digest.
    ///
    /// # Errors
    /// The disk's, as for every verb of this file. A damaged record reads as absent, and is
    /// reported in the log.
    pub async fn link(&self, repository: &Repository, digest: &Digest) -> Result<Option<LinkRecord>, StorageError> {
        let (repository, digest) = (repository.clone(), *digest);
        self.read_with(move |files| files.catalog.link(&repository, &digest)).await
    }

    /// All of the repository's records, in the order of digests.
    pub async fn links(&self, repository: &Repository) -> Result<Vec<LinkRecord>, StorageError> {
        let repository = repository.clone();
        self.read_with(move |files| files.catalog.links(&repository)).await
    }

    /// A digest in a repository, open for reading. If the file's length contradicts a link that the
    /// repository holds, the content is proven first: a file that was cut short goes to the
    /// quarantine, and a wrong length in the link is set right, once.
    pub async fn locate(&self, repository: &Repository, digest: &Digest) -> Result<Found, StorageError> {
        let (repository, digest) = (repository.clone(), *digest);
        self.read_with(move |files| locate(files, &repository, &digest)).await
    }

    /// The same for a client that is only told that the content is here: it stays for the grace
    /// from now on, since a manifest that needs it may be pushed next.
    pub async fn locate_and_keep(&self, repository: &Repository, digest: &Digest) -> Result<Found, StorageError> {
        let (repository, digest) = (repository.clone(), *digest);
        self.read_with(move |files| {
            let found = locate(files, &repository, &digest)?;
            if found.stored.is_none() {
                return Ok(found);
            }
            // A name of an upstream is never pushed to, so nothing is promised there.
            drop(match repository.namespace {
                Namespace::Hosted => files.leases.hold([digest]),
                Namespace::Upstream(_) => files.leases.hold_cached([digest]),
            });
            locate(files, &repository, &digest)
        })
        .await
    }

    /// Content of any size, open for reading; `None` if it is not here. The file stays readable
    /// while it is held, whatever becomes of its name.
    pub async fn content(&self, digest: &Digest) -> Result<Option<StoredBlob>, StorageError> {
        let digest = *digest;
        self.read_with(move |files| files.blobs.open(&digest)).await
    }

    /// The size in bytes of content; `None` if it is not here.
    pub async fn size(&self, digest: &Digest) -> Result<Option<u64>, StorageError> {
        let digest = *digest;
        self.read_with(move |files| files.blobs.size(&digest)).await
    }

    /// Content that is small enough to be a manifest, read and verified again; `None` if it is not
    /// here or larger. Rotten content goes to the quarantine and reads as absent.
    pub async fn read(&self, digest: &Digest) -> Result<Option<Bytes>, StorageError> {
        let digest = *digest;
        self.read_with(move |files| small(files, &digest)).await
    }

    /// A manifest in a repository: its record, and its bytes whichever repository brought them.
    /// `cached` is asked for the bytes before the disk is, at the moment the disk would be read.
    /// Hosted content without a media type was pushed as a blob and is no manifest (S10).
    pub async fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        cached: impl FnOnce() -> Option<Bytes> + Send + 'static,
    ) -> Result<(Option<LinkRecord>, Option<Bytes>), StorageError> {
        let (repository, digest) = (repository.clone(), *digest);
        self.read_with(move |files| {
            let link = files.catalog.link(&repository, &digest)?;
            let hosted = repository.namespace == Namespace::Hosted;
            if hosted && link.as_ref().is_none_or(|link| link.media_type.is_empty()) {
                return Ok((None, None));
            }
            let bytes = cached().map_or_else(|| small(files, &digest), |bytes| Ok(Some(bytes)))?;
            Ok((link, bytes))
        })
        .await
    }

    /// What a tag names.
    pub async fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagRecord>, StorageError> {
        let (repository, tag) = (repository.clone(), tag.clone());
        self.read_with(move |files| files.catalog.tag(&repository, &tag)).await
    }

    /// The repository's first `limit` tags after `last`.
    pub async fn tags(
        &self,
        repository: &Repository,
        last: Option<String>,
        limit: usize,
    ) -> Result<Tags, StorageError> {
        let repository = repository.clone();
        self.read_with(move |files| {
            let catalog = &files.catalog;
            let tags = catalog.tags_after(&repository, last.as_deref(), limit)?;
            let known = !tags.is_empty()
                || (repository.namespace == Namespace::Hosted && catalog.knows(&repository))
                || !catalog.tags_after(&repository, None, 1)?.is_empty();
            Ok(Tags { tags, known })
        })
        .await
    }

    /// The records of all of the repository's tags, in the order of the tags' bytes.
    pub async fn tag_records(&self, repository: &Repository) -> Result<Vec<TagRecord>, StorageError> {
        let repository = repository.clone();
        self.read_with(move |files| files.catalog.tag_records(&repository)).await
    }

    /// Manifests of the repository that name `subject`, in the order of digests: some after `last`,
    /// and the digest after which there may be more. About `limit` of them: without the index all
    /// come at once, since every link of the repository is read for them.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        last: Option<String>,
        limit: usize,
    ) -> Result<(Vec<LinkRecord>, Option<Digest>), StorageError> {
        let (repository, subject) = (repository.clone(), *subject);
        self.read_with(move |files| files.catalog.referrers_after(&repository, &subject, last.as_deref(), limit)).await
    }

    /// The namespace's repositories that hold something, in the order of their bytes: the first
    /// `limit` whose names sort after `last`, which need not be a name.
    pub async fn repositories(
        &self,
        namespace: &Namespace,
        last: Option<String>,
        limit: usize,
    ) -> Result<Vec<RepositoryName>, StorageError> {
        let namespace = namespace.clone();
        self.read_with(move |files| match last.as_deref().map(str::parse::<RepositoryName>) {
            None => files.catalog.repositories_after(&namespace, None, limit),
            Some(Ok(last)) => files.catalog.repositories_after(&namespace, Some(&last), limit),
            Some(Err(_)) => {
                let mut all = files.catalog.repositories(&namespace)?;
                all.retain(|name| last.as_deref().is_none_or(|last| name.as_str() > last));
                all.truncate(limit);
                Ok(all)
            }
        })
        .await
    }

    /// The namespaces that have a folder.
    pub async fn namespaces(&self) -> Result<Vec<Namespace>, StorageError> {
        self.read_with(|files| files.catalog.namespaces()).await
    }

    /// The namespace's repositories that have a folder, also those that hold nothing or cannot be
    /// looked into.
    pub async fn folders(&self, namespace: &Namespace) -> Result<Vec<RepositoryName>, StorageError> {
        let namespace = namespace.clone();
        self.read_with(move |files| files.catalog.folders(&namespace)).await
    }

    /// The repositories that link a digest, hosted ones first.
    pub async fn holders(&self, digest: &Digest) -> Result<Vec<Holder>, StorageError> {
        let digest = *digest;
        self.read_with(move |files| {
            let mut holders = Vec::new();
            for repository in files.catalog.holders(&digest)? {
                let held = files.catalog.link(&repository, &digest)?.is_some_and(|link| link.is_held());
                holders.push(Holder { repository, held });
            }
            Ok(holders)
        })
        .await
    }
}

fn small(files: &Files, digest: &Digest) -> Result<Option<Bytes>, StorageError> {
    match files.blobs.read(digest, MAX_MANIFEST_BYTES) {
        Err(StorageError::TooLarge { .. }) => Ok(None),
        read => read,
    }
}

fn locate(files: &Files, repository: &Repository, digest: &Digest) -> Result<Found, StorageError> {
    let link = files.catalog.link(repository, digest)?;
    let stored = files.blobs.open(digest)?;
    match (link, stored) {
        // A link that only names the digest may state any size: nothing is read for it.
        (Some(link), Some(stored)) if link.is_held() && link.size != stored.size => {
            recheck_length(files, repository, link)
        }
        (link, stored) => Ok(Found { link, stored }),
    }
}

/// Link and file differ in length, so one of them is wrong. Afterwards they agree, or the file is
/// in the quarantine.
fn recheck_length(files: &Files, repository: &Repository, link: LinkRecord) -> Result<Found, StorageError> {
    let Some(stored) = files.blobs.prove(&link.digest)? else { return Ok(Found { link: Some(link), stored: None }) };
    let link = LinkRecord { size: stored.size, ..link };
    match files.catalog.put_links(repository, std::slice::from_ref(&link)) {
        Ok(()) | Err(StorageError::NoSpace { .. } | StorageError::ReadOnly) => {
            Ok(Found { link: Some(link), stored: Some(stored) })
        }
        Err(error) => Err(error),
    }
}
