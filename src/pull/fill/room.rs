//! Whether the disk has room for a download. `download` asks:
//!
//! | when | for |
//! |---|---|
//! | before anything is fetched | the length that a manifest names; where that does not fit, what upstream states |
//! | an answer states a length | what is still missing of it |
//! | every 64 MiB | the rest: only a step ahead is reserved, and others write too |
//! | bytes come without a length, or beyond it | those bytes: they may never end |

use std::sync::Arc;

use super::{
    download::{Asked, Download},
    failure::FillFailure,
};
use crate::storage::Part;

/// After so many bytes it is asked again.
const STEP: u64 = 64 << 20;

impl Download<'_> {
    /// Fails where there is no room. A manifest may name a wrong length: where there is some room,
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

    /// Upstream's own answer says how long the whole is.
    pub(super) async fn has_room_for(&mut self, total: u64) -> Result<(), FillFailure> {
        if self.room.total == Some(total) {
            return Ok(());
        }
        // What is reserved is gone from the room: it is asked about before.
        self.has_room(total.saturating_sub(self.offset())).await?;
        self.room = Asked { total: Some(total), here: self.offset() };
        Ok(())
    }

    /// `here` bytes will be here in a moment.
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
