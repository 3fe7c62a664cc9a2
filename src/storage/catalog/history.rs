//! What a tag has named so far. The file of a tag holds it beside the tag's record; the index does
//! not, so a look at a tag or a page of tags costs the same with and without it.
//!
//! ```text
//! {"v":1,"tag":"latest",…,"updated":1700000000,"since":1690000000,"before":[
//!  {"digest":"sha256:…","media_type":"…","size":529,"from":1680000000,"until":1690000000}]}
//! ```
//!
//! Promises: `Catalog::put_tag` alone writes it, so no caller can forget it. [`MOVES`] moves are
//! kept, the newest last, and fewer where the record would grow beyond its bound. Of too many the
//! oldest goes whose digest the tag has named again since, and only without one the oldest of all:
//! a tag that flaps between two digests pushes no third one out. So the moves may have gaps, and
//! the tag cannot be frozen at a day that has become one. A record of a lanyard that kept no
//! history reads as a tag that has named one digest since it was last written. Callers: the
//! catalogues; the pull, for frozen tags; the retention and the administration.

use serde::{Deserialize, Serialize};

use super::records::TagRecord;
use crate::oci::Digest;

/// How many moves of a tag are kept.
pub const MOVES: usize = 16;

/// A tag's record, and what it named before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TagHistory {
    /// What it names.
    #[serde(flatten)]
    pub record: TagRecord,
    /// Since when, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    /// What it named before, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<PastTarget>,
}

/// What a tag named once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PastTarget {
    /// The manifest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// When the tag was first seen to name it, in seconds since 1970.
    pub from: u64,
    /// When it was seen to name another one.
    pub until: u64,
}

impl TagHistory {
    /// The history of a tag that gets this record now.
    pub(super) fn moved(before: Option<TagHistory>, record: &TagRecord) -> TagHistory {
        let Some(old) = before else {
            return TagHistory { record: record.clone(), since: Some(record.updated), before: Vec::new() };
        };
        let since = old.since();
        if old.record.digest == record.digest {
            return TagHistory { record: record.clone(), since: Some(since), before: old.before };
        }
        let TagHistory { record: TagRecord { digest, media_type, size, .. }, mut before, .. } = old;
        before.push(PastTarget { digest, media_type, size, from: since, until: record.updated });
        let mut seen = TagHistory { record: record.clone(), since: Some(record.updated), before };
        while seen.before.len() > MOVES {
            seen.forget_one();
        }
        seen
    }

    /// Forgets the oldest of the moves whose digest the tag has named again since; without one, the
    /// oldest of all. So the tag keeps as many digests as it can. What it named at the time of that
    /// move is lost: [`at`](Self::at) then answers `None`, not what it named before.
    pub(super) fn forget_one(&mut self) {
        let is_named_again = |at: usize, digest: Digest| {
            self.record.digest == digest || self.before.iter().skip(at + 1).any(|later| later.digest == digest)
        };
        let again = self.before.iter().enumerate().position(|(at, past)| is_named_again(at, past.digest));
        let at = again.unwrap_or(0);
        if at < self.before.len() {
            self.before.remove(at);
        }
    }

    /// Since when it names what it names, in seconds since 1970.
    pub fn since(&self) -> u64 {
        self.since.unwrap_or(self.record.updated)
    }

    /// When it was seen to name the digest, the last time that it did, in seconds since 1970.
    pub fn since_it_named(&self, digest: &Digest) -> Option<u64> {
        if self.record.digest == *digest {
            return Some(self.since());
        }
        self.before.iter().rev().find(|past| past.digest == *digest).map(|past| past.from)
    }

    /// When the tag was first seen, as far as the history goes back.
    pub fn first_seen(&self) -> u64 {
        self.before.first().map_or(self.since(), |first| first.from)
    }

    /// What the tag named at that time, in seconds since 1970. `None`: it was not seen by then, or
    /// that move is forgotten. A clock that was wrong for a while spoils only what was written
    /// meanwhile.
    pub fn at(&self, time: u64) -> Option<Digest> {
        if self.since() <= time {
            return Some(self.record.digest);
        }
        let past = self.before.iter().rev().find(|past| past.from <= time)?;
        (time < past.until).then_some(past.digest)
    }

    /// The last digests that the tag has named, each once, the newest first.
    pub fn last(&self, count: usize) -> Vec<Digest> {
        let mut last = Vec::new();
        for digest in [self.record.digest].into_iter().chain(self.before.iter().rev().map(|past| past.digest)) {
            if last.len() < count && !last.contains(&digest) {
                last.push(digest);
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tests::{digest, tag_record};

    fn at(content: &[u8], updated: u64) -> TagRecord {
        TagRecord { updated, ..tag_record("t", content) }
    }

    fn history(moves: &[(&[u8], u64)]) -> TagHistory {
        let step =
            |history, (content, updated): &(&[u8], u64)| Some(TagHistory::moved(history, &at(content, *updated)));
        moves.iter().fold(None, step).unwrap()
    }

    #[test]
    fn a_move_is_kept_and_a_confirmation_is_none() {
        let seen = history(&[(b"1", 10), (b"1", 15), (b"2", 20), (b"2", 25), (b"1", 30)]);
        let past = |content: &[u8], from, until| {
            let TagRecord { digest, media_type, size, .. } = at(content, 0);
            PastTarget { digest, media_type, size, from, until }
        };
        assert_eq!(seen.before, [past(b"1", 10, 20), past(b"2", 20, 30)]);
        assert_eq!((seen.record.updated, seen.since(), seen.first_seen()), (30, 30, 10));
        for (time, named) in
            [(9, None), (10, Some(b"1")), (19, Some(b"1")), (20, Some(b"2")), (29, Some(b"2")), (99, Some(b"1"))]
        {
            assert_eq!(seen.at(time), named.map(|content| digest(content)), "{time}");
        }
        assert_eq!(seen.last(9), [digest(b"1"), digest(b"2")]);
        assert_eq!(seen.last(1), [digest(b"1")]);
    }

    #[test]
    fn the_last_moves_are_kept() {
        let contents: Vec<_> = (0..20_u64).map(|n| n.to_string().into_bytes()).collect();
        let moves: Vec<_> = contents.iter().zip(0..).map(|(content, n)| (content.as_slice(), 10 * n)).collect();
        let seen = history(&moves);
        assert_eq!((seen.before.len(), seen.first_seen(), seen.at(29)), (MOVES, 30, None));
        assert_eq!(seen.last(3), [digest(b"19"), digest(b"18"), digest(b"17")]);
    }

    /// Each of these moves is a second after the last one.
    fn moves(contents: &[&'static [u8]]) -> TagHistory {
        let moves: Vec<_> = contents.iter().copied().zip(1..).collect();
        history(&moves)
    }

    #[test]
    fn a_tag_that_flaps_keeps_its_other_digests() {
        let flaps = [b"a", b"b"].repeat(20);
        let flaps: Vec<&[u8]> = flaps.iter().map(|content| content.as_slice()).collect();
        let seen = moves(&[vec![b"c".as_slice()], flaps.clone()].concat());
        assert_eq!(seen.last(3), [b"b", b"a", b"c"].map(|content| digest(content)));
        assert_eq!(seen.before.len(), MOVES);
        assert!(seen.before.is_sorted_by_key(|past| past.from), "by time: {:?}", seen.before);
        // What it named first, the gap, and what followed the gap.
        assert_eq!((seen.first_seen(), seen.at(1)), (1, Some(digest(b"c"))));
        let follows = seen.before[1].from;
        assert_eq!((seen.at(2), seen.at(follows - 1)), (None, None), "neither c, nor what it named later");
        assert_eq!(seen.at(follows), Some(seen.before[1].digest));
        assert_eq!(seen.at(41), Some(digest(b"b")));
        // As many digests as moves: each is there once, whatever the tag names again.
        let many: Vec<&[u8]> = b"0123456789abcdef".iter().map(std::slice::from_ref).collect();
        let seen = moves(&[many.clone(), flaps].concat());
        assert_eq!(seen.last(MOVES).len(), MOVES);
        assert!(many.iter().all(|content| seen.last(MOVES).contains(&digest(content))));
    }

    #[test]
    fn a_clock_that_was_wrong_spoils_what_it_wrote_and_no_more() {
        let ahead = history(&[(b"1", 10), (b"2", 1_000), (b"3", 20)]);
        assert_eq!((ahead.at(15), ahead.at(25)), (Some(digest(b"1")), Some(digest(b"3"))));
        let behind = history(&[(b"1", 10), (b"2", 5), (b"3", 20)]);
        assert_eq!((behind.at(15), behind.at(25)), (Some(digest(b"2")), Some(digest(b"3"))));
    }
}
