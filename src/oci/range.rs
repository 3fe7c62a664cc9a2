//! A request's byte range (RFC 9110 section 14) over a blob.

use std::{fmt, str::FromStr};

/// One range as the client wrote it. Several ranges in one header, other units and nonsense are no `ByteRange`: RFC 9110
/// lets a server ignore such a header and answer with the whole, and lanyard does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteRange {
    /// `bytes=first-last`, both inclusive; `last` absent means to the end.
    From {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte, inclusive.
        last: Option<u64>,
    },
    /// `bytes=-length`: the last `length` bytes.
    Suffix {
        /// How many bytes from the end.
        length: u64,
    },
}

/// The header is to be ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotARange;

impl FromStr for ByteRange {
    type Err = NotARange;

    fn from_str(header: &str) -> Result<Self, NotARange> {
        let digits = |s: &str| {
            if s.is_empty() || !s.bytes().all(|b| b.is_ascii_digit()) {
                return Err(NotARange);
            }
            // Past 2^64 it is past the end of anything.
            Ok(s.parse().unwrap_or(u64::MAX))
        };
        let spec = header.trim().strip_prefix("bytes=").ok_or(NotARange)?.trim();
        let (first, last) = spec.split_once('-').ok_or(NotARange)?;
        match (first, last) {
            ("", length) => Ok(ByteRange::Suffix { length: digits(length)? }),
            (first, "") => Ok(ByteRange::From { first: digits(first)?, last: None }),
            (first, last) => {
                let (first, last) = (digits(first)?, digits(last)?);
                // `first > last` is syntactically invalid (RFC 9110 14.1.1), yet every registry, and the OCI conformance
                // program, treats it as a range that cannot be satisfied.
                Ok(ByteRange::From { first, last: Some(last) })
            }
        }
    }
}

/// No byte of the content is in the range: 416, with `Content-Range: bytes */total`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsatisfiable {
    /// The content's length in bytes.
    pub total: u64,
}

/// A range laid over content of a known length. Never empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContentRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte, inclusive.
    pub last: u64,
    /// The content's length in bytes.
    pub total: u64,
}

impl ByteRange {
    /// Lays the range over `total` bytes, clipping its end.
    pub fn over(self, total: u64) -> Result<ContentRange, Unsatisfiable> {
        let none = Unsatisfiable { total };
        let end = total.checked_sub(1).ok_or(none)?;
        let (first, last) = match self {
            ByteRange::From { first, last } => (first, last.unwrap_or(end).min(end)),
            ByteRange::Suffix { length: 0 } => return Err(none),
            ByteRange::Suffix { length } => (total.saturating_sub(length), end),
        };
        if first > last { Err(none) } else { Ok(ContentRange { first, last, total }) }
    }
}

impl ContentRange {
    /// How many bytes it spans.
    pub fn length(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// The `Content-Range` header of a 206.
impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}-{}/{}", self.first, self.last, self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lays_ranges_over_content() {
        let over = |s: &str, total| s.parse::<ByteRange>().map(|r| r.over(total).map(|c| (c.first, c.last)));
        assert_eq!(over("bytes=0-99", 1000), Ok(Ok((0, 99))));
        assert_eq!(over("bytes=990-2000", 1000), Ok(Ok((990, 999))));
        assert_eq!(over("bytes=500-", 1000), Ok(Ok((500, 999))));
        assert_eq!(over("bytes=-500", 1000), Ok(Ok((500, 999))));
        assert_eq!(over("bytes=-5000", 1000), Ok(Ok((0, 999))));
        assert_eq!(over("bytes=500-0", 1000), Ok(Err(Unsatisfiable { total: 1000 })));
        assert_eq!(over("bytes=1000-", 1000), Ok(Err(Unsatisfiable { total: 1000 })));
        assert_eq!(over("bytes=-0", 1000), Ok(Err(Unsatisfiable { total: 1000 })));
        assert_eq!(over("bytes=0-", 0), Ok(Err(Unsatisfiable { total: 0 })));
        assert_eq!(over("bytes=99999999999999999999-", 1000), Ok(Err(Unsatisfiable { total: 1000 })));
        for ignored in ["", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-2"] {
            assert_eq!(ignored.parse::<ByteRange>(), Err(NotARange), "{ignored}");
        }
    }

    proptest! {
        #[test]
        fn stays_inside(first: u64, last: Option<u64>, total: u64) {
            if let Ok(c) = (ByteRange::From { first, last }).over(total) {
                prop_assert!(c.first <= c.last && c.last < total && c.first == first);
            }
        }
    }
}
