//! Several ranges of a blob in one answer: `multipart/byteranges` (RFC 9110, section 14.6).
//!
//! The heads of the parts are small pieces of memory between the pieces of the blob, which are sent
//! as in any other answer. A head is made when its part begins, so an answer of a thousand parts
//! holds a thousand pairs of offsets and one head. The total length is known before the first byte.
//!
//! A part's length follows from its `Content-Range`. A client that searches for the boundary
//! instead does not find it in the content: it is random, and of 128 bits.

use std::vec;

use actix_web::http::{StatusCode, header::CONTENT_TYPE};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::{
    http::answer::{body::Pieces, reply::Reply},
    oci::{ContentRange, ContentRanges},
    pull::Piece,
};

/// An answer of several parts.
pub(crate) struct Multipart {
    boundary: String,
    content_type: &'static str,
    ranges: ContentRanges,
}

impl Multipart {
    /// An answer with these ranges of content of this type.
    pub(crate) fn new(content_type: &'static str, ranges: ContentRanges) -> Self {
        Multipart { boundary: format!("{:032x}", rand::random::<u128>()), content_type, ranges }
    }

    /// 206 with the bytes of the ranges in order: `first`, which is here already, then `rest`. No
    /// piece has bytes of two ranges.
    pub(crate) fn reply(self, first: Piece, rest: Pieces) -> Reply {
        let content_type = format!("multipart/byteranges; boundary={}", self.boundary);
        let length = self.length();
        let (range, behind) = self.ranges.split();
        let opening = head(&self.boundary, self.content_type, &range, true);
        let parts = MultipartPieces {
            left: range.length(),
            boundary: self.boundary,
            content_type: self.content_type,
            behind: behind.into_iter(),
            next: Some(first),
            rest,
        };
        let pieces = stream::unfold(Some(parts), |parts| async move { Some(parts?.step().await) });
        let opening = Piece::Bytes(opening);
        let mut reply =
            Reply::stream(StatusCode::PARTIAL_CONTENT, self.content_type, length, opening, Box::pin(pieces));
        // Of two headers with a name the last one counts.
        reply.text(CONTENT_TYPE, &content_type);
        reply
    }

    /// The length of the whole body, in bytes.
    fn length(&self) -> u64 {
        let part = |(place, range): (usize, &ContentRange)| {
            head(&self.boundary, self.content_type, range, place == 0).len() as u64 + range.length()
        };
        self.ranges.iter().enumerate().map(part).sum::<u64>() + end(&self.boundary).len() as u64
    }
}

/// The pieces that are still to be sent.
struct MultipartPieces {
    boundary: String,
    content_type: &'static str,
    /// Bytes left in the current part.
    left: u64,
    behind: vec::IntoIter<ContentRange>,
    /// The next piece, if it is here already.
    next: Option<Piece>,
    rest: Pieces,
}

impl MultipartPieces {
    /// One piece, and the pieces after it: none after the last one, and none after an error.
    async fn step(mut self) -> (Result<Piece, String>, Option<MultipartPieces>) {
        if self.left == 0 {
            let Some(range) = self.behind.next() else {
                return (Ok(Piece::Bytes(end(&self.boundary))), None);
            };
            self.left = range.length();
            let head = head(&self.boundary, self.content_type, &range, false);
            return (Ok(Piece::Bytes(head)), Some(self));
        }
        let piece = match self.next.take() {
            Some(piece) => Some(Ok(piece)),
            None => self.rest.next().await,
        };
        match piece {
            Some(Ok(piece)) => {
                self.left = self.left.saturating_sub(piece.length());
                (Ok(piece), Some(self))
            }
            Some(Err(error)) => (Err(error), None),
            None => (Err("it ended within a part".to_owned()), None),
        }
    }
}

/// The lines before a part.
fn head(boundary: &str, content_type: &str, range: &ContentRange, is_first: bool) -> Bytes {
    let line = if is_first { "" } else { "\r\n" };
    format!("{line}--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {range}\r\n\r\n").into()
}

/// The lines after the last part.
fn end(boundary: &str) -> Bytes {
    format!("\r\n--{boundary}--\r\n").into()
}
