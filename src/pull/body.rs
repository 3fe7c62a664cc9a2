//! The bytes of a blob on their way to one client: from the store, from a fill under way, or straight from upstream.
//!
//! A body brings exactly the bytes of its range or ends with an error, in which case the connection is cut short of its
//! `Content-Length`: no client can take a part for the whole. A body that follows a fill goes on straight from upstream
//! when the disk is full (F7). Dropping a body is how a client leaves; nothing else notices (F5).

use std::{fs::File, os::unix::fs::FileExt as _, sync::Arc};

use bytes::Bytes;

use super::fill::{FillFailure, Follower, Source};
use crate::{
    oci::{Digest, Hasher},
    storage::DiskThreads,
    upstream::{self, UpstreamError},
};

/// One piece of a body, at most: what a slow client holds in memory.
const PIECE: u64 = 128 << 10;

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
    /// The disk threads are gone.
    #[error("lanyard is stopping")]
    Stopping,
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
    pub(super) follower: Follower,
    pub(super) file: Arc<File>,
    /// How far the fill was when last asked.
    pub(super) readable: u64,
    /// Where to go on when the disk is full.
    pub(super) source: Source,
    pub(super) digest: Digest,
    /// The body is the whole blob, so that its digest can be proven also when it goes on from upstream (F2).
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

    /// The next piece, at most 128 KiB from a file; `None` after the last. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if self.cursor >= self.end {
            self.state = State::Over;
            return None;
        }
        let piece = self.piece().await;
        match &piece {
            Ok(bytes) => self.cursor += bytes.len() as u64,
            Err(_) => (self.state, self.end) = (State::Over, self.cursor),
        }
        Some(piece)
    }

    async fn piece(&mut self) -> Result<Bytes, BodyError> {
        loop {
            match &mut self.state {
                State::Stored(file) => {
                    return read(&self.disk, Arc::clone(file), self.cursor, self.end).await;
                }
                State::Following(following) => {
                    if self.cursor < following.readable {
                        let end = self.end.min(following.readable);
                        return read(&self.disk, Arc::clone(&following.file), self.cursor, end).await;
                    }
                    match following.follower.readable_past(self.cursor).await {
                        Ok(readable) => following.readable = readable,
                        Err(FillFailure::NoRoom) => {
                            let passing = following.pass(&self.disk, self.cursor, self.end).await?;
                            self.state = State::Passing(Box::new(passing));
                        }
                        Err(failure) => return Err(BodyError::Fill(failure)),
                    }
                }
                State::Passing(passing) => return passing.next(self.end - self.cursor).await,
                State::Over => return Err(BodyError::Stopping),
            }
        }
    }
}

impl Following {
    /// What is still missing, straight from upstream.
    async fn pass(&self, disk: &DiskThreads, cursor: u64, end: u64) -> Result<Passing, BodyError> {
        let mut proof = self.whole.then(|| (Hasher::new(self.digest.algorithm()), self.digest));
        if let Some((hasher, _)) = &mut proof {
            let mut hashed = 0;
            while hashed < cursor {
                let piece = read(disk, Arc::clone(&self.file), hashed, cursor).await?;
                hasher.update(&piece);
                hashed += piece.len() as u64;
            }
        }
        let last = end.checked_sub(1);
        let answer = self.source.upstream.blob(&self.source.name, &self.digest, cursor, last).await?;
        let skip = cursor
            .checked_sub(answer.offset)
            .ok_or_else(|| UpstreamError::Untrue { message: "the answer begins past what was asked".into() })?;
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

async fn read(disk: &DiskThreads, file: Arc<File>, from: u64, end: u64) -> Result<Bytes, BodyError> {
    let length = (end - from).min(PIECE) as usize;
    let read = disk.run(move || {
        let mut buffer = vec![0; length];
        file.read_exact_at(&mut buffer, from).map(|()| Bytes::from(buffer))
    });
    Ok(read.await.map_err(|_| BodyError::Stopping)??)
}
