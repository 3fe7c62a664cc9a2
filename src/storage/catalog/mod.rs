//! The catalogue: what the tags of each repository name, and which content it links.
//!
//! [`Catalog`] is the seam. The verbs of [`Storage`](super::Storage) use its operations and nothing
//! of a variant, and `storage/suite/` runs the same tests on each one. Each operation is whole by
//! itself: a concurrent reader sees the records before it or after it. The verbs decide which
//! operations belong together, and in which order. Content is not part of a catalogue.
//!
//! Callers: the verbs, the needs, and the removal of blobs.

#[cfg(test)]
mod failing;
mod files;
mod history;
#[cfg(test)]
mod memory;
mod pushed;
mod records;

#[cfg(test)]
pub(in crate::storage) use self::{
    failing::{Faults, When},
    memory::MemoryCatalog,
};
pub(in crate::storage) use files::FileCatalog;
pub use history::{MOVES, PastTarget, TagHistory};
pub use records::{LinkRecord, LinkRight, Presence, TagRecord};

use super::StorageError;
use crate::oci::{Digest, Namespace, Repository, RepositoryName, Tag};

/// The tags and links of every repository. Every operation that can fail does so with the error of
/// the store below: [`StorageError::Io`] and its kind. A write fails besides with
/// [`StorageError::Closed`] and [`StorageError::ReadOnly`] where nothing may be written. After the
/// error of a write its records may be as before or as after.
#[derive(Debug)]
pub(crate) enum Catalog {
    /// Files in the data folder, with the index over them.
    Files(FileCatalog),
    /// Maps in memory: a second one, to prove the seam.
    #[cfg(test)]
    Memory(MemoryCatalog),
    /// Another one, of which an operation fails when the test says so.
    #[cfg(test)]
    Failing(Box<Catalog>, Faults),
}

/// Calls the variant. An operation of a failing one goes by its faults.
macro_rules! on {
    ($self:expr, $catalog:ident => $call:expr) => {
        match $self {
            Catalog::Files($catalog) => $call,
            #[cfg(test)]
            Catalog::Memory($catalog) => $call,
            #[cfg(test)]
            Catalog::Failing($catalog, faults) => faults.pass(|| $call),
        }
    };
}

/// Versions and single looks.
impl Catalog {
    /// A number that each change of the repository raises, and some changes of others, after the
    /// change is readable and before it is acknowledged. An answer that was looked for after this
    /// was asked is good while the number stays the same. No lock and no disk: for every request.
    pub(crate) fn version(&self, repository: &Repository) -> u64 {
        match self {
            Catalog::Files(catalog) => catalog.version(repository),
            #[cfg(test)]
            Catalog::Memory(catalog) => catalog.version(repository),
            #[cfg(test)]
            Catalog::Failing(catalog, _) => catalog.version(repository),
        }
    }

    /// How much there is of a repository. It is known from its first manifest or tag on, also when
    /// its last tag and link have gone. Blobs alone do not make it known: a push may have broken
    /// off before there was an image. Except for [`Presence::Unseen`] the answer is good for a
    /// [`version`](Self::version). Cheap enough for every request.
    pub(crate) fn presence(&self, repository: &Repository) -> Presence {
        match self {
            Catalog::Files(catalog) => catalog.presence(repository),
            #[cfg(test)]
            Catalog::Memory(catalog) => catalog.presence(repository),
            #[cfg(test)]
            Catalog::Failing(catalog, faults) => {
                faults.pass(|| Ok(catalog.presence(repository))).unwrap_or(Presence::Unseen)
            }
        }
    }

    /// Whether the repository is known. One that cannot be looked at is: a hosted name must not
    /// seem free because the disk fails for a moment.
    pub(crate) fn knows(&self, repository: &Repository) -> bool {
        matches!(self.presence(repository), Presence::Known | Presence::Unseen)
    }

    /// Whether the repository has a link of the digest, good or damaged. A link that cannot be
    /// looked at counts as there. Cheap enough for every request.
    pub(crate) fn holds(&self, repository: &Repository, digest: &Digest) -> bool {
        match self {
            Catalog::Files(catalog) => catalog.holds(repository, digest),
            #[cfg(test)]
            Catalog::Memory(catalog) => catalog.holds(repository, digest),
            #[cfg(test)]
            Catalog::Failing(catalog, faults) => faults.pass(|| Ok(catalog.holds(repository, digest))).unwrap_or(true),
        }
    }
}

/// Tags.
impl Catalog {
    /// The tag's record; `None` if the repository does not have the tag, or its record is damaged.
    pub(crate) fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagRecord>, StorageError> {
        on!(self, catalog => catalog.tag(repository, tag))
    }

    /// Makes the tag name what the record says, durably. What it named before goes into its
    /// [history](Self::tag_histories). The repository is known from then on.
    pub(crate) fn put_tag(&self, repository: &Repository, record: &TagRecord) -> Result<(), StorageError> {
        on!(self, catalog => catalog.put_tag(repository, record))
    }

    /// Removes the tag, durably; the link and the content that it named stay. Says whether it was
    /// there.
    pub(crate) fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool, StorageError> {
        on!(self, catalog => catalog.delete_tag(repository, tag))
    }

    /// The repository's tags, in the order of their bytes.
    #[cfg(test)]
    pub(crate) fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, StorageError> {
        self.tags_after(repository, None, usize::MAX)
    }

    /// The repository's first `limit` tags that sort after `last`, in the order of their bytes;
    /// none for a repository that is absent. `last` need not be a tag.
    pub(crate) fn tags_after(
        &self,
        repository: &Repository,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Tag>, StorageError> {
        on!(self, catalog => catalog.tags_after(repository, last, limit))
    }

    /// The records of all of the repository's tags, in the order of the tags' bytes.
    pub(crate) fn tag_records(&self, repository: &Repository) -> Result<Vec<TagRecord>, StorageError> {
        on!(self, catalog => catalog.tag_records(repository))
    }

    /// What the tag has named so far; `None` as for [`tag`](Self::tag). Read from its file.
    pub(crate) fn tag_history(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagHistory>, StorageError> {
        on!(self, catalog => catalog.tag_history(repository, tag))
    }

    /// What all of the repository's tags have named so far, in the order of the tags' bytes. Reads
    /// a file for each.
    pub(crate) fn tag_histories(&self, repository: &Repository) -> Result<Vec<TagHistory>, StorageError> {
        on!(self, catalog => catalog.tag_histories(repository))
    }

    /// The repository's tags that have a record, good or damaged, in no order.
    pub(in crate::storage) fn tag_files(&self, repository: &Repository) -> Result<Vec<Tag>, StorageError> {
        on!(self, catalog => catalog.tag_files(repository))
    }

    /// The repository's tags that name the digest, in the order of their bytes.
    pub(crate) fn tags_naming(&self, repository: &Repository, digest: &Digest) -> Result<Vec<Tag>, StorageError> {
        let naming = self.tag_records(repository)?.into_iter().filter(|record| record.digest == *digest);
        Ok(naming.map(|record| record.tag).collect())
    }
}

/// Links.
impl Catalog {
    /// The repository's record of the digest; `None` if it has no link of it, or a damaged one.
    pub(crate) fn link(&self, repository: &Repository, digest: &Digest) -> Result<Option<LinkRecord>, StorageError> {
        on!(self, catalog => catalog.link(repository, digest))
    }

    /// Links the digests, durably. A record that is there already, except for its time, stays as it
    /// is. The digests are leased from then on, except for those of [`LinkRight::Named`]. With a
    /// manifest the repository is known from then on. No records change nothing.
    ///
    /// Errors: [`StorageError::Gone`] if the content of a [`LinkRight::Pushed`] is not here; then
    /// nothing is linked. Content of the other rights may be missing: it was only named, or
    /// upstream has it. Of this and a removal of the same content one comes first.
    pub(crate) fn put_links(&self, repository: &Repository, records: &[LinkRecord]) -> Result<(), StorageError> {
        on!(self, catalog => catalog.put_links(repository, records))
    }

    /// Removes the link, durably; the content stays. Says whether it was there.
    pub(crate) fn delete_link(&self, repository: &Repository, digest: &Digest) -> Result<bool, StorageError> {
        on!(self, catalog => catalog.delete_link(repository, digest))
    }

    /// All of the repository's links, in the order of digests.
    pub(crate) fn links(&self, repository: &Repository) -> Result<Vec<LinkRecord>, StorageError> {
        on!(self, catalog => catalog.links(repository))
    }

    /// The digests of which the repository has a link, good or damaged, in no order.
    pub(in crate::storage) fn link_files(&self, repository: &Repository) -> Result<Vec<Digest>, StorageError> {
        on!(self, catalog => catalog.link_files(repository))
    }

    /// Links of the repository whose subject is `subject`, in the order of digests: some after
    /// `last`, and the digest after which there may be more. `limit` of them at most where it looks
    /// them up; all at once where it has to read every link for them.
    pub(crate) fn referrers_after(
        &self,
        repository: &Repository,
        subject: &Digest,
        last: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<LinkRecord>, Option<Digest>), StorageError> {
        on!(self, catalog => catalog.referrers_after(repository, subject, last, limit))
    }

    /// Whether the repository has a link that cannot be read, so that its links are not all known.
    pub(crate) fn has_damaged_link(&self, repository: &Repository) -> Result<bool, StorageError> {
        on!(self, catalog => catalog.has_damaged_link(repository))
    }

    /// The repositories that link the digest, sorted: hosted ones first.
    pub(crate) fn holders(&self, digest: &Digest) -> Result<Vec<Repository>, StorageError> {
        on!(self, catalog => catalog.holders(digest))
    }

    /// Whether a repository has a link of the digest, good or damaged. "No" comes from the records
    /// themselves and not from an index alone: content is removed for it.
    pub(in crate::storage) fn is_held(&self, digest: &Digest) -> Result<bool, StorageError> {
        on!(self, catalog => catalog.is_held(digest))
    }
}

/// Repositories.
impl Catalog {
    /// All of the namespace's repositories that have a tag or a link, in the order of their bytes.
    pub(crate) fn repositories(&self, namespace: &Namespace) -> Result<Vec<RepositoryName>, StorageError> {
        self.repositories_after(namespace, None, usize::MAX)
    }

    /// The first `limit` of them after `last`, which need not be one of them.
    pub(crate) fn repositories_after(
        &self,
        namespace: &Namespace,
        last: Option<&RepositoryName>,
        limit: usize,
    ) -> Result<Vec<RepositoryName>, StorageError> {
        on!(self, catalog => catalog.repositories_after(namespace, last, limit))
    }

    /// Every repository of the namespace that was ever begun, in the order of bytes: also those
    /// that hold nothing or cannot be looked into.
    pub(crate) fn folders(&self, namespace: &Namespace) -> Result<Vec<RepositoryName>, StorageError> {
        on!(self, catalog => catalog.folders(namespace))
    }

    /// The namespaces that have such a repository, and perhaps others.
    pub(crate) fn namespaces(&self) -> Result<Vec<Namespace>, StorageError> {
        on!(self, catalog => catalog.namespaces())
    }
}

#[cfg(test)]
impl Catalog {
    /// The files, for tests of what only they have.
    pub(in crate::storage) fn in_files(&self) -> &FileCatalog {
        match self {
            Catalog::Files(catalog) => catalog,
            Catalog::Memory(_) => unreachable!("it has no files"),
            Catalog::Failing(catalog, _) => catalog.in_files(),
        }
    }
}
