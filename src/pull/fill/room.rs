//! Whether the disk has room for a download. `attempt` asks:
//!
//! | when | for how many bytes |
//! |---|---|
//! | before anything is fetched | the manifest's length; if that does not fit, upstream's |
//! | an answer states a length | those that are still missing |
//! | every 64 MiB | the rest: only a step ahead is reserved, and other downloads write too |
//! | bytes come without a length, or beyond it | those bytes: they may never end |

use super::{
    failure::FillFailure,
    transfer::{AskedRoom, Transfer},
};
use crate::storage::{self, Reservation};

/// After how many bytes the question is asked again.
const STEP: u64 = 64 << 20;

impl Transfer<'_> {
    /// Reserves room for the length that a manifest names. It may be wrong: where that does not fit
    /// and there is some room, upstream is asked.
    pub(super) async fn reserve_at_all(&self) -> Result<Reservation, FillFailure> {
        let named = self.length.named();
        if let Some(room) = self.reserve(named.unwrap_or(0)).await? {
            return Ok(room);
        }
        let Some(source) = self.leader.sources().into_iter().next() else { return Err(FillFailure::NoRoom) };
        drop(self.reserve(0).await?.ok_or(FillFailure::NoRoom)?);
        let digest = self.leader.digest();
        let asked = tokio::select! {
            biased;
            () = self.drive.stop.cancelled() => return Err(FillFailure::Stopping),
            asked = source.head_blob(&digest) => asked,
        };
        match asked {
            Ok(Some(said)) if Some(said) != named => self.reserve(said).await?.ok_or(FillFailure::NoRoom),
            Ok(_) | Err(_) => Err(FillFailure::NoRoom),
        }
    }

    /// An answer of upstream states this length.
    pub(super) async fn has_room_for(&mut self, total: u64) -> Result<(), FillFailure> {
        if self.room.total == Some(total) {
            return Ok(());
        }
        // Disk blocks are taken after this: they are gone from the room then.
        self.grow(total).await?;
        self.room = AskedRoom { total: Some(total), here: self.offset() };
        Ok(())
    }

    /// The next write brings the bytes that are here to `here`.
    pub(super) async fn has_room_up_to(&mut self, here: u64) -> Result<(), FillFailure> {
        match self.part.as_ref().and_then(storage::Download::total) {
            Some(total) if here <= total && here < self.room.here + STEP => Ok(()),
            Some(total) if here <= total => {
                self.grow(total).await?;
                self.room.here = here;
                Ok(())
            }
            Some(_) | None => self.grow(here).await,
        }
    }

    async fn grow(&mut self, total: u64) -> Result<(), FillFailure> {
        if self.opened()?.reserve(total).await? { Ok(()) } else { Err(FillFailure::NoRoom) }
    }

    async fn reserve(&self, bytes: u64) -> Result<Option<Reservation>, FillFailure> {
        Ok(self.drive.storage.reserve(self.leader.digest(), bytes).await?)
    }
}
