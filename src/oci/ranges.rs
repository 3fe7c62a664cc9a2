//! The `Range` header as a whole: one range, or several (RFC 9110 sections 14.1.2, 14.2 and
//! 15.3.7.2).
//!
//! Promises:
//! - One range costs no allocation, and means the same as a [`ByteRange`].
//! - At most [`MOST_RANGES`] ranges are kept, whatever the header's length (S9).
//! - Ranges that overlap become one, so no byte is sent twice. Ranges that only touch stay apart:
//!   containers/storage counts the parts of an answer and gives up a partial pull if they are fewer
//!   than it asked for, and its versions before 1.53 ask for ranges of eStargz layers that touch.
//! - The requested order is kept. A joined range stands at the place of its first range.

use std::str::FromStr;

use super::range::{ByteRange, ContentRange, Unsatisfiable};

/// The most ranges that one request may ask for.
pub const MOST_RANGES: usize = 1000;

/// The ranges of a `Range` header. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ByteRanges {
    first: ByteRange,
    others: Vec<ByteRange>,
}

/// Why a `Range` header is not followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotRanges {
    /// It is not a list of byte ranges. It is ignored, and the answer is the whole content.
    Malformed,
    /// It has more than [`MOST_RANGES`] ranges. It is refused, and clients ask again with fewer.
    TooMany,
}

impl FromStr for ByteRanges {
    type Err = NotRanges;

    fn from_str(header: &str) -> Result<Self, NotRanges> {
        let (unit, set) = header.trim().split_once('=').ok_or(NotRanges::Malformed)?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return Err(NotRanges::Malformed);
        }
        // A list may have empty elements (RFC 9110 section 5.6.1.2).
        let mut specs = set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
        let parse = |spec: &str| spec.parse::<ByteRange>().map_err(|_| NotRanges::Malformed);
        let first = parse(specs.next().ok_or(NotRanges::Malformed)?)?;
        let mut others = Vec::new();
        for spec in specs {
            if others.len() + 1 == MOST_RANGES {
                return Err(NotRanges::TooMany);
            }
            others.push(parse(spec)?);
        }
        let ranges = ByteRanges { first, others };
        // A backward range alone cannot be satisfied; among others it makes the header malformed.
        let spoiled = !ranges.others.is_empty() && ranges.iter().any(|range| range.is_backward());
        if spoiled { Err(NotRanges::Malformed) } else { Ok(ranges) }
    }
}

impl From<ByteRange> for ByteRanges {
    fn from(first: ByteRange) -> Self {
        ByteRanges { first, others: Vec::new() }
    }
}

impl ByteRanges {
    fn iter(&self) -> impl Iterator<Item = &ByteRange> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The ranges in content of `total` bytes, without those that cannot be satisfied.
    ///
    /// # Errors
    /// None of them can be satisfied.
    pub fn resolve(&self, total: u64) -> Result<ContentRanges, Unsatisfiable> {
        if self.others.is_empty() {
            return self.first.resolve(total).map(ContentRanges::from);
        }
        let resolved: Vec<_> = self.iter().filter_map(|range| range.resolve(total).ok()).collect();
        let mut joined = join(resolved).into_iter();
        let first = joined.next().ok_or(Unsatisfiable { total })?;
        Ok(ContentRanges { first, others: joined.collect() })
    }
}

/// Joins the ranges that overlap. Each joined range has the place of its first one.
fn join(mut ranges: Vec<ContentRange>) -> Vec<ContentRange> {
    if ranges.is_sorted_by(|before, after| before.last < after.first) {
        return ranges;
    }
    let mut places: Vec<_> = ranges.drain(..).enumerate().collect();
    places.sort_by_key(|(_, range)| range.first);
    let mut joined: Vec<(usize, ContentRange)> = Vec::with_capacity(places.len());
    for (place, range) in places {
        match joined.last_mut() {
            Some((first_place, before)) if range.first <= before.last => {
                *first_place = place.min(*first_place);
                before.last = range.last.max(before.last);
            }
            Some(_) | None => joined.push((place, range)),
        }
    }
    joined.sort_by_key(|(place, _)| *place);
    joined.into_iter().map(|(_, range)| range).collect()
}

/// At least one range within content of a known length. None is empty, and no two overlap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContentRanges {
    first: ContentRange,
    others: Vec<ContentRange>,
}

impl From<ContentRange> for ContentRanges {
    fn from(first: ContentRange) -> Self {
        ContentRanges { first, others: Vec::new() }
    }
}

impl ContentRanges {
    /// The range, if it is the only one.
    pub fn single(&self) -> Option<ContentRange> {
        self.others.is_empty().then_some(self.first)
    }

    /// All ranges, in the order of sending.
    pub fn iter(&self) -> impl Iterator<Item = &ContentRange> + Clone {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The first range, and the others.
    pub fn split(self) -> (ContentRange, Vec<ContentRange>) {
        (self.first, self.others)
    }

    /// Whether each range begins after the one before it.
    pub fn is_ascending(&self) -> bool {
        self.iter().is_sorted_by_key(|range| range.first)
    }

    /// The offset of the first byte of all ranges.
    pub fn start(&self) -> u64 {
        self.iter().map(|range| range.first).min().unwrap_or(self.first.first)
    }

    /// The offset after the last byte of all ranges.
    pub fn end(&self) -> u64 {
        self.iter().map(|range| range.last).max().unwrap_or(self.first.last) + 1
    }

    /// The number of bytes between the ranges.
    pub fn gaps(&self) -> u64 {
        self.end() - self.start() - self.iter().map(ContentRange::length).sum::<u64>()
    }

    /// Whether the ranges are the whole content, from its first byte to its last in order.
    pub fn is_whole(&self) -> bool {
        self.is_ascending() && self.start() == 0 && self.end() == self.first.total && self.gaps() == 0
    }
}

#[cfg(test)]
#[path = "ranges_tests.rs"]
mod tests;
