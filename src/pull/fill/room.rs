//! Whether the disk has room for a download. `attempt` asks:
//!
//! | when | for how many bytes |
//! |---|---|
//! | before anything is fetched | the manifest's length; if that does not fit, upstream's |
//! | an answer states a length | those that are still missing |
//! | every 64 MiB | the rest: only a step ahead is reserved, and other downloads write too |
//! | bytes come without a length, or beyond it | those bytes: they may never end |

use std::sync::Arc;

use super::{
    download::{Asked, Download},
    failure::FillFailure,
};
use crate::storage::Part;

/// After how many bytes the question is asked again.
const STEP: u64 = 64 << 20;

impl Download<'_> {
    /// Fails if there is no room. A manifest may name a wrong length: if there is any room,
    /// upstream is asked.
    pub(super) async fn has_room_at_all(&self) -> Result<(), FillFailure> {
        let named = self.length.named();
        if self.fits(named.unwrap_or(0)).await? {
            return Ok(());
        }
        let Some(source) = self.leader.sources().into_iter().next() else { return Err(FillFailure::NoRoom) };
        self.has_room(0).await?;
        let digest = self.leader.digest();
        let asked = tokio::select! {
            biased;
            () = self.drive.stop.cancelled() => return Err(FillFailure::Stopping),
            asked = source.head_blob(&digest) => asked,
        };
        match asked {
            Ok(Some(said)) if Some(said) != named => self.has_room(said).await,
            Ok(_) | Err(_) => Err(FillFailure::NoRoom),
        }
    }

    /// An answer of upstream states this length.
    pub(super) async fn has_room_for(&mut self, total: u64) -> Result<(), FillFailure> {
        if self.room.total == Some(total) {
            return Ok(());
        }
        // A reservation takes from the room: the question comes before it.
        self.has_room(total.saturating_sub(self.offset())).await?;
        self.room = Asked { total: Some(total), here: self.offset() };
        Ok(())
    }

    /// The next write brings the bytes that are here to `here`.
    pub(super) async fn has_room_up_to(&mut self, here: u64) -> Result<(), FillFailure> {
        match self.part.as_ref().and_then(Part::total) {
            Some(total) if here <= total && here < self.room.here + STEP => Ok(()),
            Some(total) if here <= total => {
                self.has_room(total.saturating_sub(self.offset())).await?;
                self.room.here = here;
                Ok(())
            }
            Some(_) | None => self.has_room(here).await,
        }
    }

    async fn has_room(&self, bytes: u64) -> Result<(), FillFailure> {
        if self.fits(bytes).await? { Ok(()) } else { Err(FillFailure::NoRoom) }
    }

    async fn fits(&self, bytes: u64) -> Result<bool, FillFailure> {
        let storage = Arc::clone(&self.drive.storage);
        self.drive.disk.run(move || storage.room_for(bytes)).await.map_err(|_| FillFailure::Abandoned)
    }
}
