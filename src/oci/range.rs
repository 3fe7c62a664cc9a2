//! One byte range of a request (RFC 9110 section 14) over a blob. The header, which may have
//! several, is `ranges.rs`.

use std::{fmt, str::FromStr};

/// One range as the client wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteRange {
    /// `first-last`, both inclusive. Without `last` it goes to the end.
    From {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte, inclusive.
        last: Option<u64>,
    },
    /// `-length`: the last `length` bytes.
    Suffix {
        /// The number of bytes before the end.
        length: u64,
    },
}

/// The text is not a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotARange;

impl FromStr for ByteRange {
    type Err = NotARange;

    fn from_str(spec: &str) -> Result<Self, NotARange> {
        let digits = |s: &str| {
            if s.is_empty() || !s.bytes().all(|b| b.is_ascii_digit()) {
                return Err(NotARange);
            }
            // A number past 2^64 is past the end of any content.
            Ok(s.parse().unwrap_or(u64::MAX))
        };
        let (first, last) = spec.split_once('-').ok_or(NotARange)?;
        match (first, last) {
            ("", length) => Ok(ByteRange::Suffix { length: digits(length)? }),
            (first, "") => Ok(ByteRange::From { first: digits(first)?, last: None }),
            (first, last) => {
                let (first, last) = (digits(first)?, digits(last)?);
                // `first > last` is syntactically invalid (RFC 9110 14.1.1). Every registry and the
                // OCI conformance program treat it as a range that cannot be satisfied.
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

/// A range within content of a known length. Never empty.
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
    /// Whether its last byte is before its first.
    pub(super) fn is_backward(&self) -> bool {
        matches!(*self, ByteRange::From { first, last: Some(last) } if last < first)
    }

    /// The bytes of the range in content of `total` bytes. Its end is cut to the content's end.
    pub fn resolve(self, total: u64) -> Result<ContentRange, Unsatisfiable> {
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
    /// The number of its bytes, at least 1.
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
        let over = |s: &str, total| s.parse::<ByteRange>().map(|r| r.resolve(total).map(|c| (c.first, c.last)));
        assert_eq!(over("0-99", 1000), Ok(Ok((0, 99))));
        assert_eq!(over("990-2000", 1000), Ok(Ok((990, 999))));
        assert_eq!(over("500-", 1000), Ok(Ok((500, 999))));
        assert_eq!(over("-500", 1000), Ok(Ok((500, 999))));
        assert_eq!(over("-5000", 1000), Ok(Ok((0, 999))));
        assert_eq!(over("500-0", 1000), Ok(Err(Unsatisfiable { total: 1000 })));
        assert_eq!(over("1000-", 1000), Ok(Err(Unsatisfiable { total: 1000 })));
        assert_eq!(over("-0", 1000), Ok(Err(Unsatisfiable { total: 1000 })));
        assert_eq!(over("0-", 0), Ok(Err(Unsatisfiable { total: 0 })));
        assert_eq!(over("99999999999999999999-", 1000), Ok(Err(Unsatisfiable { total: 1000 })));
        for ignored in ["", "-", "5", "a-b", "0-1,3-4", "bytes=0-1", "+1-2", "1 -2", "1-2-3", " 0-1"] {
            assert_eq!(ignored.parse::<ByteRange>(), Err(NotARange), "{ignored}");
        }
    }

    proptest! {
        #[test]
        fn stays_inside(first: u64, last: Option<u64>, total: u64) {
            if let Ok(c) = (ByteRange::From { first, last }).resolve(total) {
                prop_assert!(c.first <= c.last && c.last < total && c.first == first);
            }
        }
    }
}
