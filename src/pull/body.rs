//! The bytes of a blob on their way to one client: from the store, from a fill under way, or
//! straight from upstream.
//!
//! A body brings exactly the bytes of its ranges, one range after the other, or ends with an error.
//! Then the connection is cut short of its `Content-Length`, so that no client takes a part for the
//! whole. A body does not read files: it says which range of the file comes next, and the
//! connection sends it. A body that follows a fill goes on straight from upstream when the disk is
//! full (F7). A client leaves by dropping its body, which disturbs nothing else (F5).

use std::{fs::File, ops::Range, sync::Arc, vec};

use bytes::{Buf as _, Bytes};

use super::{
    fill::{FillFailure, Follower, Origin, OriginBlob, OriginBytes},
    range::FileRange,
};
use crate::{
    oci::{ContentRange, ContentRanges, Digest, Hasher},
    runtime::BlockingPool,
    upstream::UpstreamError,
};

/// How many bytes are hashed at a time of those that were sent before a fill failed.
const PIECE: u64 = 1 << 20;

/// The next piece of a body.
pub enum Piece {
    /// These bytes.
    Bytes(Bytes),
    /// Bytes of a file.
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
    /// The fill that the body followed failed.
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
    /// The body has ended before.
    #[error("the body is over")]
    Over,
}

/// A blob's bytes from `cursor` to `end`, then those of the ranges behind. See the module.
pub struct BlobBody {
    state: State,
    cursor: u64,
    end: u64,
    behind: vec::IntoIter<ContentRange>,
    disk: BlockingPool,
}

enum State {
    Stored(Arc<File>),
    Following(Following),
    Passing(Box<Passing>),
    Over,
}

/// Follows a fill.
pub(super) struct Following {
    pub(super) follower: Follower<Origin>,
    pub(super) file: Arc<File>,
    /// Which bytes could be read at the last look.
    pub(super) readable: Range<u64>,
    /// Where to go on when the disk is full.
    pub(super) origin: Origin,
    pub(super) digest: Digest,
    /// Whether the body is the whole blob. A part cannot be proven.
    pub(super) whole: bool,
    /// Whether ranges are wanted. They may be complete before the proof, so they have bytes of this
    /// origin's registry alone (F8).
    pub(super) ranged: bool,
    /// Present from the moment at which the disk is full.
    pub(super) passing: Option<Box<Passing>>,
}

/// Passes an upstream's answer on.
pub(super) struct Passing {
    body: OriginBytes,
    /// The offset of the next byte that upstream sends, where `rest` is empty; else of its first
    /// byte.
    at: u64,
    /// The bytes that have come and are not passed on yet.
    rest: Bytes,
    /// Present when the whole blob passes: its last piece is held back until the digest is proven.
    proof: Option<Proof>,
}

/// The proof of a blob that passes as a whole.
pub(super) struct Proof {
    pub(super) hasher: Hasher,
    pub(super) digest: Digest,
    /// The blob's length in bytes.
    pub(super) size: u64,
}

/// Which bytes a body is to bring.
pub(super) struct Wanted {
    first: u64,
    end: u64,
    behind: vec::IntoIter<ContentRange>,
}

impl Wanted {
    /// The whole of `size` bytes, or these ranges of it.
    pub(super) fn new(size: u64, ranges: Option<&ContentRanges>) -> Wanted {
        let Some(ranges) = ranges else { return Wanted { first: 0, end: size, behind: Vec::new().into_iter() } };
        let (first, behind) = ranges.clone().split();
        Wanted { first: first.first, end: first.last + 1, behind: behind.into_iter() }
    }
}

impl BlobBody {
    fn new(disk: BlockingPool, state: State, wanted: Wanted) -> Self {
        let Wanted { first, end, behind } = wanted;
        BlobBody { state, cursor: first, end, behind, disk }
    }

    pub(super) fn stored(disk: BlockingPool, file: Arc<File>, wanted: Wanted) -> Self {
        BlobBody::new(disk, State::Stored(file), wanted)
    }

    pub(super) fn following(disk: BlockingPool, following: Following, wanted: Wanted) -> Self {
        BlobBody::new(disk, State::Following(following), wanted)
    }

    /// The wanted ranges must ascend: upstream is asked once.
    pub(super) fn passing(disk: BlockingPool, passing: Passing, wanted: Wanted) -> Self {
        BlobBody::new(disk, State::Passing(Box::new(passing)), wanted)
    }

    /// The next piece: of a file, all that can be read now. No piece has bytes of two ranges.
    /// `None` after the last; after an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Piece, BodyError>> {
        if self.cursor >= self.end {
            let Some(range) = self.behind.next() else {
                self.state = State::Over;
                return None;
            };
            (self.cursor, self.end) = (range.first, range.last + 1);
        }
        let piece = self.piece().await;
        match &piece {
            Ok(piece) => self.cursor += piece.length(),
            Err(_) => {
                (self.state, self.end) = (State::Over, self.cursor);
                self.behind = Vec::new().into_iter();
            }
        }
        Some(piece)
    }

    async fn piece(&mut self) -> Result<Piece, BodyError> {
        let (cursor, end) = (self.cursor, self.end);
        match &mut self.state {
            State::Stored(file) => Ok(Piece::File(FileRange::new(self.disk.clone(), Arc::clone(file), cursor, end))),
            State::Following(following) => following.next(&self.disk, cursor, end, self.behind.as_slice()).await,
            State::Passing(passing) => passing.next(cursor, end).await.map(Piece::Bytes),
            State::Over => Err(BodyError::Over),
        }
    }
}

impl Following {
    /// The next piece from `cursor` on, up to `end`. `behind`: the ranges that follow.
    async fn next(
        &mut self,
        disk: &BlockingPool,
        cursor: u64,
        end: u64,
        behind: &[ContentRange],
    ) -> Result<Piece, BodyError> {
        loop {
            if self.readable.contains(&cursor) {
                let end = end.min(self.readable.end);
                return Ok(Piece::File(FileRange::new(disk.clone(), Arc::clone(&self.file), cursor, end)));
            }
            if let Some(passing) = self.passing.as_mut().filter(|passing| passing.at <= cursor) {
                return passing.next(cursor, end).await.map(Piece::Bytes);
            }
            let trusts = trusts(&self.origin, self.ranged);
            match self.follower.readable_around(cursor, trusts).await {
                // Complete, and shorter than was told.
                Ok(readable) if !readable.contains(&cursor) => return Err(BodyError::Untrue),
                Ok(readable) => self.readable = readable,
                // Ranges that go back would cost one more request each.
                Err(failure) if self.passing.is_some() => return Err(BodyError::Fill(failure)),
                Err(FillFailure::NoRoom | FillFailure::Storage(_)) => {
                    // On the heap: seldom, and 5,368 bytes.
                    let passing = Box::pin(self.pass(disk, cursor, run(end, behind))).await?;
                    self.passing = Some(Box::new(passing));
                }
                Err(failure) => return Err(BodyError::Fill(failure)),
            }
        }
    }

    /// The missing bytes, straight from upstream. The bytes that were sent so far are proven
    /// together with them (F2).
    async fn pass(&self, disk: &BlockingPool, cursor: u64, end: u64) -> Result<Passing, BodyError> {
        let last = end.checked_sub(1);
        let answer = self.origin.blob(&self.digest, cursor, last).await?;
        if answer.page || answer.total.is_some_and(|total| self.whole && total != end) {
            return Err(BodyError::Untrue);
        }
        let proof = match self.whole {
            true => {
                let hasher = hashed(disk, Arc::clone(&self.file), &self.digest, cursor).await?;
                Some(Proof { hasher, digest: self.digest, size: end })
            }
            false => None,
        };
        let too_late = || UpstreamError::Untrue { message: "the answer begins past what was asked".into() };
        Ok(Passing::new(answer, cursor, proof).ok_or_else(too_late)?)
    }
}

impl Passing {
    /// Passes the answer's bytes on from `first` on. `None`: the answer begins behind that.
    pub(super) fn new(answer: OriginBlob, first: u64, proof: Option<Proof>) -> Option<Passing> {
        (answer.offset <= first).then(|| Passing { body: answer.bytes, at: answer.offset, rest: Bytes::new(), proof })
    }

    /// The next piece from `cursor` on, up to `end`. Bytes before `cursor` are left out.
    async fn next(&mut self, cursor: u64, end: u64) -> Result<Bytes, BodyError> {
        loop {
            if self.rest.is_empty() {
                self.rest = match self.body.chunk().await {
                    Some(piece) => piece.map_err(UpstreamError::from)?,
                    None => return Err(BodyError::Untrue),
                };
            }
            let cut = cursor.saturating_sub(self.at).min(self.rest.len() as u64);
            self.rest.advance(cut as usize);
            let most = usize::try_from(end - cursor).unwrap_or(usize::MAX);
            let bytes = self.rest.split_to(self.rest.len().min(most));
            self.at += cut + bytes.len() as u64;
            if bytes.is_empty() {
                continue;
            }
            if let Some(proof) = &mut self.proof {
                proof.hasher.update(&bytes);
                if self.at >= proof.size
                    && let Some(Proof { hasher, digest, .. }) = self.proof.take()
                    && hasher.finish() != digest
                {
                    return Err(BodyError::Untrue);
                }
            }
            return Ok(bytes);
        }
    }
}

/// Which bytes of a fill a reader who asked `origin` may see before the proof: all, or, if the
/// reader wants ranges (`ranged`), those of the same registry.
pub(super) fn trusts(origin: &Origin, ranged: bool) -> impl Fn(Option<&Origin>) -> bool {
    move |from| !ranged || from.is_some_and(|from| from.shares_upstream(origin))
}

/// The end of a run of ranges that has come to `end`: that of the last range that ascends.
fn run(mut end: u64, behind: &[ContentRange]) -> u64 {
    for range in behind {
        if range.first < end {
            break;
        }
        end = range.last + 1;
    }
    end
}

/// The hash of the file's bytes up to `end`, a piece at a time: other requests want the disk
/// threads too.
async fn hashed(disk: &BlockingPool, file: Arc<File>, digest: &Digest, end: u64) -> Result<Hasher, BodyError> {
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
