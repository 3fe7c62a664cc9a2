//! Where the bytes of a fill came from, and so which readers may see them before the digest is
//! proven.
//!
//! A digest proves all bytes or none. A reader of the whole blob is safe before the proof, because
//! the last byte is withheld (F2). A range can be complete before the proof. So a range contains
//! only bytes that the reader's own registry has sent in this fill: asked for the same range, that
//! registry would have sent the same.
//!
//! | the bytes came | the whole blob | a range |
//! |---|---|---|
//! | in this fill, from the registry that the reader asked | shown | shown |
//! | in this fill, from another registry | shown | after the proof |
//! | in an earlier fill: a leftover | shown | after the proof |
//!
//! A leftover waits although its sources are known: it is of another moment, and has been on disk
//! since. A sample of it would prove only the sample.

use std::{ops::Range, sync::Arc};

use parking_lot::Mutex;

/// The runs of a fill's bytes, in the order of their offsets. Fill by the leader and its
/// followers.
pub(super) struct Runs<S>(Arc<Mutex<Vec<Run<S>>>>);

/// Bytes of one source, from `first` to the first byte of the next run.
struct Run<S> {
    first: u64,
    /// `None`: an earlier fill.
    source: Option<S>,
}

impl<S: Clone + PartialEq> Runs<S> {
    /// The bytes from `first` on come from `source`. What was known of them before is forgotten.
    pub(super) fn begin(&self, first: u64, source: Option<&S>) {
        let mut runs = self.0.lock();
        runs.retain(|run| run.first < first);
        if runs.last().is_none_or(|last| last.source.as_ref() != source) {
            runs.push(Run { first, source: source.cloned() });
        }
    }

    /// The longest stretch around `at` whose sources are all trusted. The last run has no end.
    pub(super) fn around(&self, at: u64, trusts: impl Fn(Option<&S>) -> bool) -> Option<Range<u64>> {
        let runs = self.0.lock();
        let mut found: Option<Range<u64>> = None;
        for (n, run) in runs.iter().enumerate() {
            let end = runs.get(n + 1).map_or(u64::MAX, |next| next.first);
            found = match found {
                _ if !trusts(run.source.as_ref()) && run.first > at => break,
                _ if !trusts(run.source.as_ref()) => None,
                Some(before) => Some(before.start..end),
                None => Some(run.first..end),
            };
        }
        found.filter(|found| found.contains(&at))
    }
}

impl<S> Default for Runs<S> {
    fn default() -> Self {
        Runs(Arc::default())
    }
}

impl<S> Clone for Runs<S> {
    fn clone(&self) -> Self {
        Runs(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Trusts = fn(Option<&u8>) -> bool;
    type Row = (u64, Option<Range<u64>>);

    #[test]
    fn a_stretch_is_that_of_trusted_sources() {
        let runs = Runs::<u8>::default();
        assert_eq!(runs.around(0, |_| true), None, "nothing has come");
        runs.begin(0, None);
        runs.begin(100, Some(&1));
        runs.begin(150, Some(&1));
        runs.begin(200, Some(&2));
        runs.begin(300, Some(&1));
        let all = 0..u64::MAX;
        let table: [(Trusts, &[Row]); 4] = [
            (|_| true, &[(0, Some(all.clone())), (250, Some(all.clone())), (1 << 40, Some(all))]),
            (|of| of == Some(&1), &[(0, None), (99, None), (100, Some(100..200)), (200, None)]),
            (|of| of == Some(&1), &[(299, None), (300, Some(300..u64::MAX))]),
            (|of| of.is_some(), &[(99, None), (250, Some(100..u64::MAX))]),
        ];
        for (trusts, rows) in table {
            for (at, stretch) in rows {
                assert_eq!(runs.around(*at, trusts), *stretch, "{at}");
            }
        }
        runs.begin(0, Some(&2));
        assert_eq!(runs.around(100, |of| of == Some(&2)), Some(0..u64::MAX), "it was begun again");
        assert_eq!(runs.around(100, |of| of.is_none()), None);
    }
}
