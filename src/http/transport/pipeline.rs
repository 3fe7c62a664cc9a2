//! One request at a time out of a connection's bytes (S29).
//!
//! actix-http decodes pipelined requests as they arrive, and remembers of the last one whether it
//! was a HEAD: the answer to a GET that is still being made then loses its body and keeps its
//! `Content-Length`, and everything after it is read out of step (measured with 3.20). So the pipeline
//! lets one head through, then its body to the last byte, and nothing more until that request is
//! answered:
//!
//! | state | lets through | ends with |
//! |---|---|---|
//! | `Head` | a head | its empty line |
//! | `Seen` | nothing | the request's word on its body ([`Pipeline::told`]) |
//! | `Body` | the body | its last byte, as [`BodyFraming`] counts; broken chunks end it for good |
//! | `Whole` | nothing | the answer |
//!
//! Where the client says that a request is its last, or a body was not read to its end, `Whole`
//! does not end.
//!
//! A head's `Expect` goes through under another name ([`EXPECT`]): actix-http would send `100
//! Continue` before anybody has looked at the request. The connection sends it when the body is
//! asked for (`connection.rs`).

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use crate::http::transport::framing::{BodyFraming, ChunkState, RequestFraming};

/// The most that waits, in bytes; the rest stays with the kernel.
const MOST: usize = 16 << 10;

/// What `Expect` is called behind the pipeline: as long as that, and known to nobody else.
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

/// What the pipeline lets through now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Passage {
    /// Bytes, which then go through [`Pipeline::pass`].
    Through,
    /// Nothing before actix-http has looked at the head that went through.
    NothingYet,
    /// Nothing before the request that went through is answered.
    Nothing,
}

/// What has come in and not been let through.
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

/// The line of a head that comes in now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Line {
    /// It is the request's line, or an empty one before it.
    first: bool,
    /// None of it is there yet.
    fresh: bool,
    /// Nothing of it is there but carriage returns.
    empty: bool,
}

impl Line {
    const FIRST: Line = Line { first: true, fresh: true, empty: true };
}

/// What a look at a head found.
enum HeadScan {
    /// It goes on.
    Nothing,
    /// It ends here.
    End(usize),
    /// From here on it may be the beginning of `Expect:`.
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

    /// Whether what goes through next is of a head.
    pub(crate) fn is_at_head(&self) -> bool {
        self.state == PipelineState::Head
    }

    /// Keeps bytes for later.
    pub(crate) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The request whose head went through says what follows.
    pub(crate) fn told(&mut self, coming: RequestFraming) {
        self.last = coming.last;
        self.state = match coming.framing {
            BodyFraming::Length(0) => PipelineState::Whole,
            framing => PipelineState::Body(framing),
        };
    }

    /// Whether what came as chunks is none. Then nothing more goes through.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.state, PipelineState::Body(BodyFraming::Chunked(ChunkState::Broken)))
    }

    /// No request may follow.
    pub(crate) fn shut(&mut self) {
        self.last = true;
    }

    /// What may go through, while a request is in progress or not.
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
                // Once: a head that actix-http refuses says nothing, and what follows it is not
                // read.
                self.state = PipelineState::Head;
                Passage::NothingYet
            }
        }
    }

    /// Passage held bytes through, as many as fit.
    pub(crate) fn release(&mut self, out: &mut ReadBuf<'_>) {
        let n = self.held.len().min(out.remaining());
        out.put_slice(&self.held[..n]);
        self.held.advance(n);
    }

    /// What was held back of a line goes before what comes now.
    pub(crate) fn resume(&mut self, out: &mut ReadBuf<'_>) {
        out.put_slice(&self.begun);
        self.begun.clear();
    }

    /// Nothing came after all: takes that back, all of `out` after `before`.
    pub(crate) fn take_back(&mut self, out: &mut ReadBuf<'_>, before: usize) {
        self.begun.extend_from_slice(&out.filled()[before..]);
        out.set_filled(before);
    }

    /// Looks at what is about to go through, all of `out` after `before`. Takes back what follows a
    /// head or a body, and what may become an `Expect:`.
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
    /// Goes on over bytes of a head to its end: the empty line behind the request's line, with CRLF
    /// or LF alone. Renames `Expect`.
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

    /// What goes through between two words, for bytes that arrive in pieces; every request is
    /// answered at once.
    fn steps(pieces: &[&[u8]], coming: RequestFraming) -> Vec<String> {
        let (mut pipeline, mut through) = (Pipeline::default(), vec![String::new()]);
        for piece in pieces {
            pipeline.hold(piece);
            while !pipeline.is_empty() {
                if pipeline.passage(false) == Passage::NothingYet {
                    pipeline.told(coming);
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
        pipeline.told(RequestFraming { framing: BodyFraming::Length(3), last: false });
        assert_eq!((pipeline.passage(true), pass(&mut pipeline)), (Passage::Through, b"123".to_vec()));
        assert_eq!(
            (pipeline.passage(true), pipeline.passage(true), pipeline.passage(false)),
            (Passage::Nothing, Passage::Nothing, Passage::Through)
        );
        assert_eq!(pass(&mut pipeline), b"B\n\n");
        pipeline.told(RequestFraming { framing: BodyFraming::Length(0), last: true });
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
