//! The bytes of a blob on their way to one client: from the store, from a fill under way, or straight from upstream.
//!
//! A body brings exactly the bytes of its range or ends with an error, in which case the connection is cut short of its
//! `Content-Length`: no client can take a part for the whole. What is on disk it does not read: it says which range of the file
//! comes next, and the connection sends it. A body that follows a fill goes on straight from upstream
//! when the disk is full (F7). Dropping a body is how a client leaves; nothing else notices (F5).

use std::{fs::File, sync::Arc};

use bytes::Bytes;

use super::{
    fill::{FillFailure, Follower, Source},
    range::FileRange,
};
use crate::{
    oci::{Digest, Hasher},
    storage::DiskThreads,
    upstream::{self, UpstreamError},
};

/// How much is hashed at a time of what was sent before a fill failed.
const PIECE: u64 = 1 << 20;

/// What comes next in a body.
pub enum Piece {
    /// These bytes.
    Bytes(Bytes),
    /// Those of a file.
    File(FileRange),
}

impl Piece {
    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        match self {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::File(range) => range.length(),
        }
    }
}

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The fill that it followed failed.
    #[error("{0}")]
    Fill(FillFailure),
    /// The pass-through broke off.
    #[error("{0}")]
    Upstream(#[from] UpstreamError),
    /// The file cannot be read, or is shorter than it was.
    #[error("cannot read the stored blob: {0}")]
    Read(#[from] std::io::Error),
    /// The bytes passed through do not have their digest, or are too few.
    #[error("upstream's bytes are not those that were asked for")]
    Untrue,
    /// There is nothing more to ask of it.
    #[error("the body is over")]
    Over,
}

/// A blob's bytes from `cursor` to `end`, in order.
pub struct BlobBody {
    state: State,
    cursor: u64,
    end: u64,
    disk: DiskThreads,
}

enum State {
    Stored(Arc<File>),
    Following(Following),
    Passing(Box<Passing>),
    Over,
}

/// Follows a fill.
pub(super) struct Following {
    pub(super) follower: Follower<Source>,
    pub(super) file: Arc<File>,
    /// How far the fill was when last asked.
    pub(super) readable: u64,
    /// Where to go on when the disk is full.
    pub(super) source: Source,
    pub(super) digest: Digest,
    /// Whether the body is the whole blob, which can be proven, and not a range, which cannot.
    pub(super) whole: bool,
}

/// Passes an upstream's answer on.
pub(super) struct Passing {
    pub(super) body: upstream::BlobBody,
    /// Bytes to leave out first, where upstream began before what was asked.
    pub(super) skip: u64,
    /// Present when the whole blob passes: then its last piece is held back until the digest is proven.
    pub(super) proof: Option<(Hasher, Digest)>,
}

impl BlobBody {
    pub(super) fn stored(disk: DiskThreads, file: Arc<File>, first: u64, end: u64) -> Self {
        BlobBody { state: State::Stored(file), cursor: first, end, disk }
    }

    pub(super) fn following(disk: DiskThreads, following: Following, first: u64, end: u64) -> Self {
        BlobBody { state: State::Following(following), cursor: first, end, disk }
    }

    pub(super) fn passing(disk: DiskThreads, passing: Passing, first: u64, end: u64) -> Self {
        BlobBody { state: State::Passing(Box::new(passing)), cursor: first, end, disk }
    }

    /// The next piece: of a file, all that can be read now. `None` after the last; after an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Piece, BodyError>> {
        if self.cursor >= self.end {
            self.state = State::Over;
            return None;
        }
        let piece = self.piece().await;
        match &piece {
            Ok(piece) => self.cursor += piece.length(),
            Err(_) => (self.state, self.end) = (State::Over, self.cursor),
        }
        Some(piece)
    }

    async fn piece(&mut self) -> Result<Piece, BodyError> {
        let (disk, cursor) = (self.disk.clone(), self.cursor);
        let range = |file: &Arc<File>, end| Piece::File(FileRange::new(disk.clone(), Arc::clone(file), cursor, end));
        loop {
            match &mut self.state {
                State::Stored(file) => return Ok(range(file, self.end)),
                State::Following(following) => {
                    if self.cursor < following.readable {
                        return Ok(range(&following.file, self.end.min(following.readable)));
                    }
                    match following.follower.readable_past(self.cursor).await {
                        // Complete, and shorter than was told.
                        Ok(readable) if readable <= self.cursor => return Err(BodyError::Untrue),
                        Ok(readable) => following.readable = readable,
                        Err(FillFailure::NoRoom | FillFailure::Storage(_)) => {
                            // Seldom, so it is on the heap.
                            let passing = Box::pin(following.pass(&self.disk, self.cursor, self.end)).await?;
                            self.state = State::Passing(Box::new(passing));
                        }
                        Err(failure) => return Err(BodyError::Fill(failure)),
                    }
                }
                State::Passing(passing) => return passing.next(self.end - self.cursor).await.map(Piece::Bytes),
                State::Over => return Err(BodyError::Over),
            }
        }
    }
}

impl Following {
    /// What is still missing, straight from upstream. What was sent so far is proven together with it (F2).
    async fn pass(&self, disk: &DiskThreads, cursor: u64, end: u64) -> Result<Passing, BodyError> {
        let last = end.checked_sub(1);
        let answer = self.source.upstream.blob(&self.source.name, &self.digest, cursor, last).await?;
        if answer.page || answer.total.is_some_and(|total| self.whole && total != end) {
            return Err(BodyError::Untrue);
        }
        let skip = cursor
            .checked_sub(answer.offset)
            .ok_or_else(|| UpstreamError::Untrue { message: "the answer begins past what was asked".into() })?;
        let proof = match self.whole {
            true => Some((hashed(disk, Arc::clone(&self.file), &self.digest, cursor).await?, self.digest)),
            false => None,
        };
        Ok(Passing { body: answer.body, skip, proof })
    }
}

impl Passing {
    /// The next piece; `left` bytes are still to come.
    async fn next(&mut self, left: u64) -> Result<Bytes, BodyError> {
        loop {
            let mut bytes = match self.body.chunk().await {
                Some(piece) => piece.map_err(UpstreamError::from)?,
                None => return Err(BodyError::Untrue),
            };
            let cut = self.skip.min(bytes.len() as u64);
            self.skip -= cut;
            let mut bytes = bytes.split_off(cut as usize);
            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            if bytes.is_empty() {
                continue;
            }
            if let Some((hasher, _)) = &mut self.proof {
                hasher.update(&bytes);
                if bytes.len() as u64 == left
                    && let Some((hasher, digest)) = self.proof.take()
                    && hasher.finish() != digest
                {
                    return Err(BodyError::Untrue);
                }
            }
            return Ok(bytes);
        }
    }
}

/// The hash of what the file holds up to `end`, a piece at a time: others want the disk threads too.
async fn hashed(disk: &DiskThreads, file: Arc<File>, digest: &Digest, end: u64) -> Result<Hasher, BodyError> {
    let range = FileRange::new(disk.clone(), file, 0, end);
    let mut hasher = Hasher::new(digest.algorithm());
    let mut at = 0;
    while at < end {
        let piece = range.read(at, (end - at).min(PIECE) as usize).await?;
        if piece.is_empty() {
            return Err(BodyError::Untrue);
        }
        hasher.update(&piece);
        at += piece.len() as u64;
    }
    Ok(hasher)
}
