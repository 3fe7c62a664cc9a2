//! One fill under way: its part, its leader, and what is known of its sources so far.
//!
//! The steps of a fill share this state. `drive` makes a [`Transfer`], `attempt` moves bytes
//! through it, `patience` decides how long it waits, and `room` whether the disk has room for it.
//! No step may be cancelled while the storage writes.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    failure::FillFailure, leader::Leader, length::Length, origin::Origin, queue::Queue, statements::Statements,
};
use crate::{
    metrics::Metrics,
    storage::{self, Reservation, Storage},
};

/// What a fill needs of its surroundings.
#[derive(Clone)]
pub(crate) struct Drive {
    pub(crate) storage: Arc<Storage>,
    pub(crate) metrics: Arc<Metrics>,
    /// Ends every fill with its part kept.
    pub(crate) stop: CancellationToken,
}

/// The room that was asked for last.
#[derive(Default)]
pub(super) struct AskedRoom {
    /// The length that was stated.
    pub(super) total: Option<u64>,
    /// How many bytes were here then, or came next.
    pub(super) here: u64,
    /// How many bytes it was reserved for.
    pub(super) up_to: u64,
}

/// One fill under way.
pub(super) struct Transfer<'a> {
    pub(super) drive: &'a Drive,
    pub(super) leader: &'a Leader<Origin>,
    /// `None` before it is opened.
    pub(super) part: Option<storage::Download>,
    pub(super) length: Length,
    /// The source that it was begun for. The length that a manifest names is of its repository.
    pub(super) first: Option<Origin>,
    /// The room that was asked for last.
    pub(super) room: AskedRoom,
    pub(super) statements: Statements,
    /// See [`Transfer::outgrew_its_name`].
    pub(super) outgrew: bool,
    pub(super) queue: Queue,
    /// The source that was asked last, except substitutes.
    pub(super) asked: Option<Origin>,
    /// How often it was resumed.
    pub(super) resumed: u32,
}

impl<'a> Transfer<'a> {
    /// `expected`: the length that a manifest names, in bytes.
    pub(super) fn new(drive: &'a Drive, leader: &'a Leader<Origin>, expected: Option<u64>) -> Self {
        let length = Length::new(&leader.digest(), expected);
        let first = leader.sources().into_iter().next();
        Transfer {
            drive,
            leader,
            part: None,
            length,
            asked: first.clone(),
            first,
            room: AskedRoom::default(),
            statements: Statements::default(),
            outgrew: false,
            queue: Queue::default(),
            resumed: 0,
        }
    }

    /// Where the next bytes may come from, the most promising source first. Readers of an unsure
    /// source get its bytes alone.
    pub(super) fn sources(&self) -> Vec<Origin> {
        let mut all = self.leader.sources();
        if let Some(unsure) = self.statements.unsure().filter(|_| !self.is_untold()) {
            all.retain(|source| source == unsure);
        }
        all.retain(|source| !(self.queue.is_useless(source) && self.is_substitute(source)));
        self.queue.sort(&mut all);
        all
    }

    /// Whether the source is a substitute: of another registry than the one that the download was
    /// begun for, while a source of that one may still answer.
    pub(super) fn is_substitute(&self, source: &Origin) -> bool {
        let of_first = |known: &Origin| self.first.as_ref().is_some_and(|first| first.shares_upstream(known));
        !of_first(source) && self.leader.sources().iter().any(of_first)
    }

    /// Whether every byte that is here came from this source, and so from no other repository.
    pub(super) fn is_of(&self, source: &Origin) -> bool {
        self.part.as_ref().is_some_and(|part| *part.sources() == [source.word()])
    }

    /// How many bytes are here.
    pub(super) fn offset(&self) -> u64 {
        self.part.as_ref().map_or(0, storage::Download::offset)
    }

    /// Whether no reader has been told a length yet.
    pub(super) fn is_untold(&self) -> bool {
        self.length.told().is_none()
    }

    /// Whether more bytes came than a manifest names, while no source stated a length: the manifest
    /// may be wrong.
    pub(super) fn outgrew_its_name(&self) -> bool {
        self.outgrew
    }

    /// Whether sources contradict each other about the length.
    pub(super) fn is_disputed(&self) -> bool {
        self.length.is_disputed()
    }

    /// The source at which the download ended. A substitute's failure ends none.
    pub(super) fn asked(&self) -> Option<&Origin> {
        self.asked.as_ref()
    }

    /// The part, to be committed, kept or removed.
    pub(super) fn into_part(self) -> Option<storage::Download> {
        self.part
    }

    /// Opens the part in the room that was reserved, with the bytes that an earlier download left.
    pub(super) async fn open(&mut self, room: Reservation) -> Result<(), FillFailure> {
        let part = self.drive.storage.download(room, self.length.named()).await?;
        if part.offset() > 0 {
            self.length.left(part.total());
            self.leader.resumes_at(part.offset());
        }
        self.part = Some(part);
        Ok(())
    }

    /// The part, which is open.
    pub(super) fn opened(&mut self) -> Result<&mut storage::Download, FillFailure> {
        self.part.as_mut().ok_or(FillFailure::Abandoned)
    }
}
