//! The object store behind the disk: S3 and what speaks like it, Azure Blob, Google Cloud Storage.
//!
//! [`Far`] asks little of a store: PUT, multipart, ranged GET, HEAD, DELETE of one key, and LIST.
//! Only [`create`](Far::create) and [`replace`](Far::replace) need a store that honours conditions
//! (RFC 9110 section 13.1). There is no rename, no copy, no tag and no version in it.
//!
//! Promises:
//! - A key is relative to the configured prefix, and nothing outside of the prefix is touched.
//! - An object is what was put under its key, whole, or it is not there. A [`Session`] makes one
//!   object from parts; its name and its parts' marks are text, so that another process can go on.
//! - A call that failed with [`FarError::Unavailable`] may have happened or not. Every other error
//!   says that it did not.
//! - A call ends: with its answer, or after three tries, or when nothing moved for half a minute.
//! - No error and no log line holds a credential, a signature or a signed URL.
//!
//! `object_store` does the signing and the three dialects. Only this folder knows it. Callers: the
//! app, for `config check --reach` ([`probe`](Far::probe)).

mod connector;
mod dial;
mod error;
mod failure;
mod meter;
mod open;
mod probe;

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::{
    GetOptions, GetRange, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion,
    aws::AmazonS3,
    azure::MicrosoftAzure,
    gcp::GoogleCloudStorage,
    list::{PaginatedListOptions, PaginatedListStore},
    multipart::{MultipartStore, PartId},
    path::Path,
};

use self::connector::Observed;
pub use self::{
    error::FarError,
    open::FarOpenError,
    probe::{Finding, Reach},
};

/// The most keys of one page of a listing.
const PAGE: usize = 1000;

/// An object store, or rather the keys below its prefix.
#[derive(Debug)]
pub struct Far {
    store: Store,
    prefix: String,
    /// What an operator knows it by: its kind, its bucket, and its endpoint.
    name: String,
    observed: Arc<Observed>,
}

#[derive(Debug)]
enum Store {
    S3(AmazonS3),
    Azure(MicrosoftAzure),
    Gcs(GoogleCloudStorage),
}

/// Runs one expression on whichever store it is.
macro_rules! on {
    ($far:expr, $store:ident => $what:expr) => {
        match &$far.store {
            Store::S3($store) => $what,
            Store::Azure($store) => $what,
            Store::Gcs($store) => $what,
        }
    };
}

/// What an object is told apart by from what stood under the same key before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    e_tag: Option<String>,
    version: Option<String>,
}

/// A multipart upload to one key. Its fields may be kept, and the upload goes on in another
/// process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// The key of the object that it makes.
    pub key: String,
    /// The store's name for it.
    pub id: String,
}

/// What the store called a part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartMark(pub String);

/// A page of a listing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Page {
    /// Keys and sizes in bytes, in no certain order.
    pub objects: Vec<(String, u64)>,
    /// What the next page is asked for with. `None`: this is the last one.
    pub next: Option<String>,
}

impl Far {
    /// Its kind, its bucket and its endpoint, for a person.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// By how many seconds the store's clock is ahead of this machine's, as of its last answer.
    /// `None` if no answer told.
    pub fn clock_ahead(&self) -> Option<i64> {
        self.observed.clock_ahead()
    }

    /// Puts an object, whatever stood under its key.
    ///
    /// # Errors
    /// The store's.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<Version, FarError> {
        self.put_if(key, bytes, PutMode::Overwrite).await
    }

    /// Puts an object if none has its key.
    ///
    /// # Errors
    /// [`FarError::Conflict`] if one has, and the store's.
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<Version, FarError> {
        self.put_if(key, bytes, PutMode::Create).await
    }

    /// Puts an object in place of the one of this version.
    ///
    /// # Errors
    /// [`FarError::Conflict`] if another one is there by now, or none, and the store's.
    pub async fn replace(&self, key: &str, bytes: Bytes, known: &Version) -> Result<Version, FarError> {
        let known = UpdateVersion { e_tag: known.e_tag.clone(), version: known.version.clone() };
        match self.put_if(key, bytes, PutMode::Update(known)).await {
            // S3 answers 404 to If-Match where there is no object.
            Err(FarError::Missing) => Err(FarError::Conflict),
            done => done,
        }
    }

    async fn put_if(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<Version, FarError> {
        let (path, options) = (self.path(key)?, PutOptions::from(mode));
        let put = on!(self, store => store.put_opts(&path, PutPayload::from_bytes(bytes), options).await)?;
        Ok(Version { e_tag: put.e_tag, version: put.version })
    }

    /// Begins an object in parts. The store keeps the parts until the session is completed or
    /// abandoned, so whoever calls this keeps the session first.
    ///
    /// # Errors
    /// The store's.
    pub async fn begin(&self, key: &str) -> Result<Session, FarError> {
        let path = self.path(key)?;
        let id = on!(self, store => store.create_multipart(&path).await)?;
        Ok(Session { key: key.to_owned(), id })
    }

    /// Sends part `number`, counted from 0. All parts but the last have the configured size.
    ///
    /// # Errors
    /// [`FarError::Missing`] if the session has ended, and the store's.
    pub async fn part(&self, session: &Session, number: usize, bytes: Bytes) -> Result<PartMark, FarError> {
        let (path, payload) = (self.path(&session.key)?, PutPayload::from_bytes(bytes));
        let part = on!(self, store => store.put_part(&path, &session.id, number, payload).await)?;
        Ok(PartMark(part.content_id))
    }

    /// Makes the object from all parts, in order. It may be asked for again: a session that has
    /// made an object of `size` bytes before counts as done.
    ///
    /// # Errors
    /// [`FarError::Missing`] if the session has ended without one, and the store's.
    pub async fn complete(&self, session: &Session, parts: &[PartMark], size: u64) -> Result<(), FarError> {
        let path = self.path(&session.key)?;
        let parts = parts.iter().map(|mark| PartId { content_id: mark.0.clone() }).collect();
        let done = on!(self, store => store.complete_multipart(&path, &session.id, parts).await);
        let error = match done {
            Ok(_) => return Ok(()),
            Err(error) => FarError::from(error),
        };
        // No other session ever has this key, so an object of this size is the one.
        match self.size(&session.key).await {
            Ok(Some(there)) if there == size => Ok(()),
            Ok(_) | Err(_) => Err(error),
        }
    }

    /// Ends a session without an object. Azure drops its parts by itself after a week.
    ///
    /// # Errors
    /// The store's. A session that has ended is none.
    pub async fn abandon(&self, session: &Session) -> Result<(), FarError> {
        let path = self.path(&session.key)?;
        match on!(self, store => store.abort_multipart(&path, &session.id).await).map_err(FarError::from) {
            Ok(()) | Err(FarError::Missing) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads an object of at most `most` bytes.
    ///
    /// # Errors
    /// [`FarError::Missing`], [`FarError::Refused`] if it is longer, and the store's.
    pub async fn read(&self, key: &str, most: u64) -> Result<(Bytes, Version), FarError> {
        let path = self.path(key)?;
        let found = on!(self, store => store.get(&path).await)?;
        if found.meta.size > most {
            return Err(FarError::Refused(format!(
                "{key} has {} bytes; no more than {most} are read",
                found.meta.size
            )));
        }
        let version = Version { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        Ok((found.bytes().await?, version))
    }

    /// Reads a range of an object, which has all of these bytes. `take` gets them as they come.
    ///
    /// # Errors
    /// [`FarError::Missing`], the store's, and [`FarError::Unavailable`] if fewer or more come.
    pub async fn read_range(&self, key: &str, range: Range<u64>, mut take: impl FnMut(Bytes)) -> Result<(), FarError> {
        let (path, mut left) = (self.path(key)?, range.end - range.start);
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let mut bytes = on!(self, store => store.get_opts(&path, options).await)?.into_stream();
        while let Some(piece) = bytes.try_next().await? {
            left = left
                .checked_sub(piece.len() as u64)
                .ok_or_else(|| FarError::Unavailable("the store sent more than it was asked for".into()))?;
            take(piece);
        }
        if left > 0 {
            return Err(FarError::Unavailable(format!("the store's answer ended {left} bytes early")));
        }
        Ok(())
    }

    /// The size of an object in bytes.
    ///
    /// # Errors
    /// The store's.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, FarError> {
        let path = self.path(key)?;
        match on!(self, store => store.head(&path).await).map_err(FarError::from) {
            Ok(found) => Ok(Some(found.size)),
            Err(FarError::Missing) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes an object. One that is not there is removed.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove(&self, key: &str) -> Result<(), FarError> {
        let path = self.path(key)?;
        match on!(self, store => store.delete(&path).await).map_err(FarError::from) {
            Ok(()) | Err(FarError::Missing) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lists the objects whose keys begin with `beginning` and are longer, a page at a time. `next`
    /// is that of the page before.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, beginning: &str, next: Option<String>) -> Result<Page, FarError> {
        let within = self.full(beginning);
        let options =
            PaginatedListOptions { max_keys: Some(PAGE), page_token: next, ..PaginatedListOptions::default() };
        let page = on!(self, store => store.list_paginated(Some(&within), options).await)?;
        let key = |path: &Path| path.as_ref().strip_prefix(&self.full("")).map(str::to_owned);
        // Of an object with just this key, Azure's dialect tells nothing.
        let of_it = |key: &String| key.len() > beginning.len() && key.starts_with(beginning);
        let objects = page.result.objects.iter();
        let objects = objects.filter_map(|found| Some((key(&found.location).filter(of_it)?, found.size))).collect();
        Ok(Page { objects, next: page.page_token })
    }

    fn full(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) }
    }

    fn path(&self, key: &str) -> Result<Path, FarError> {
        Path::parse(self.full(key)).map_err(|error| FarError::Refused(error.to_string()))
    }
}
