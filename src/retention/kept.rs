//! The kept set: the content that is never evicted (K6).
//!
//! A list of [`Source`]s says which images stay: those that are pinned, those that fit a pattern of
//! `cache.keep`, and those that rules of `[[tags]]` keep. The set has everything that these images
//! need, by the first eight bytes of each digest: a digest that begins alike is kept as well. Each
//! repository is looked at anew when its version has changed, and the sources are asked anew when
//! theirs has.
//!
//! Promises:
//! - [`KeptSet::view`] is of this moment: it takes in each pin, tag and link that was acknowledged
//!   before. While a view lives, no newer set takes its place. So an eviction that looks at a view
//!   and goes within its life never meets a pin that was acknowledged meanwhile.
//! - A view may hold back the commits of repositories that change all the time. Who has a view must
//!   not commit, and drops or [loosens](KeptView::loosened) it soon.
//! - If it is not known what an image needs, nothing of its repository is evicted. If it is not
//!   known which repository that is, or it cannot be listed, nothing at all is evicted.
//!
//! Callers: the evictor has a view for each step; `rm` and the forgetting ask whether an image or
//! a name stays, and which manifests do; the administration refreshes it before it acknowledges a
//! pin.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Mutex, OwnedRwLockReadGuard, RwLock};

use super::keep_source::{Concerned, Reason, Source, Stay};
use crate::{
    oci::{Digest, Reference, Repository, Tag},
    storage::{HeldCommits, Storage, StorageError, Unsure, Wanted},
};

/// A view is given up after so many looks that were all overtaken by changes.
const LOOKS: usize = 32;

/// After so many the repositories that change all the time are held still for the next look.
const HASTY: usize = 3;

/// The kept set. One per process.
pub struct KeptSet {
    storage: Storage,
    sources: Vec<Source>,
    state: Arc<RwLock<State>>,
    /// Held while the set is brought up to date.
    work: Mutex<()>,
    /// See [`KeptSet::bytes`].
    bytes: AtomicU64,
}

/// The set at a moment. Nothing newer takes its place while this lives.
pub struct KeptView {
    state: OwnedRwLockReadGuard<State>,
    /// The repositories that change all the time.
    held: Option<HeldCommits>,
}

#[derive(Default)]
struct State {
    /// The versions of the sources; `None`: they have not been asked.
    sources: Option<Vec<u64>>,
    repositories: HashMap<Repository, Entry>,
    /// How many repositories keep a digest that begins so, and how many bytes of it are here.
    beginnings: HashMap<u64, (u32, u64)>,
    /// The sum of these bytes.
    bytes: u64,
    /// It cannot be told what is kept.
    everything: bool,
    /// The repositories whose content cannot be told.
    untold: usize,
}

/// What one repository keeps, as of a version of it.
#[derive(Default)]
struct Entry {
    /// Which images stay is known for this version; `None`: the sources have to be asked.
    asked: Option<u64>,
    /// The images and the version for which `beginnings` was gathered.
    gathered: Option<(Vec<Wanted>, u64)>,
    /// With the bytes that are here, and are not hosted.
    beginnings: Box<[(u64, u64)]>,
    /// How many blobs were hosted then.
    hosted: u64,
    /// Its content cannot be told.
    everything: bool,
    /// The log has said that the repository is not evicted from.
    told: bool,
}

impl KeptSet {
    /// What these sources keep in `storage`. Nothing is looked at before the first view.
    pub fn new(storage: &Storage, sources: Vec<Source>) -> Arc<KeptSet> {
        let (storage, state) = (storage.clone(), Arc::default());
        Arc::new(KeptSet { storage, sources, state, work: Mutex::default(), bytes: AtomicU64::new(0) })
    }

    /// The set of this moment. Costs a look at the version of each repository that keeps something;
    /// only those that changed are read. Commits of a repository that changes faster than it can be
    /// read wait until the view is dropped or [loosened](KeptView::loosened).
    ///
    /// # Errors
    /// It cannot be told what is kept: nothing may be evicted now.
    pub async fn view(&self) -> Result<KeptView, StorageError> {
        let mut held = None;
        for look in 0..LOOKS {
            let state = Arc::clone(&self.state).read_owned().await;
            let stale = self.stale(&state);
            if stale.is_empty() && self.has_sources(&state) {
                return Ok(KeptView { state, held });
            }
            drop(state);
            // Not before the old ones are let go: both may wait for the same turn.
            held = None;
            if look >= HASTY {
                held = Some(self.storage.hold_commits(&stale).await);
            }
            self.refresh().await?;
        }
        Err(StorageError::Lost)
    }

    /// Why an image stays, or its name does; `None`: nothing keeps it for its own sake.
    ///
    /// # Errors
    /// The disk's.
    pub async fn reason(
        &self,
        repository: &Repository,
        tag: Option<&Tag>,
        digest: Option<&Digest>,
    ) -> Result<Option<Reason>, StorageError> {
        let stays = match self.stays(repository, &HashSet::new()).await {
            Ok(stays) => stays,
            Err(Unsure::Storage(error)) => return Err(error),
            Err(unsure) => return Ok(Some(Reason::Untold(unsure.to_string()))),
        };
        let is_it = |reference: &Reference| match reference {
            Reference::Tag(kept) => Some(kept) == tag,
            Reference::Digest(kept) => Some(kept) == digest,
        };
        Ok(stays.into_iter().find(|stay| is_it(&stay.reference)).map(|stay| stay.reason))
    }

    /// The images of a repository whose content stays, each with its reason, those that are pinned
    /// first.
    ///
    /// # Errors
    /// [`Unsure`]: it cannot be told.
    pub async fn reasons(&self, repository: &Repository) -> Result<Vec<(Reference, Reason)>, Unsure> {
        let stays = self.stays(repository, &HashSet::new()).await?.into_iter();
        Ok(stays.filter(|stay| stay.content.is_some()).map(|stay| (stay.reference, stay.reason)).collect())
    }

    /// The manifests of a repository that stay for their own sake, also if these tags and pins go.
    ///
    /// # Errors
    /// [`Unsure`]: it cannot be told.
    pub async fn manifests_without(
        &self,
        repository: &Repository,
        tags: &HashSet<Tag>,
        pins: &[Reference],
    ) -> Result<HashSet<Digest>, Unsure> {
        let mut manifests = HashSet::new();
        for Stay { reference, reason, content } in self.stays(repository, tags).await? {
            if content.is_none() || (reason == Reason::Pinned && pins.contains(&reference)) {
                continue;
            }
            match reference {
                Reference::Digest(digest) => drop(manifests.insert(digest)),
                Reference::Tag(tag) if tags.contains(&tag) => {}
                Reference::Tag(tag) => match self.storage.tag(repository, &tag).await? {
                    Some(record) => drop(manifests.insert(record.digest)),
                    None if self.storage.tag_names(repository).await?.contains(&tag) => return Err(Unsure::Tag(tag)),
                    // The pin of a tag may come before the tag.
                    None => {}
                },
            }
        }
        Ok(manifests)
    }

    /// The patterns of `cache.keep`.
    pub fn patterns(&self) -> Vec<String> {
        let patterns = |source: &Source| match source {
            Source::Pins | Source::Rules(_) | Source::LockFiles(_) => Vec::new(),
            Source::Patterns(patterns) => patterns.iter().map(ToString::to_string).collect(),
        };
        self.sources.iter().flat_map(patterns).collect()
    }

    /// The bytes of cached content that stays, as of the last look. From memory.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    async fn beginnings(&self, digests: HashSet<Digest>) -> Result<Box<[(u64, u64)]>, StorageError> {
        let sizes = self.storage.cached_sizes(digests).await?;
        let all: HashMap<_, _> = sizes.iter().map(|(digest, size)| (beginning(digest), *size)).collect();
        Ok(all.into_iter().collect())
    }

    fn versions(&self) -> Vec<u64> {
        self.sources.iter().map(|source| source.version(&self.storage)).collect()
    }

    fn has_sources(&self, state: &State) -> bool {
        state.sources.as_ref() == Some(&self.versions())
    }

    /// The repositories that have changed since they were looked at.
    fn stale(&self, state: &State) -> Vec<Repository> {
        let is_stale = |(name, entry): &(&Repository, &Entry)| entry.asked != Some(self.storage.version(name));
        state.repositories.iter().filter(is_stale).map(|(name, _)| name.clone()).collect()
    }

    /// Brings the set up to date once. What it was before counts until what it is now does.
    async fn refresh(&self) -> Result<(), StorageError> {
        let _work = self.work.lock().await;
        let versions = self.versions();
        let before = self.state.read().await.sources.clone();
        if before.as_ref() != Some(&versions) {
            let changed = |at: usize| before.as_ref().is_none_or(|before| before.get(at) != versions.get(at));
            let mut sources = self.sources.iter().enumerate();
            let anew = sources.any(|(at, source)| changed(at) && source.speaks_anew());
            let mut all = Concerned::default();
            for source in &self.sources {
                let concerned = source.concerned(&self.storage).await?;
                all.repositories.extend(concerned.repositories);
                all.untold |= concerned.untold;
            }
            self.state.write().await.concern(all, versions, anew);
        }
        let due: Vec<_> = {
            let state = self.state.read().await;
            let before =
                |name: &Repository| state.repositories.get(name).map(|entry| (entry.gathered.clone(), entry.told));
            let due = self.stale(&state).into_iter();
            due.filter_map(|name| before(&name).map(|(gathered, told)| (name, gathered, told))).collect()
        };
        for (repository, gathered, told) in due {
            // Before the look: what changes meanwhile is looked at again.
            let version = self.storage.version(&repository);
            let wanted = match self.wanted(&repository).await {
                Err(Unsure::Storage(error)) => return Err(error),
                wanted => wanted,
            };
            let is_known =
                |wanted: &Vec<Wanted>| gathered.as_ref().is_some_and(|(of, at)| of == wanted && *at == version);
            if wanted.as_ref().is_ok_and(is_known) {
                self.state.write().await.confirm(&repository, version);
                continue;
            }
            let hosted = self.storage.usage().hosted_blobs;
            let entry = Entry { hosted, ..self.look(&repository, wanted, version, told).await? };
            self.state.write().await.put(repository, entry);
        }
        let state = self.state.read().await;
        self.bytes.store(state.bytes, Ordering::Relaxed);
        // What is pushed as well counts no more as cached. Without a look at all of it nobody knows
        // how much that is, and too much would keep downloads from making room.
        let hosted = self.storage.usage().hosted_blobs;
        let is_exact = state.repositories.values().all(|entry| entry.beginnings.is_empty() || entry.hosted == hosted);
        self.storage.note_stays(if is_exact { state.bytes } else { 0 });
        Ok(())
    }

    /// What of a repository stays, if these tags of it are not there.
    async fn stays(&self, repository: &Repository, without: &HashSet<Tag>) -> Result<Vec<Stay>, Unsure> {
        let mut all = Vec::new();
        for source in &self.sources {
            all.extend(source.stays(&self.storage, repository, without).await?);
        }
        Ok(all)
    }

    /// The images of a repository that stay.
    async fn wanted(&self, repository: &Repository) -> Result<Vec<Wanted>, Unsure> {
        let stays = self.stays(repository, &HashSet::new()).await?.into_iter();
        let wanted = stays
            .filter_map(|Stay { reference, content, .. }| content.map(|platforms| Wanted { reference, platforms }));
        Ok(wanted.collect())
    }

    /// Looks at one repository.
    async fn look(
        &self,
        repository: &Repository,
        wanted: Result<Vec<Wanted>, Unsure>,
        version: u64,
        told: bool,
    ) -> Result<Entry, StorageError> {
        let asked = Some(version);
        let kept = match wanted {
            Ok(wanted) => {
                let kept = self.storage.kept_content(repository, wanted.clone()).await;
                kept.map(|kept| (kept, wanted))
            }
            Err(unsure) => Err(unsure),
        };
        let why = match kept {
            Ok((kept, wanted)) => {
                let gathered = Some((wanted, version));
                return Ok(Entry { asked, gathered, beginnings: self.beginnings(kept).await?, ..Entry::default() });
            }
            Err(unsure) => unsure.to_string(),
        };
        // What cannot be told is looked at again with the next change.
        let unsure = Entry { asked, told: true, ..Entry::default() };
        if !told {
            tracing::warn!(repo = %repository, %why, "an image is to stay, and what it needs is not known: nothing of its repository is evicted");
        }
        match self.storage.everything_of(repository).await {
            Ok(all) => Ok(Entry { beginnings: self.beginnings(all).await?, ..unsure }),
            Err(error) => {
                tracing::warn!(repo = %repository, %error, "its content cannot be listed: nothing at all is evicted");
                Ok(Entry { everything: true, ..unsure })
            }
        }
    }
}

impl KeptView {
    /// Lets changes go on. From then on it is a hint, but for the pins.
    pub fn loosened(mut self) -> KeptView {
        drop(self.held.take());
        self
    }

    /// Whether the content stays, whatever room is needed.
    pub fn keeps(&self, digest: &Digest) -> bool {
        let state = &self.state;
        state.everything || state.untold > 0 || state.beginnings.contains_key(&beginning(digest))
    }
}

impl State {
    /// Takes in which repositories the sources are about.
    fn concern(&mut self, all: Concerned, versions: Vec<u64>, anew: bool) {
        self.everything = all.untold;
        let gone: Vec<_> = self.repositories.keys().filter(|name| !all.repositories.contains(name)).cloned().collect();
        for repository in gone {
            self.forget(&repository);
        }
        for repository in all.repositories {
            let entry = self.repositories.entry(repository).or_default();
            // What it kept counts until the sources have been asked.
            entry.asked = entry.asked.filter(|_| !anew);
        }
        self.sources = Some(versions);
    }

    /// Nothing has changed for the repository.
    fn confirm(&mut self, repository: &Repository, version: u64) {
        if let Some(entry) = self.repositories.get_mut(repository) {
            entry.asked = Some(version);
        }
    }

    fn put(&mut self, repository: Repository, entry: Entry) {
        for (beginning, bytes) in &entry.beginnings {
            let (count, counted) = self.beginnings.entry(*beginning).or_default();
            *count += 1;
            self.bytes = self.bytes - *counted + bytes;
            *counted = *bytes;
        }
        self.forget(&repository);
        self.untold += usize::from(entry.everything);
        self.repositories.insert(repository, entry);
    }

    fn forget(&mut self, repository: &Repository) {
        let Some(entry) = self.repositories.remove(repository) else { return };
        self.untold -= usize::from(entry.everything);
        for (beginning, _) in &entry.beginnings {
            if let Some((count, bytes)) = self.beginnings.get_mut(beginning) {
                *count -= 1;
                if *count == 0 {
                    self.bytes -= *bytes;
                    self.beginnings.remove(beginning);
                }
            }
        }
    }
}

fn beginning(digest: &Digest) -> u64 {
    let bytes = digest.as_bytes().iter().take(8);
    bytes.fold(0, |beginning, byte| beginning << 8 | u64::from(*byte))
}
