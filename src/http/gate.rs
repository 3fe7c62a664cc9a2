//! One request at a time out of a connection's bytes.
//!
//! actix-http decodes pipelined heads as they arrive, and remembers of the last one whether it was a HEAD: the answer to a GET
//! that is still being made then loses its body and keeps its `Content-Length`, and everything after it is read out of step
//! (measured with 3.20). So a head goes in, and what follows it waits here until that request is answered. A request's own
//! body is not held back.

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

/// The most that waits, in bytes; the rest stays with the kernel.
const MOST: usize = 16 << 10;

/// What has come in and not been let through.
#[derive(Debug, Default)]
pub(super) struct Gate {
    held: BytesMut,
    at_line_start: bool,
    /// A head has been let through and nobody has looked at it yet.
    pub(super) closed: bool,
}

impl Gate {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.held.len() >= MOST
    }

    /// Keeps bytes for later.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Lets held bytes through, as many as fit.
    pub(super) fn release(&mut self, out: &mut ReadBuf<'_>) {
        let n = self.held.len().min(out.remaining());
        out.put_slice(&self.held[..n]);
        self.held.advance(n);
    }

    /// Looks at what is about to go through, all of `out` after `before`. Where a head ends in it, takes back what follows
    /// and closes.
    pub(super) fn check(&mut self, out: &mut ReadBuf<'_>, before: usize) {
        let Some(end) = self.end_of_head(&out.filled()[before..]) else { return };
        let surplus = &out.filled()[before + end..];
        if !surplus.is_empty() {
            let mut held = BytesMut::with_capacity(surplus.len() + self.held.len());
            held.extend_from_slice(surplus);
            held.extend_from_slice(&self.held);
            self.held = held;
        }
        out.set_filled(before + end);
        self.closed = true;
    }

    /// The offset behind the empty line that ends a head, with CRLF or LF alone, over as many calls as it takes. Inside a
    /// body that nobody reads it finds ends that are none, which does no harm.
    fn end_of_head(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut line = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let is_empty = bytes[line..end].iter().all(|byte| *byte == b'\r');
            if is_empty && std::mem::replace(&mut self.at_line_start, true) {
                self.at_line_start = false;
                return Some(end + 1);
            }
            self.at_line_start = true;
            line = end + 1;
        }
        // What comes next goes on with this line.
        self.at_line_start &= bytes[line..].iter().all(|byte| *byte == b'\r');
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What goes through in each step, for bytes that arrive in pieces.
    fn steps(pieces: &[&[u8]]) -> Vec<String> {
        let (mut gate, mut through) = (Gate::default(), Vec::new());
        for piece in pieces {
            gate.hold(piece);
            while !gate.is_empty() {
                let mut space = [0; 64];
                let mut out = ReadBuf::new(&mut space);
                gate.release(&mut out);
                gate.check(&mut out, 0);
                through.push(String::from_utf8_lossy(out.filled()).into_owned());
            }
        }
        through
    }

    #[test]
    fn lets_one_head_through_at_a_time() {
        let two = b"GET / HTTP/1.1\r\nh: x\r\n\r\nHEAD / HTTP/1.1\r\n\r\nG";
        assert_eq!(steps(&[two]), ["GET / HTTP/1.1\r\nh: x\r\n\r\n", "HEAD / HTTP/1.1\r\n\r\n", "G"]);
        assert_eq!(steps(&[b"A\n\nB\n", b"\nC"]), ["A\n\n", "B\n", "\n", "C"]);
        assert_eq!(steps(&[b"A\r\n\r", b"\nB"]), ["A\r\n\r", "\n", "B"]);
    }

    proptest! {
        #[test]
        fn loses_and_invents_nothing(pieces in proptest::collection::vec("[ab\r\n]{0,90}", 0..6)) {
            let bytes: Vec<_> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            prop_assert_eq!(steps(&bytes).concat(), pieces.concat());
        }
    }
}
