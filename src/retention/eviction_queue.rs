//! The queue of what is evicted next: harvests of the lowest scores, each candidate looked at again
//! before it goes.
//!
//! | content | then |
//! |---|---|
//! | an unfinished download that is not under way | goes before all else, the oldest first |
//! | that changed since the scan | is left to the next harvest |
//! | that is pinned or kept otherwise | is left out of the scans (K6) |
//! | that is hosted, a manifest, or the collector's | is left out of the scans for a minute |
//! | that is read, held, promised for a moment, or has just come | is left out of this round |
//! | that was promised for longer, or cannot be removed | is left out of the scans for a minute |
//! | whose upstreams do not answer | goes after all else, and for the disk's sake alone |
//! | all other | goes, the lowest score first |
//!
//! Content is promised while a client counts on the answer that it is here (K7). While everything
//! that is here has to stay, scans take a fifth of the time at most. Callers: the evictor and
//! `trim.rs`, one at a time.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    KeptSet, RetentionError,
    turns::{Gathering, Harvest, Resident, Turn},
};
use crate::{
    oci::{Digest, Namespace, Repository, UpstreamName},
    runtime::clock,
    storage::{AheadOfTime, BlobUse, Eviction, KeptFor, Storage},
};

/// A harvest that is older than this is thrown away.
const FRESH: Duration = Duration::from_secs(60);

/// How long content that stays is left out of the scans.
const LEFT_OUT: Duration = Duration::from_secs(60);

/// The least pause after a scan that found nothing; at least four times as long as it took.
const AGAIN: Duration = Duration::from_millis(50);

/// Errors are told again after this time.
const TOLD: Duration = Duration::from_secs(3600);

/// The link of content comes within so many milliseconds.
const COMES: u64 = 60_000;

/// For how many turns an evicted digest keeps its number of uses.
const REMEMBERED: f64 = 4.0;

/// How long a step waits until it is known whether an upstream answers, and how often it asks.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);
const ASKED_EVERY: Duration = Duration::from_millis(10);

/// Whether an upstream answers; `None`: not known yet, and found out in a moment.
pub type Answers = Box<dyn Fn(&UpstreamName) -> Option<bool> + Send + Sync>;

/// What content goes for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sake {
    /// `max_size`, or an operator.
    MaxSize,
    /// `min_free`.
    Disk,
}

/// See the module.
pub(super) struct EvictionQueue {
    storage: Storage,
    answers: Answers,
    kept: Arc<KeptSet>,
    turn: Turn,
    harvest: Option<(Instant, Harvest<Digest>)>,
    /// Content that stays, and since when such content is gathered.
    stays: HashSet<Digest>,
    since: Instant,
    /// Content that stays for this round.
    busy: HashSet<Digest>,
    /// Of what stays, what goes after all else.
    last: Vec<Resident<Digest>>,
    /// Upstreams of which it was not found out in time whether they answer.
    silent: HashSet<UpstreamName>,
    /// When the last scan was over, and how long it took.
    scanned: Option<(Instant, Duration)>,
    /// It found nothing.
    in_vain: bool,
    /// Content could not be removed, since such content is gathered.
    failed: bool,
    told: Option<Instant>,
    /// When the kept set was looked at without an eviction.
    looked: Option<Instant>,
}

impl EvictionQueue {
    pub(super) fn new(storage: Storage, answers: Answers, kept: Arc<KeptSet>) -> EvictionQueue {
        EvictionQueue {
            storage,
            answers,
            kept,
            turn: Turn::default(),
            harvest: None,
            stays: HashSet::new(),
            since: Instant::now(),
            busy: HashSet::new(),
            last: Vec::new(),
            silent: HashSet::new(),
            scanned: None,
            in_vain: false,
            failed: false,
            told: None,
            looked: None,
        }
    }

    /// The turn of this moment.
    pub(super) fn turn(&self) -> Turn {
        self.turn
    }

    /// Begins a round: what was busy is looked at again.
    pub(super) fn begin_round(&mut self) {
        if !self.has_just_scanned() {
            self.busy.clear();
        }
        if self.since.elapsed() >= LEFT_OUT {
            (self.harvest, self.since) = (None, Instant::now());
            self.stays.clear();
            self.last.clear();
            self.silent.clear();
            (self.failed, self.in_vain) = (false, false);
        }
    }

    /// Whether another scan would hardly find more.
    fn has_just_scanned(&self) -> bool {
        self.in_vain && self.scanned.is_some_and(|(over, _)| over.elapsed() < self.pause())
    }

    /// Whether some content stays for this round only.
    pub(super) fn is_blocked(&self) -> bool {
        !self.busy.is_empty()
    }

    /// How long after a scan that found nothing the next one is.
    pub(super) fn pause(&self) -> Duration {
        self.scanned.map_or(AGAIN, |(_, took)| AGAIN.max(4 * took))
    }

    /// Says that content cannot be removed.
    pub(super) fn tell(&mut self, error: &RetentionError) {
        if error.is_expected() {
            tracing::debug!(%error, "nothing is evicted");
        } else if self.told.is_none_or(|told| told.elapsed() >= TOLD) {
            self.told = Some(Instant::now());
            tracing::warn!(%error, "cached content cannot be removed; until that ends, some new content is not kept");
        }
    }

    /// Brings the kept set up to date, once in a minute at most, so that its bytes are told.
    pub(super) async fn look_at_kept(&mut self) -> Result<(), RetentionError> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= FRESH) {
            self.looked = Some(Instant::now());
            self.kept.view().await?;
        }
        Ok(())
    }

    /// Evicts the next content that may go. The bytes that are free now; `None`: nothing is left.
    pub(super) async fn evict_next(&mut self, sake: Sake) -> Result<Option<u64>, RetentionError> {
        let (_, parked) = self.storage.promised();
        if parked > 0
            && let Some(bytes) = self.storage.discard_oldest_leftover().await?
        {
            return Ok(Some(bytes));
        }
        while let Some((candidate, holders)) = self.next().await? {
            if !self.can_come_again(&holders).await {
                self.stays.insert(candidate.key);
                self.last.push(candidate);
            } else if let Some(bytes) = self.evict(&candidate).await? {
                return Ok(Some(bytes));
            }
        }
        while sake == Sake::Disk
            && let Some(candidate) = self.last.pop()
        {
            if let Some(bytes) = self.evict(&candidate).await? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// What would go next for `bytes`, for the cap's sake, with the bytes of each; changes nothing
    /// but the queue's own memory, so that the plan begins a round.
    pub(super) async fn plan(&mut self, bytes: u64) -> Result<Vec<(Digest, u64)>, RetentionError> {
        let (mut plan, mut sum) = (Vec::new(), 0_u64);
        while sum < bytes
            && let Some((candidate, holders)) = self.next().await?
        {
            let digest = candidate.key;
            // The next scan leaves it out.
            self.busy.insert(digest);
            let stays = self.kept.view().await?.keeps(&digest) || self.storage.would_stay(&digest).await?.is_some();
            if !stays && self.can_come_again(&holders).await {
                sum = sum.saturating_add(candidate.size);
                plan.push((digest, candidate.size));
            }
        }
        (self.harvest, self.in_vain) = (None, false);
        self.busy.clear();
        Ok(plan)
    }

    /// The next candidate that is as the scan saw it, and who links it.
    async fn next(&mut self) -> Result<Option<(Resident<Digest>, Vec<Repository>)>, RetentionError> {
        loop {
            let fresh = self.harvest.take().filter(|(scanned, _)| scanned.elapsed() < FRESH);
            let (scanned, mut harvest) = match fresh {
                Some(fresh) => fresh,
                None if self.has_just_scanned() => return Ok(None),
                None => (Instant::now(), self.gather().await?),
            };
            let Some(seen) = harvest.pop() else { return Ok(None) };
            self.harvest = (!harvest.is_empty()).then_some((scanned, harvest));
            let Some((now, holders)) = self.storage.use_and_holders(&seen.key).await? else { continue };
            if resident(seen.key, now) == seen && !self.busy.contains(&seen.key) {
                return Ok(Some((seen, holders)));
            }
        }
    }

    /// Whether some upstream that has it answers, or no repository links it. Waits for a moment
    /// where that is not known yet.
    async fn can_come_again(&mut self, holders: &[Repository]) -> bool {
        let until = Instant::now() + KNOWN_WITHIN;
        loop {
            match self.answer(holders) {
                Some(can) => return can,
                None if Instant::now() < until => tokio::time::sleep(ASKED_EVERY).await,
                // Its other content does not wait for it again.
                None => self.silent.extend(holders.iter().filter_map(upstream).cloned()),
            }
        }
    }

    fn answer(&self, holders: &[Repository]) -> Option<bool> {
        let mut is_known = true;
        for name in holders.iter().filter_map(upstream) {
            match (self.answers)(name) {
                Some(true) => return Some(true),
                None if !self.silent.contains(name) => is_known = false,
                Some(false) | None => {}
            }
        }
        is_known.then_some(holders.is_empty())
    }

    /// Evicts it, or notes that it stays.
    async fn evict(&mut self, candidate: &Resident<Digest>) -> Result<Option<u64>, RetentionError> {
        let (digest, now) = (candidate.key, clock::milliseconds());
        // Before the first turn is known, everything is remembered.
        let remembered = self.turn.age().map_or(u64::MAX, |turn| now.saturating_add((REMEMBERED * turn) as u64));
        // The view lives until the content is gone, so that no pin comes between (K6).
        let kept = self.kept.view().await?;
        if kept.keeps(&digest) {
            self.stays.insert(digest);
            return Ok(None);
        }
        let evicted = self.storage.evict(&digest, remembered).await.map_err(RetentionError::from);
        drop(kept);
        let evicted = match evicted {
            Err(error) if !self.failed && !error.is_expected() => {
                self.failed = true;
                self.stays.insert(digest);
                self.tell(&error);
                return Ok(None);
            }
            evicted => evicted?,
        };
        match evicted {
            Eviction::Evicted(bytes) => {
                self.turn.evicted(candidate, now);
                tracing::debug!(%digest, bytes, uses = candidate.uses, "evicted");
                return Ok(Some(bytes));
            }
            Eviction::Kept(KeptFor::Reader | KeptFor::Held | KeptFor::Uncounted) => {
                self.busy.insert(digest);
            }
            Eviction::Kept(KeptFor::Promise(left)) if left < LEFT_OUT => {
                self.busy.insert(digest);
            }
            // It has just come, and its link comes next.
            Eviction::Kept(KeptFor::Unlinked) if candidate.last.saturating_add(COMES) >= now => {
                self.busy.insert(digest);
            }
            Eviction::Kept(
                KeptFor::Hosted | KeptFor::Manifest | KeptFor::Unlinked | KeptFor::Promise(_) | KeptFor::Absent,
            ) => {
                self.stays.insert(digest);
            }
        }
        Ok(None)
    }

    /// One scan for the content that goes next.
    async fn gather(&mut self) -> Result<Harvest<Digest>, RetentionError> {
        let stored = usize::try_from(self.storage.usage().blobs).unwrap_or(usize::MAX);
        let now = clock::milliseconds();
        let gathering = Gathering::new(stored, self.turn, now);
        let stays: HashSet<_> = self.stays.union(&self.busy).copied().collect();
        let (storage, began) = (self.storage.clone(), Instant::now());
        // Each candidate is looked at again before it goes.
        let kept = self.kept.view().await?.loosened();
        let found = (gathering, AheadOfTime::at(now));
        let gathered = self.storage.residents(found, move |(gathering, ahead), digest, found| {
            ahead.see(&digest, found);
            if !stays.contains(&digest) && !storage.is_hosted(&digest) && !kept.keeps(&digest) {
                gathering.see(resident(digest, found));
            }
        });
        let (gathering, ahead) = gathered.await?;
        self.storage.set_back(ahead);
        let harvest = gathering.end();
        self.scanned = Some((Instant::now(), began.elapsed()));
        self.in_vain = harvest.is_empty();
        Ok(harvest)
    }
}

fn upstream(holder: &Repository) -> Option<&UpstreamName> {
    match &holder.namespace {
        Namespace::Upstream(name) => Some(name),
        Namespace::Hosted => None,
    }
}

fn resident(digest: Digest, BlobUse { size, last, uses, .. }: BlobUse) -> Resident<Digest> {
    Resident { key: digest, size, last, uses }
}
