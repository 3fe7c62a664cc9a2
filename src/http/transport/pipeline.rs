//! One request at a time out of a connection's bytes (S29).
//!
//! actix-http decodes pipelined requests as they arrive, and remembers of the last one whether it
//! was a HEAD: the answer to a GET that is still being made then loses its body and keeps its
//! `Content-Length`, and everything after it is read out of step (measured with 3.20). So the gate
//! lets one head through, then its body to the last byte, and nothing more until that request is
//! answered:
//!
//! | state | lets through | ends with |
//! |---|---|---|
//! | `Head` | a head | its empty line |
//! | `Seen` | nothing | the request's word on its body ([`Gate::told`]) |
//! | `Body` | the body | its last byte, as [`Framing`] counts; broken chunks end it for good |
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

use crate::http::transport::framing::{Chunk, Coming, Framing};

/// The most that waits, in bytes; the rest stays with the kernel.
const MOST: usize = 16 << 10;

/// What `Expect` is called behind the gate: as long as that, and known to nobody else.
pub(crate) const EXPECT: &str = "x-wait";
const EXPECTED: &[u8] = b"expect:";

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Head,
    Seen,
    Body(Framing),
    Whole,
}

/// What the gate lets through now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lets {
    /// Bytes, which then go through [`Gate::pass`].
    Through,
    /// Nothing before actix-http has looked at the head that went through.
    NothingYet,
    /// Nothing before the request that went through is answered.
    Nothing,
}

/// What has come in and not been let through.
#[derive(Debug)]
pub(crate) struct Gate {
    held: BytesMut,
    /// The beginning of a line that may become `Expect:`.
    begun: BytesMut,
    state: State,
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
enum Found {
    /// It goes on.
    Nothing,
    /// It ends here.
    End(usize),
    /// From here on it may be the beginning of `Expect:`.
    Begun(usize),
}

impl Default for Gate {
    fn default() -> Self {
        let (held, begun) = Default::default();
        Gate { held, begun, state: State::Head, last: false, line: Line::FIRST }
    }
}

impl Gate {
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.held.len() >= MOST
    }

    /// Whether what goes through next is of a head.
    pub(crate) fn is_at_head(&self) -> bool {
        self.state == State::Head
    }

    /// Keeps bytes for later.
    pub(crate) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The request whose head went through says what follows.
    pub(crate) fn told(&mut self, coming: Coming) {
        self.last = coming.last;
        self.state = match coming.framing {
            Framing::Length(0) => State::Whole,
            framing => State::Body(framing),
        };
    }

    /// Whether what came as chunks is none. Then nothing more goes through.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.state, State::Body(Framing::Chunked(Chunk::Broken)))
    }

    /// No request may follow.
    pub(crate) fn shut(&mut self) {
        self.last = true;
    }

    /// What may go through, while a request is in progress or not.
    pub(crate) fn lets(&mut self, in_progress: bool) -> Lets {
        match self.state {
            State::Body(Framing::Chunked(Chunk::Broken)) => Lets::Nothing,
            State::Body(_) => Lets::Through,
            State::Head if !in_progress && !self.last => Lets::Through,
            State::Whole if !in_progress && !self.last => {
                self.state = State::Head;
                Lets::Through
            }
            State::Head | State::Whole => Lets::Nothing,
            State::Seen => {
                // Once: a head that actix-http refuses says nothing, and what follows it is not
                // read.
                self.state = State::Head;
                Lets::NothingYet
            }
        }
    }

    /// Lets held bytes through, as many as fit.
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
            State::Body(framing) => {
                let end = framing.follow(&out.filled()[before..]);
                if *framing == Framing::Chunked(Chunk::Broken) {
                    // actix-http would drop the connection at once.
                    return out.set_filled(before);
                }
                let Some(end) = end else { return };
                self.state = State::Whole;
                end
            }
            State::Head => match self.line.look(&mut out.filled_mut()[before..]) {
                Found::Nothing => return,
                Found::Begun(at) => return self.take_back(out, before + at),
                Found::End(end) => {
                    self.state = State::Seen;
                    end
                }
            },
            // Nothing goes through.
            State::Seen | State::Whole => 0,
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
    fn look(&mut self, bytes: &mut [u8]) -> Found {
        let mut at = 0;
        loop {
            let rest = &mut bytes[at..];
            if self.fresh && !self.first {
                let n = rest.len().min(EXPECTED.len());
                if n > 0 && rest[..n].eq_ignore_ascii_case(&EXPECTED[..n]) {
                    if n < EXPECTED.len() {
                        return Found::Begun(at);
                    }
                    rest[..EXPECT.len()].copy_from_slice(EXPECT.as_bytes());
                }
            }
            let end = memchr::memchr(b'\n', rest);
            let line = &rest[..end.unwrap_or(rest.len())];
            self.fresh &= line.is_empty();
            self.empty &= line.iter().all(|byte| *byte == b'\r');
            let Some(end) = end else { return Found::Nothing };
            at += end + 1;
            if self.empty && !self.first {
                *self = Line::FIRST;
                return Found::End(at);
            }
            *self = Line { first: self.first && self.empty, fresh: true, empty: true };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NO_BODY: Coming = Coming { framing: Framing::Length(0), last: false };

    /// What goes through between two words, for bytes that arrive in pieces; every request is
    /// answered at once.
    fn steps(pieces: &[&[u8]], coming: Coming) -> Vec<String> {
        let (mut gate, mut through) = (Gate::default(), vec![String::new()]);
        for piece in pieces {
            gate.hold(piece);
            while !gate.is_empty() {
                if gate.lets(false) == Lets::NothingYet {
                    gate.told(coming);
                    through.push(String::new());
                    continue;
                }
                let mut space = [0; 64];
                let mut out = ReadBuf::new(&mut space);
                gate.resume(&mut out);
                gate.release(&mut out);
                gate.pass(&mut out, 0);
                through.last_mut().unwrap().push_str(&String::from_utf8_lossy(out.filled()));
            }
        }
        through.last_mut().unwrap().push_str(&String::from_utf8_lossy(&gate.begun));
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
        let length = Coming { framing: Framing::Length(5), ..NO_BODY };
        let bodies = b"A\n\n\n\n\n\n\nB\n\n12345C";
        assert_eq!(steps(&[bodies], length), ["A\n\n", "\n\n\n\n\nB\n\n", "12345C"]);
        let chunked = Coming { framing: Framing::Chunked(Chunk::First), ..NO_BODY };
        let bodies = b"A\n\n4\r\n\n\n\n\n\r\n0\r\n\r\nB\n\n0\r\n\r\nC";
        assert_eq!(steps(&[bodies], chunked), ["A\n\n", "4\r\n\n\n\n\n\r\n0\r\n\r\nB\n\n", "0\r\n\r\nC"]);
        assert_eq!(steps(&[b"A\n\nB\n\nC\n\n"], Coming { framing: Framing::Endless, ..NO_BODY }).len(), 2);
    }

    #[test]
    fn lets_nothing_through_before_the_answer_and_behind_the_last_request() {
        let mut gate = Gate::default();
        let pass = |gate: &mut Gate| {
            let mut space = [0; 64];
            let mut out = ReadBuf::new(&mut space);
            gate.release(&mut out);
            gate.pass(&mut out, 0);
            out.filled().to_vec()
        };
        gate.hold(b"A\n\n123B\n\nC\n\n");
        assert_eq!((gate.lets(false), pass(&mut gate)), (Lets::Through, b"A\n\n".to_vec()));
        gate.told(Coming { framing: Framing::Length(3), last: false });
        assert_eq!((gate.lets(true), pass(&mut gate)), (Lets::Through, b"123".to_vec()));
        assert_eq!((gate.lets(true), gate.lets(true), gate.lets(false)), (Lets::Nothing, Lets::Nothing, Lets::Through));
        assert_eq!(pass(&mut gate), b"B\n\n");
        gate.told(Coming { framing: Framing::Length(0), last: true });
        assert_eq!((gate.lets(true), gate.lets(false)), (Lets::Nothing, Lets::Nothing));
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
