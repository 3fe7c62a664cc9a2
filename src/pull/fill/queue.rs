//! In what order the sources of a fill are asked.
//!
//! The source whose registry failed least often is first, so that a registry with a hundred
//! repositories has one turn. `patience` notes here which source was silent or slow.

use std::cmp::Reverse;

use super::{failure::FillFailure, origin::Origin, pace::LEAST};

/// What is known of the sources, and so in what order they are asked.
#[derive(Default)]
pub(super) struct Queue {
    known: Vec<Known>,
    /// The one that was asked last.
    last: Option<Origin>,
    /// It is passed over, and has not failed.
    pub(super) passed_over: bool,
}

pub(super) struct Known {
    source: Origin,
    /// How often it failed, or was passed over, since it brought something.
    failures: u32,
    /// It was passed over for its silence, and no byte has come since from anywhere.
    pub(super) silent: bool,
    /// It failed as a substitute.
    useless: bool,
    /// What it brought in the stretch for which it was passed over, in bytes.
    pub(super) slow: Option<u64>,
}

impl Queue {
    /// An attempt that brought so many bytes is over. Whether the source was only passed over.
    pub(super) fn failed(&mut self, source: &Origin, brought: u64) -> bool {
        let known = self.known(source);
        known.failures = if brought < LEAST { known.failures + 1 } else { 1 };
        self.last = Some(source.clone());
        std::mem::take(&mut self.passed_over)
    }

    pub(super) fn bytes_come(&mut self) {
        self.known.iter_mut().for_each(|known| known.silent = false);
    }

    /// A substitute has failed. One that is in trouble for a moment has two tries.
    pub(super) fn substitute_failed(&mut self, source: &Origin, failure: &FillFailure) {
        let known = self.known(source);
        let in_trouble = matches!(failure, FillFailure::Upstream(error) if error.is_outage());
        known.useless = !in_trouble || known.failures > 1;
    }

    /// Whether substitutes of its registry have failed.
    pub(super) fn is_useless(&self, source: &Origin) -> bool {
        self.of_registry(source).any(|known| known.useless)
    }

    /// The source whose registry failed least often is first, then one of another registry than
    /// last time, then the one whose registry was quickest.
    pub(super) fn sort(&self, sources: &mut [Origin]) {
        sources.sort_by_cached_key(|source| {
            let failures = |known: &Known| known.failures;
            let of_registry = self.of_registry(source).map(failures).sum::<u32>();
            let of_source = self.of_source(source).map_or(0, failures);
            let again = self.last.as_ref().is_some_and(|last| last.shares_upstream(source));
            (of_registry, again, Reverse(self.pace(source).unwrap_or(u64::MAX)), of_source)
        });
    }

    /// Whether `other` may be quicker than `source`, which brought so many bytes in a stretch.
    pub(super) fn may_be_quicker(&self, other: &Origin, source: &Origin, brought: u64) -> bool {
        if other.shares_upstream(source) {
            return other != source && self.of_source(other).is_none_or(|known| known.slow.is_none());
        }
        self.pace(other).is_none_or(|pace| pace / 2 > brought)
    }

    /// Whether `other` may bring something while `source` is silent.
    pub(super) fn may_bring(&self, other: &Origin, source: &Origin) -> bool {
        let silent = |known: &Known| known.silent;
        if other.shares_upstream(source) {
            return other != source && !self.of_source(other).is_some_and(silent);
        }
        !self.of_registry(other).any(silent)
    }

    /// What the registry brought in a stretch in which it was slow.
    fn pace(&self, source: &Origin) -> Option<u64> {
        self.of_registry(source).filter_map(|known| known.slow).min()
    }

    fn of_registry(&self, source: &Origin) -> impl Iterator<Item = &Known> {
        self.known.iter().filter(move |known| known.source.shares_upstream(source))
    }

    fn of_source(&self, source: &Origin) -> Option<&Known> {
        self.known.iter().find(|known| known.source == *source)
    }

    pub(super) fn known(&mut self, source: &Origin) -> &mut Known {
        let at = self.known.iter().position(|known| known.source == *source).unwrap_or_else(|| {
            self.known.push(Known { source: source.clone(), failures: 0, silent: false, useless: false, slow: None });
            self.known.len() - 1
        });
        &mut self.known[at]
    }
}
