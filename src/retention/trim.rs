//! Trim: an operator lets cached content go now, in the order in which it would go anyway.
//!
//! It evicts what the evictor would evict next for the cap's sake, and waits for nothing. A plan
//! says the same and changes nothing (K14). Callers: admin.

use std::sync::atomic::Ordering;

use super::{Evictor, RetentionError, eviction_queue::Sake, report::Trimmed};

/// How far to trim, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrimTarget {
    /// So many bytes go, or a little more.
    Free(u64),
    /// So many bytes of cached content stay, or a little less.
    To(u64),
}

impl Evictor {
    /// Evicts now, until the target is reached or nothing is left that may go.
    ///
    /// # Errors
    /// The disk's. What went before stays gone.
    pub async fn trim(&self, target: TrimTarget) -> Result<Trimmed, RetentionError> {
        let mut queue = self.queue.lock().await;
        queue.begin_round();
        let wanted = self.wanted(target);
        let mut trimmed = Trimmed::default();
        while trimmed.bytes < wanted
            && let Some(bytes) = queue.evict_next(Sake::MaxSize).await?
        {
            self.counts.trim.fetch_add(bytes, Ordering::Relaxed);
            trimmed.blobs += 1;
            trimmed.bytes += bytes;
        }
        self.note(queue.turn());
        trimmed.missing = wanted.saturating_sub(trimmed.bytes);
        Ok(trimmed)
    }

    /// What [`trim`](Self::trim) would do now. Changes nothing, no last use either.
    ///
    /// # Errors
    /// The disk's.
    pub async fn plan_trim(&self, target: TrimTarget) -> Result<Trimmed, RetentionError> {
        let mut queue = self.queue.lock().await;
        queue.begin_round();
        let wanted = self.wanted(target);
        let mut trimmed = Trimmed::default();
        for bytes in self.storage.leftovers().await? {
            if trimmed.bytes < wanted {
                trimmed.blobs += 1;
                trimmed.bytes += bytes;
            }
        }
        let plan = queue.plan(wanted.saturating_sub(trimmed.bytes)).await?;
        trimmed.blobs += plan.len() as u64;
        trimmed.bytes += plan.iter().map(|(_, bytes)| bytes).sum::<u64>();
        trimmed.missing = wanted.saturating_sub(trimmed.bytes);
        Ok(trimmed)
    }

    /// How many bytes are to go. Unfinished downloads count as cached.
    fn wanted(&self, target: TrimTarget) -> u64 {
        let (_, parked) = self.storage.promised();
        match target {
            TrimTarget::Free(bytes) => bytes,
            TrimTarget::To(bytes) => (self.cached() + parked).saturating_sub(bytes),
        }
    }
}
