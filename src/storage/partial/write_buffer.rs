//! Bytes that wait to be written.
//!
//! Promises: they come out in the order in which they went in. Large pieces stay as they came;
//! small ones are copied together, since each keeps the whole buffer that it was received in.
//! Callers: `PartialFile`.

use bytes::{Bytes, BytesMut};

/// A piece that is smaller is copied, in bytes.
const SMALL: usize = 16 << 10;

/// See the module.
#[derive(Default)]
pub(super) struct WriteBuffer {
    pieces: Vec<Bytes>,
    /// The small pieces after them, copied together.
    small: BytesMut,
    length: usize,
}

impl WriteBuffer {
    /// How many bytes wait.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        self.length += piece.len();
        if piece.len() < SMALL {
            self.small.extend_from_slice(&piece);
        } else {
            self.seal();
            self.pieces.push(piece);
        }
    }

    /// Takes everything out, in order; no piece is empty.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.seal();
        self.length = 0;
        std::mem::take(&mut self.pieces)
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_out_is_what_went_in() {
        let mut buffer = WriteBuffer::default();
        let mut expected = Vec::new();
        for n in [1, SMALL, 0, 5, 7, SMALL - 1, SMALL + 1, 3] {
            let piece = Bytes::from(vec![n as u8; n]);
            expected.extend_from_slice(&piece);
            buffer.push(piece);
        }
        assert_eq!(buffer.length(), expected.len());
        let pieces = buffer.take();
        assert!(pieces.len() == 5 && pieces.iter().all(|piece| !piece.is_empty()));
        assert_eq!(pieces.concat(), expected);
        assert_eq!((buffer.length(), buffer.take().len()), (0, 0));
    }
}
