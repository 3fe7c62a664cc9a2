//! One request at a time out of a connection's bytes (S29). The connection reads through it.
//!
//! actix-http decodes pipelined requests as they arrive, and remembers only of the last one whether
//! it was a HEAD. The answer to a GET that is still being made then loses its body and keeps its
//! `Content-Length`, and the client reads everything after it out of step (measured with 3.20). So
//! the pipeline lets one head through, then its body to the last byte, and then nothing until that
//! request is answered:
//!
//! | state | lets through | ends with |
//! |---|---|---|
//! | `Head` | a head | its empty line |
//! | `Seen` | nothing | the framing of its body ([`Pipeline::understood`]) |
//! | `Body` | the body | its last byte, as [`BodyFraming`] counts; never after a broken chunk |
//! | `Whole` | nothing | the answer |
//!
//! `Whole` never ends if the client says that this request is its last, or if a body was not read
//! to its end.
//!
//! A head's `Expect` goes through under another name ([`EXPECT`]): actix-http would send `100
//! Continue` before a handler has seen the request. The connection sends it when the body is asked
//! for (`connection.rs`).

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use crate::http::transport::framing::{BodyFraming, ChunkState, RequestFraming};

/// The most bytes that are held back. Others stay with the kernel.
const MOST: usize = 16 << 10;

/// The name of `Expect` behind the pipeline. It is as long as that one, and no client knows it.
pub(crate) const EXPECT: &str = "x-wait";
const EXPECTED: &[u8] = b"expect:";

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PipelineState {
    Head,
    Seen,
    Body(BodyFraming),
    Whole,
}

/// What may go through now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Passage {
    /// Bytes, which then go through [`Pipeline::pass`].
    Through,
    /// Nothing, until actix-http has parsed the head that went through.
    NothingYet,
    /// Nothing, until the request that went through is answered.
    Nothing,
}

/// The bytes that have come and have not gone through, and the state.
#[derive(Debug)]
pub(crate) struct Pipeline {
    held: BytesMut,
    /// The beginning of a line that may become `Expect:`.
    begun: BytesMut,
    state: PipelineState,
    /// The client's last request has gone through.
    last: bool,
    line: Line,
}

/// The line of a head that is coming in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Line {
    /// It is the request's line, or an empty one before it.
    first: bool,
    /// No byte of it is there.
    fresh: bool,
    /// It has only carriage returns so far.
    empty: bool,
}

impl Line {
    const FIRST: Line = Line { first: true, fresh: true, empty: true };
}

/// The result of a look at bytes of a head.
enum HeadScan {
    /// The head goes on.
    Nothing,
    /// The head ends at this offset.
    End(usize),
    /// From this offset on it may be the beginning of `Expect:`.
    Begun(usize),
}

impl Default for Pipeline {
    fn default() -> Self {
        let (held, begun) = Default::default();
        Pipeline { held, begun, state: PipelineState::Head, last: false, line: Line::FIRST }
    }
}

impl Pipeline {
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.held.len() >= MOST
    }

    /// Whether the next byte belongs to a head.
    pub(crate) fn is_at_head(&self) -> bool {
        self.state == PipelineState::Head
    }

    /// Holds bytes back.
    pub(crate) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Takes the framing of the request whose head went through.
    pub(crate) fn understood(&mut self, request: RequestFraming) {
        self.last = request.last;
        self.state = match request.framing {
            BodyFraming::Length(0) => PipelineState::Whole,
            framing => PipelineState::Body(framing),
        };
    }

    /// Whether the chunks are malformed. Then nothing more goes through.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.state, PipelineState::Body(BodyFraming::Chunked(ChunkState::Broken)))
    }

    /// No request may follow.
    pub(crate) fn shut(&mut self) {
        self.last = true;
    }

    /// What may go through now. `in_progress`: a request is.
    pub(crate) fn passage(&mut self, in_progress: bool) -> Passage {
        match self.state {
            PipelineState::Body(BodyFraming::Chunked(ChunkState::Broken)) => Passage::Nothing,
            PipelineState::Body(_) => Passage::Through,
            PipelineState::Head if !in_progress && !self.last => Passage::Through,
            PipelineState::Whole if !in_progress && !self.last => {
                self.state = PipelineState::Head;
                Passage::Through
            }
            PipelineState::Head | PipelineState::Whole => Passage::Nothing,
            PipelineState::Seen => {
                // Once only: actix-http makes no request of a head that it refuses, and reads no
                // further.
                self.state = PipelineState::Head;
                Passage::NothingYet
            }
        }
    }

    /// Lets held bytes through, as many as fit.
    pub(crate) fn release(&mut self, out: &mut ReadBuf<'_>) {
        let n = self.held.len().min(out.remaining());
        out.put_slice(&self.held[..n]);
        self.held.advance(n);
    }

    /// The held beginning of a line goes before new bytes.
    pub(crate) fn resume(&mut self, out: &mut ReadBuf<'_>) {
        out.put_slice(&self.begun);
        self.begun.clear();
    }

    /// No more bytes came: takes all of `out` after `before` back.
    pub(crate) fn take_back(&mut self, out: &mut ReadBuf<'_>, before: usize) {
        self.begun.extend_from_slice(&out.filled()[before..]);
        out.set_filled(before);
    }

    /// Looks at bytes that are about to go through, all of `out` after `before`. Takes back the
    /// bytes after a head or a body, and the beginning of an `Expect:`.
    pub(crate) fn pass(&mut self, out: &mut ReadBuf<'_>, before: usize) {
        let end = match &mut self.state {
            PipelineState::Body(framing) => {
                let end = framing.follow(&out.filled()[before..]);
                if *framing == BodyFraming::Chunked(ChunkState::Broken) {
                    // actix-http would drop the connection at once.
                    return out.set_filled(before);
                }
                let Some(end) = end else { return };
                self.state = PipelineState::Whole;
                end
            }
            PipelineState::Head => match self.line.look(&mut out.filled_mut()[before..]) {
                HeadScan::Nothing => return,
                HeadScan::Begun(at) => return self.take_back(out, before + at),
                HeadScan::End(end) => {
                    self.state = PipelineState::Seen;
                    end
                }
            },
            // Nothing goes through.
            PipelineState::Seen | PipelineState::Whole => 0,
        };
        let surplus = &out.filled()[before + end..];
        if !surplus.is_empty() {
            let mut held = BytesMut::with_capacity(surplus.len() + self.held.len());
            held.extend_from_slice(surplus);
            held.extend_from_slice(&self.held);
            self.held = held;
        }
        out.set_filled(before + end);
    }
}

impl Line {
    /// Follows the bytes of a head to its end: the empty line after the request's line, with CRLF
    /// or with LF alone. Renames `Expect`.
    fn look(&mut self, bytes: &mut [u8]) -> HeadScan {
        let mut at = 0;
        loop {
            let rest = &mut bytes[at..];
            if self.fresh && !self.first {
                let n = rest.len().min(EXPECTED.len());
                if n > 0 && rest[..n].eq_ignore_ascii_case(&EXPECTED[..n]) {
                    if n < EXPECTED.len() {
                        return HeadScan::Begun(at);
                    }
                    rest[..EXPECT.len()].copy_from_slice(EXPECT.as_bytes());
                }
            }
            let end = memchr::memchr(b'\n', rest);
            let line = &rest[..end.unwrap_or(rest.len())];
            self.fresh &= line.is_empty();
            self.empty &= line.iter().all(|byte| *byte == b'\r');
            let Some(end) = end else { return HeadScan::Nothing };
            at += end + 1;
            if self.empty && !self.first {
                *self = Line::FIRST;
                return HeadScan::End(at);
            }
            *self = Line { first: self.first && self.empty, fresh: true, empty: true };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NO_BODY: RequestFraming = RequestFraming { framing: BodyFraming::Length(0), last: false };

    /// The bytes that go through at each step, for bytes that arrive in pieces. Every request is
    /// answered at once.
    fn steps(pieces: &[&[u8]], request: RequestFraming) -> Vec<String> {
        let (mut pipeline, mut through) = (Pipeline::default(), vec![String::new()]);
        for piece in pieces {
            pipeline.hold(piece);
            while !pipeline.is_empty() {
                if pipeline.passage(false) == Passage::NothingYet {
                    pipeline.understood(request);
                    through.push(String::new());
                    continue;
                }
                let mut space = [0; 64];
                let mut out = ReadBuf::new(&mut space);
                pipeline.resume(&mut out);
                pipeline.release(&mut out);
                pipeline.pass(&mut out, 0);
                through.last_mut().unwrap().push_str(&String::from_utf8_lossy(out.filled()));
            }
        }
        through.last_mut().unwrap().push_str(&String::from_utf8_lossy(&pipeline.begun));
        through
    }

    #[test]
    fn lets_one_head_through_at_a_time() {
        let two = b"GET / HTTP/1.1\r\nh: x\r\n\r\nHEAD / HTTP/1.1\r\n\r\nG";
        assert_eq!(steps(&[two], NO_BODY), ["GET / HTTP/1.1\r\nh: x\r\n\r\n", "HEAD / HTTP/1.1\r\n\r\n", "G"]);
        assert_eq!(steps(&[b"A\n\nB\n", b"\nC"], NO_BODY), ["A\n\n", "B\n\n", "C"]);
        assert_eq!(steps(&[b"\r\n\n\r\nA\r\n\r", b"\nB"], NO_BODY), ["\r\n\n\r\nA\r\n\r\n", "B"]);
    }

    #[test]
    fn lets_a_body_through_to_its_end() {
        let length = RequestFraming { framing: BodyFraming::Length(5), ..NO_BODY };
        let bodies = b"A\n\n\n\n\n\n\nB\n\n12345C";
        assert_eq!(steps(&[bodies], length), ["A\n\n", "\n\n\n\n\nB\n\n", "12345C"]);
        let chunked = RequestFraming { framing: BodyFraming::Chunked(ChunkState::First), ..NO_BODY };
        let bodies = b"A\n\n4\r\n\n\n\n\n\r\n0\r\n\r\nB\n\n0\r\n\r\nC";
        assert_eq!(steps(&[bodies], chunked), ["A\n\n", "4\r\n\n\n\n\n\r\n0\r\n\r\nB\n\n", "0\r\n\r\nC"]);
        assert_eq!(steps(&[b"A\n\nB\n\nC\n\n"], RequestFraming { framing: BodyFraming::Endless, ..NO_BODY }).len(), 2);
    }

    #[test]
    fn lets_nothing_through_before_the_answer_and_behind_the_last_request() {
        let mut pipeline = Pipeline::default();
        let pass = |pipeline: &mut Pipeline| {
            let mut space = [0; 64];
            let mut out = ReadBuf::new(&mut space);
            pipeline.release(&mut out);
            pipeline.pass(&mut out, 0);
            out.filled().to_vec()
        };
        pipeline.hold(b"A\n\n123B\n\nC\n\n");
        assert_eq!((pipeline.passage(false), pass(&mut pipeline)), (Passage::Through, b"A\n\n".to_vec()));
        pipeline.understood(RequestFraming { framing: BodyFraming::Length(3), last: false });
        assert_eq!((pipeline.passage(true), pass(&mut pipeline)), (Passage::Through, b"123".to_vec()));
        assert_eq!(
            (pipeline.passage(true), pipeline.passage(true), pipeline.passage(false)),
            (Passage::Nothing, Passage::Nothing, Passage::Through)
        );
        assert_eq!(pass(&mut pipeline), b"B\n\n");
        pipeline.understood(RequestFraming { framing: BodyFraming::Length(0), last: true });
        assert_eq!((pipeline.passage(true), pipeline.passage(false)), (Passage::Nothing, Passage::Nothing));
    }

    #[test]
    fn expect_goes_by_another_name_however_it_is_split() {
        let head =
            b"GET /expect: HTTP/1.1\r\nExpect: 100-continue\r\nexpected: x\r\nx: expect:\r\nEXPECT:\r\nExp: x\r\n\r\n";
        let through =
            "GET /expect: HTTP/1.1\r\nx-wait: 100-continue\r\nexpected: x\r\nx: expect:\r\nx-wait:\r\nExp: x\r\n\r\n";
        for size in 1..head.len() {
            let pieces: Vec<_> = head.chunks(size).collect();
            assert_eq!(steps(&pieces, NO_BODY)[0], through, "by {size}");
        }
    }

    proptest! {
        #[test]
        fn loses_and_invents_nothing(pieces in proptest::collection::vec("[eExpct:\r\n]{0,90}", 0..6)) {
            let bytes: Vec<_> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            let through = steps(&bytes, NO_BODY).concat().to_lowercase().replace("x-wait:", "expect:");
            prop_assert_eq!(through, pieces.concat().to_lowercase());
        }
    }
}
