//! One attempt: bytes from one source into the part, and told to followers (F1, F2, S24, S25).
//!
//! `drive` calls [`begin`](Transfer::begin) once, which opens the part with what an earlier fill
//! left, and then [`attempt`](Transfer::attempt), one request to one source, until that is `Ok`:
//! the digest is proven. `length` decides what followers are told, `statements` which sources
//! count.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;

use super::{
    failure::FillFailure,
    length::{Heard, Stated},
    origin::{Origin, OriginBlob, OriginBytes},
    pace::Stretch,
    sources::refuses,
    transfer::{AskedRoom, Transfer},
};
use crate::upstream::UpstreamError;

/// How many bytes one write has: enough for large folios, and few enough that the bytes behind it
/// do not wait long.
const WRITE: usize = 1 << 20;

impl Transfer<'_> {
    /// Opens the part, and takes up what an earlier fill left. Says whether that is the blob,
    /// proven.
    pub(super) async fn begin(&mut self) -> Result<bool, FillFailure> {
        let room = self.reserve_at_all().await?;
        self.open(room).await?;
        self.take_up().await
    }

    /// Takes up what an earlier download left, which may be all of it: says whether that is proven.
    /// First a source must vouch for the request that began this fill, because the earlier one may
    /// have been for another repository (S5).
    async fn take_up(&mut self) -> Result<bool, FillFailure> {
        if self.offset() == 0 {
            return Ok(false);
        }
        let Some(source) = self.leader.sources().into_iter().next() else { return Err(FillFailure::Abandoned) };
        self.asked = Some(source.clone());
        if self.is_of(&source) {
            self.statements.sends_all(self.leader, &source);
        } else if self.leader.sure_sources().is_empty() {
            let digest = self.leader.digest();
            let asked = tokio::select! {
                biased;
                () = self.drive.stop.cancelled() => return Err(FillFailure::Stopping),
                asked = source.stated_length(&digest) => asked,
            };
            match asked {
                Ok(Some(stated)) if self.length.end() == Some(stated) => {
                    self.leader.has(&source);
                    self.statements.states(&source, stated);
                }
                Ok(_) => {
                    self.begin_again().await?;
                    return Ok(false);
                }
                Err(error) => {
                    let error = Arc::new(error);
                    if refuses(&error) {
                        self.leader.refused(&source, Arc::clone(&error));
                    }
                    return Err(FillFailure::Upstream(error));
                }
            }
        }
        if !self.length.may_be_whole(self.offset()) {
            return Ok(false);
        }
        let whole = self.prove().await?;
        if !whole {
            self.begin_again().await?;
        }
        Ok(whole)
    }

    /// One request, from where the part ends to the end of the content. `Ok`: the digest is proven.
    pub(super) async fn attempt(&mut self, source: &Origin) -> Result<(), FillFailure> {
        if !self.is_substitute(source) {
            self.asked = Some(source.clone());
        }
        let from = self.offset();
        let (stop, digest) = (self.drive.stop.clone(), self.leader.digest());
        // A stop is looked for only where nothing is lost by it: never while a disk thread has the
        // part.
        let answer = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(FillFailure::Stopping),
            answer = source.blob(&digest, from, None) => answer,
            silent = self.is_silent(source) => {
                self.was_silent(source);
                return Err(silent);
            }
        };
        let answer = match answer {
            Err(UpstreamError::RangeNotSatisfiable) if from > 0 => return self.nothing_follows().await,
            answer => answer?,
        };
        let OriginBlob { total, offset, length, mut bytes, .. } = self.hear(source, answer).await?;
        // A source that ignores Range begins at 0: the bytes that are here already are skipped.
        let mut skip =
            self.offset().checked_sub(offset).ok_or_else(|| untrue("the answer begins past what was asked"))?;
        let mut stretch = Stretch::new(self.offset());
        while !self.take(source, &mut bytes, &mut skip).await? {
            self.is_brisk(source, &mut stretch)?;
        }
        // A 206 that states no total may be followed by more.
        self.whole(total.is_none() && length.is_some()).await
    }

    /// Weighs what an answer states, and tells readers the length if it may be told.
    async fn hear(&mut self, source: &Origin, answer: OriginBlob) -> Result<OriginBlob, FillFailure> {
        let own = self.first.as_ref() == Some(source) && (self.offset() == 0 || self.is_of(source));
        let total = match (answer.total, self.length.told()) {
            (None, Some(told)) if !answer.page && !self.statements.stands_for(source, told) => {
                Some(self.stated_elsewhere(source).await?)
            }
            (total, _) => total,
        };
        let stated = Stated { total, page: answer.page, own };
        if self.is_substitute(source) && !matches!(self.length.clone().hear(stated, self.offset()), Heard::Tell(_)) {
            return Err(untrue("the answer states no length that readers can be told"));
        }
        let mut heard = self.length.hear(stated, self.offset());
        if heard == Heard::BeginAgain {
            self.begin_again().await?;
            if answer.offset > 0 {
                return Err(untrue("what came before has another length than the blob has there"));
            }
            heard = self.length.hear(stated, 0);
        }
        if let Heard::Refuse(why) = heard {
            return Err(untrue(&why));
        }
        // Before readers are told anything: they check that their source has the content.
        self.statements.sends(self.leader, source);
        match total {
            _ if answer.page => {}
            Some(total) => self.statements.states(source, total),
            None if self.offset() == 0 || self.is_of(source) => self.statements.sends_all(self.leader, source),
            None => {}
        }
        if let Some(told) = self.length.told() {
            self.statements.weigh(self.leader, told);
        }
        if let Some(total) = answer.total {
            self.has_room_for(total).await?;
        }
        let (word, came_with) = (source.word(), self.length.came_with());
        self.opened()?.comes_from(word, came_with).await?;
        self.leader.comes_from(self.offset(), source);
        if let Heard::Tell(total) = heard {
            let file = self.opened()?.reader()?;
            self.leader.tell(file, total);
            self.leader.advance(self.offset());
        }
        Ok(answer)
    }

    /// The length that a source states when it is asked for nothing else.
    async fn stated_elsewhere(&mut self, source: &Origin) -> Result<u64, FillFailure> {
        let digest = self.leader.digest();
        let asked = tokio::select! {
            biased;
            () = self.drive.stop.cancelled() => return Err(FillFailure::Stopping),
            asked = source.stated_length(&digest) => asked,
            silent = self.is_silent(source) => {
                self.was_silent(source);
                return Err(silent);
            }
        };
        asked?.ok_or_else(|| untrue("the answer does not say how long the blob is"))
    }

    /// Writes the bytes that come next. Says whether that was the end.
    async fn take(&mut self, source: &Origin, bytes: &mut OriginBytes, skip: &mut u64) -> Result<bool, FillFailure> {
        let mut batch = Vec::new();
        let mut size = 0;
        let mut end = None;
        // Wait for the first piece, and take the others that are here already.
        let mut next = tokio::select! {
            biased;
            () = self.drive.stop.cancelled() => return Err(FillFailure::Stopping),
            piece = bytes.chunk() => Some(piece),
            silent = self.is_silent(source) => {
                self.was_silent(source);
                return Err(silent);
            }
        };
        self.queue.bytes_come();
        while let Some(piece) = next {
            match piece {
                Some(Ok(piece)) => {
                    let piece = skipped(piece, skip);
                    size += piece.len();
                    batch.push(piece);
                    next = if size < WRITE { bytes.chunk().now_or_never() } else { None };
                }
                Some(Err(error)) => {
                    end = Some(Err(UpstreamError::from(error)));
                    next = None;
                }
                None => {
                    end = Some(Ok(()));
                    next = None;
                }
            }
        }
        if size > 0 {
            self.append(batch, size as u64).await?;
        }
        match end {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => Err(error.into()),
        }
    }

    async fn append(&mut self, batch: Vec<Bytes>, size: u64) -> Result<(), FillFailure> {
        let here = self.offset() + size;
        if self.length.told().is_some_and(|told| here > told) {
            self.outgrew = self.statements.unsure().is_some();
            return Err(FillFailure::Corrupt);
        }
        self.has_room_up_to(here).await?;
        self.opened()?.append(batch).await?;
        self.leader.advance(self.offset());
        Ok(())
    }

    /// An answer ended without an error. `partial`: more may follow.
    async fn whole(&mut self, partial: bool) -> Result<(), FillFailure> {
        if self.prove().await? {
            return Ok(());
        }
        match self.length.end() {
            Some(end) if self.offset() < end => Err(untrue("the blob ended early")),
            None if partial => Err(untrue("the blob ended early")),
            Some(_) | None => self.wrong().await,
        }
    }

    /// A source answers that nothing follows the bytes that are here.
    async fn nothing_follows(&mut self) -> Result<(), FillFailure> {
        if self.prove().await? {
            return Ok(());
        }
        match self.length.hear_the_end() {
            Heard::Refuse(why) => Err(untrue(&why)),
            Heard::BeginAgain | Heard::Hold | Heard::Tell(_) => self.wrong().await,
        }
    }

    /// The bytes that are here are not the blob. If no reader was told a length, the next answer
    /// may be.
    async fn wrong(&mut self) -> Result<(), FillFailure> {
        if self.is_untold() {
            self.begin_again().await?;
        }
        Err(FillFailure::Corrupt)
    }

    /// Removes the bytes that are here. No reader has seen them.
    async fn begin_again(&mut self) -> Result<(), FillFailure> {
        self.leader.advance(0);
        self.statements.begun_again(self.leader);
        self.length.begun_again();
        self.room = AskedRoom::default();
        Ok(self.opened()?.restart().await?)
    }

    /// Whether the bytes that are here are the blob. Then readers may have all of them.
    async fn prove(&mut self) -> Result<bool, FillFailure> {
        let proven = self.opened()?.verify().await?;
        if proven {
            self.statements.proven(self.leader, self.offset(), self.length.told());
            let file = self.opened()?.reader()?;
            self.leader.proven(file, self.offset());
        }
        Ok(proven)
    }
}

fn skipped(mut bytes: Bytes, skip: &mut u64) -> Bytes {
    let cut = (*skip).min(bytes.len() as u64);
    *skip -= cut;
    bytes.split_off(cut as usize)
}

fn untrue(message: &str) -> FillFailure {
    FillFailure::Upstream(Arc::new(UpstreamError::Untrue { message: message.into() }))
}
