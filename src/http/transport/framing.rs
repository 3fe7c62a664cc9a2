//! Where the body of a request ends (RFC 9112, sections 6 and 7).
//!
//! actix-http parses the head, and [`RequestFraming::of`] takes the framing of the body from it.
//! The pipeline follows the bytes by the same steps as actix-http decodes them, so that both agree
//! on the first byte after the body (S29).

use actix_http::ConnectionType;
use actix_web::{
    HttpRequest,
    http::{
        Method,
        header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE},
    },
};

/// How the body of a request is framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BodyFraming {
    /// So many bytes are still to come. 0: there is no body, or no more of it.
    Length(u64),
    /// Chunks are to come.
    Chunked(ChunkState),
    /// All bytes up to the connection's end are the body.
    Endless,
}

/// The next part of a chunked body. The numbers are the chunk's size, or the rest of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ChunkState {
    /// The first digit of a size.
    First,
    /// More digits.
    Digits(u64),
    /// Blanks behind the digits.
    Blank(u64),
    /// An extension.
    Extension(u64),
    /// The end of the size's line.
    SizeLf(u64),
    /// Bytes of the body.
    Data(u64),
    /// The end of the data's line.
    DataCr,
    DataLf,
    /// The empty line that ends the body, or a trailer.
    EndCr,
    EndLf,
    /// A trailer, and the end of its line.
    Trailer,
    TrailerLf,
    /// The body has ended.
    Over,
    /// Malformed: the request is answered 400, and no more of it is read.
    Broken,
}

/// The facts that the pipeline needs of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RequestFraming {
    pub(crate) framing: BodyFraming,
    /// The client says that no request follows on this connection.
    pub(crate) last: bool,
}

impl RequestFraming {
    /// Takes them from the head as actix-http has parsed it.
    pub(crate) fn of(request: &HttpRequest) -> RequestFraming {
        let headers = request.headers();
        let length = || headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse::<u64>().ok();
        let is_websocket = |value: &str| value.trim().eq_ignore_ascii_case("websocket");
        let framing = if headers.contains_key(TRANSFER_ENCODING) {
            // actix-http has refused every other coding.
            BodyFraming::Chunked(ChunkState::First)
        } else if headers.get_all(UPGRADE).any(|value| value.to_str().is_ok_and(is_websocket)) {
            BodyFraming::Endless
        } else {
            match length().unwrap_or(0) {
                0 if *request.method() == Method::CONNECT => BodyFraming::Endless,
                length => BodyFraming::Length(length),
            }
        };
        let last = request.head().connection_type() != ConnectionType::KeepAlive;
        RequestFraming { framing, last }
    }

    /// Whether there is a body.
    pub(crate) fn has_body(&self) -> bool {
        self.framing != BodyFraming::Length(0)
    }
}

impl BodyFraming {
    /// Follows `bytes`. Returns the offset after the body if it ends in them; `None` if all of them
    /// belong to it and it goes on.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Option<usize> {
        match self {
            BodyFraming::Length(left) if *left <= bytes.len() as u64 => {
                let end = *left as usize;
                *left = 0;
                Some(end)
            }
            BodyFraming::Length(left) => {
                *left -= bytes.len() as u64;
                None
            }
            BodyFraming::Chunked(chunk) => chunk.follow(bytes),
            BodyFraming::Endless => None,
        }
    }
}

impl ChunkState {
    fn follow(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if let ChunkState::Data(left) = *self {
                let step = left.min((bytes.len() - at) as u64);
                at += step as usize;
                *self = if step == left { ChunkState::DataCr } else { ChunkState::Data(left - step) };
                continue;
            }
            *self = self.step(bytes[at]);
            at += 1;
            if *self == ChunkState::Over {
                return Some(at);
            }
        }
        None
    }

    /// The steps of actix-http's `h1/chunked.rs`.
    fn step(self, byte: u8) -> ChunkState {
        match (self, byte) {
            (ChunkState::First, _) => digit(byte).map_or(ChunkState::Broken, ChunkState::Digits),
            (ChunkState::Digits(size) | ChunkState::Blank(size), b' ' | b'\t') => ChunkState::Blank(size),
            (ChunkState::Digits(size) | ChunkState::Blank(size), b';') => ChunkState::Extension(size),
            (ChunkState::Digits(size) | ChunkState::Blank(size) | ChunkState::Extension(size), b'\r') => {
                ChunkState::SizeLf(size)
            }
            (ChunkState::Digits(size), _) => {
                let longer = digit(byte).and_then(|digit| Some(size.checked_mul(16)? + digit));
                longer.map_or(ChunkState::Broken, ChunkState::Digits)
            }
            (ChunkState::Extension(_), 0x00..=0x08 | 0x0a..=0x1f | 0x7f) => ChunkState::Broken,
            (ChunkState::Extension(size), _) => ChunkState::Extension(size),
            (ChunkState::SizeLf(0), b'\n') => ChunkState::EndCr,
            (ChunkState::SizeLf(size), b'\n') => ChunkState::Data(size),
            (ChunkState::DataCr, b'\r') => ChunkState::DataLf,
            (ChunkState::DataLf, b'\n') => ChunkState::First,
            (ChunkState::EndCr, b'\r') => ChunkState::EndLf,
            (ChunkState::EndLf, b'\n') => ChunkState::Over,
            (ChunkState::Trailer, b'\r') => ChunkState::TrailerLf,
            (ChunkState::EndCr | ChunkState::Trailer, _) => ChunkState::Trailer,
            (ChunkState::TrailerLf, b'\n') => ChunkState::EndCr,
            (
                ChunkState::Blank(_)
                | ChunkState::SizeLf(_)
                | ChunkState::DataCr
                | ChunkState::DataLf
                | ChunkState::EndLf
                | ChunkState::TrailerLf
                | ChunkState::Data(_)
                | ChunkState::Over
                | ChunkState::Broken,
                _,
            ) => ChunkState::Broken,
        }
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of the body, however its bytes are split.
    fn end(body: &[u8]) -> Option<usize> {
        let whole = BodyFraming::Chunked(ChunkState::First).follow(body);
        for split in 1..body.len() {
            let (mut framing, mut before, mut ended) = (BodyFraming::Chunked(ChunkState::First), 0, None);
            for piece in body.chunks(split) {
                if let Some(end) = framing.follow(piece) {
                    ended = Some(before + end);
                    break;
                }
                before += piece.len();
            }
            assert_eq!(ended, whole, "split by {split}: {}", String::from_utf8_lossy(body));
        }
        whole
    }

    #[test]
    fn chunks_end_where_they_end() {
        for body in [
            "0\r\n\r\n",
            "4\r\nabcd\r\n0\r\n\r\n",
            "4;a=\"b\"\r\nab\r\n\r\n0;x\r\n\r\n",
            "A \t\r\n0123456789\r\n00\r\n\r\n",
            "1\r\nx\r\n0\r\nTrailer: y\r\nX: z\r\n\r\n",
            "5\r\n0\r\n\r\n\r\n0\r\n\r\n",
        ] {
            let more = format!("{body}GET / HTTP/1.1\r\n\r\n");
            assert_eq!(end(more.as_bytes()), Some(body.len()), "{body:?}");
            assert_eq!(end(&body.as_bytes()[..body.len() - 1]), None, "{body:?}");
        }
        for broken in
            ["x", "0x4\r\nabcd\r\n0\r\n\r\n", "4\nabcd\n0\n\n", "2;\nxx\r\n", "fffffffffffffffff\r\n", "1\r\nab\r\n"]
        {
            let more = format!("{broken}0\r\n\r\nGET / HTTP/1.1\r\n\r\n0\r\n\r\n");
            assert_eq!(end(more.as_bytes()), None, "{broken:?}");
        }
    }

    #[test]
    fn lengths_are_counted_down() {
        let mut framing = BodyFraming::Length(10);
        assert_eq!(
            (framing.follow(b"12345678"), framing.follow(b"90GET"), framing),
            (None, Some(2), BodyFraming::Length(0))
        );
        assert_eq!(BodyFraming::Length(0).follow(b"GET"), Some(0));
        assert_eq!(BodyFraming::Endless.follow(b"anything\r\n\r\n"), None);
    }
}
