//! Whether `max_size` and `min_free` leave room for a download. `attempt` asks:
//!
//! | when | for how many bytes |
//! |---|---|
//! | before anything is fetched | the manifest's length; if that does not fit, upstream's |
//! | an answer states a length | four times what is here and a step, that length at most |
//! | these have come, or 64 MiB | the same: other downloads write too |
//! | bytes come without a length, or beyond it | those bytes: they may never end |
//!
//! Cached content makes room for all but a manifest's length, which may be a lie; for bytes without
//! a length only up to half of the cache. A length may be a lie, too, or its bytes may hardly come:
//! so what is reserved grows with what has come, and no stated length empties the cache.

use super::{
    failure::FillFailure,
    transfer::{AskedRoom, Transfer},
};
use crate::storage::{self, Reservation};

/// After how many bytes the question is asked again.
const STEP: u64 = 64 << 20;

impl Transfer<'_> {
    /// Reserves room for the length that a manifest names. It may be wrong: where that does not fit
    /// upstream is asked, and cached content makes room for what upstream says. If upstream says no
    /// length, it makes room for one step.
    pub(super) async fn reserve_at_all(&self) -> Result<Reservation, FillFailure> {
        let (storage, digest) = (&self.drive.storage, self.leader.digest());
        let named = self.length.named();
        if let Some(room) = storage.reserve(digest, named.unwrap_or(0)).await? {
            return Ok(room);
        }
        let Some(source) = self.leader.sources().into_iter().next() else { return Err(FillFailure::NoRoom) };
        if !storage.evicts() {
            drop(storage.reserve(digest, 0).await?.ok_or(FillFailure::NoRoom)?);
        }
        let asked = tokio::select! {
            biased;
            () = self.drive.stop.cancelled() => return Err(FillFailure::Stopping),
            asked = source.head_blob(&digest) => asked,
        };
        let needed = match asked {
            Ok(Some(said)) => said,
            Ok(None) if storage.evicts() => named.unwrap_or(0).min(STEP),
            Ok(None) | Err(_) => return Err(FillFailure::NoRoom),
        };
        storage.reserve_by_evicting(digest, needed).await?.ok_or(FillFailure::NoRoom)
    }

    /// An answer of upstream states this length.
    pub(super) async fn has_room_for(&mut self, total: u64) -> Result<(), FillFailure> {
        if self.room.total == Some(total) && self.offset() <= self.room.up_to {
            return Ok(());
        }
        self.grow(self.offset(), total).await
    }

    /// The next write brings the bytes that are here to `here`.
    pub(super) async fn has_room_up_to(&mut self, here: u64) -> Result<(), FillFailure> {
        match self.part.as_ref().and_then(storage::Download::total) {
            Some(total) if here <= total && here <= self.room.up_to && here < self.room.here + STEP => Ok(()),
            Some(total) if here <= total => self.grow(here, total).await,
            Some(_) | None => {
                let has_room = self.opened()?.reserve_unsized(here).await?;
                has_room.then_some(()).ok_or(FillFailure::NoRoom)
            }
        }
    }

    /// Reserves what comes next of `total` bytes, `here` of which are here soon.
    async fn grow(&mut self, here: u64, total: u64) -> Result<(), FillFailure> {
        let up_to = here.saturating_mul(4).saturating_add(self.drive.storage.room_step()).min(total);
        if !self.opened()?.reserve(up_to, total).await? {
            return Err(FillFailure::NoRoom);
        }
        self.room = AskedRoom { total: Some(total), here, up_to };
        Ok(())
    }
}
