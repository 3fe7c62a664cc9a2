//! Look: the content, records and repositories that are here. No verb of this file changes a
//! record, with one exception: a link whose length its file contradicts is set right. A look for a
//! pusher may take a lease, and content that is found rotten goes to the quarantine.
//!
//! An answer is true at the moment of the look. [`Storage::version`] says whether it may have
//! changed since; [`Storage::hold`](super::super::Storage::hold) before the look keeps it from
//! being collected.

use std::collections::HashSet;

use bytes::Bytes;

use crate::{
    oci::{Digest, MAX_MANIFEST_BYTES, Namespace, Repository, RepositoryName, Tag},
    storage::{
        KeptOpen, LinkRecord, Presence, Storage, StorageError, StoredBlob, TagHistory, TagRecord, blobs::BlobStore,
        files::Files,
    },
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

    /// Whether the repository holds it, and it is here.
    fn is_given_out(&self) -> bool {
        self.is_held() && self.stored.is_some()
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
        self.read_with(move |files| locate(files, &repository, &digest, BlobStore::open)).await
    }

    /// The same for a client that is only told whether the content is here: that is no use of it.
    /// With `stays` the client may push a manifest that needs the content. Then content that the
    /// repository holds is leased, and stays for the grace from now on. Other content gets no
    /// lease.
    pub async fn locate_unnoticed(
        &self,
        repository: &Repository,
        digest: &Digest,
        stays: bool,
    ) -> Result<Found, StorageError> {
        let (repository, digest) = (repository.clone(), *digest);
        self.read_with(move |files| {
            let look = || locate(files, &repository, &digest, BlobStore::open_unnoticed);
            let found = look()?;
            if !stays || !found.is_given_out() {
                return Ok(found);
            }
            // The lease comes before the look that counts.
            let mut hold = files.leases.hold([digest]);
            let found = look();
            if !found.as_ref().is_ok_and(Found::is_given_out) {
                hold.forget([&digest]);
            }
            found
        })
        .await
    }

    /// Keeps a blob open between requests. It is no reader meanwhile: an eviction closes it. From
    /// memory.
    pub fn keep_open(&self, digest: &Digest, blob: &StoredBlob) -> KeptOpen {
        self.files.disk.readers.keep_open(digest, blob)
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

    /// The size in bytes of each digest's content, as far as it is here and cached: 0 for what is
    /// not here, or hosted. To look is no use.
    ///
    /// # Errors
    /// The disk's.
    pub async fn cached_sizes(&self, digests: HashSet<Digest>) -> Result<Vec<(Digest, u64)>, StorageError> {
        self.read_with(move |files| {
            let size = |digest: Digest| {
                let here = files.blobs.size(&digest)?.filter(|_| !files.disk.census.is_hosted(&digest));
                Ok((digest, here.unwrap_or(0)))
            };
            digests.into_iter().map(size).collect()
        })
        .await
    }

    /// Whether a repository links the digest as a manifest. Such content is never evicted.
    pub async fn is_manifest(&self, digest: &Digest) -> Result<bool, StorageError> {
        let digest = *digest;
        self.read_with(move |files| {
            for holder in files.catalog.holders(&digest)? {
                if files.catalog.link(&holder, &digest)?.is_some_and(|link| link.is_manifest()) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    /// Content that is small enough to be a manifest, read and verified again; `None` if it is not
    /// here or larger. Rotten content goes to the quarantine and reads as absent.
    pub async fn read(&self, digest: &Digest) -> Result<Option<Bytes>, StorageError> {
        let digest = *digest;
        self.read_with(move |files| small(files.blobs.read(&digest, MAX_MANIFEST_BYTES))).await
    }

    /// The same, which is no use: neither the index nor the file's access time shows it.
    pub async fn read_unnoticed(&self, digest: &Digest) -> Result<Option<Bytes>, StorageError> {
        let digest = *digest;
        self.read_with(move |files| small(files.blobs.read_unnoticed(&digest, MAX_MANIFEST_BYTES))).await
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
            let read = || small(files.blobs.read(&digest, MAX_MANIFEST_BYTES));
            let bytes = cached().map_or_else(read, |bytes| Ok(Some(bytes)))?;
            Ok((link, bytes))
        })
        .await
    }

    /// What a tag names.
    pub async fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagRecord>, StorageError> {
        let (repository, tag) = (repository.clone(), tag.clone());
        self.read_with(move |files| files.catalog.tag(&repository, &tag)).await
    }

    /// What a tag has named so far. Read from its file.
    pub async fn tag_history(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagHistory>, StorageError> {
        let (repository, tag) = (repository.clone(), tag.clone());
        self.read_with(move |files| files.catalog.tag_history(&repository, &tag)).await
    }

    /// What all of the repository's tags have named so far, in the order of the tags' bytes. Reads
    /// a file for each.
    pub async fn tag_histories(&self, repository: &Repository) -> Result<Vec<TagHistory>, StorageError> {
        let repository = repository.clone();
        self.read_with(move |files| files.catalog.tag_histories(&repository)).await
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

/// What is too large reads as absent.
fn small(read: Result<Option<Bytes>, StorageError>) -> Result<Option<Bytes>, StorageError> {
    match read {
        Err(StorageError::TooLarge { .. }) => Ok(None),
        read => read,
    }
}

type Open = fn(&BlobStore, &Digest) -> Result<Option<StoredBlob>, StorageError>;

fn locate(files: &Files, repository: &Repository, digest: &Digest, open: Open) -> Result<Found, StorageError> {
    let link = files.catalog.link(repository, digest)?;
    let stored = open(&files.blobs, digest)?;
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
