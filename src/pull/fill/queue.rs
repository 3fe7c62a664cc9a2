//! The order in which a fill asks its sources. Each fill has a queue of its own.
//!
//! A source is an [`Origin`]: one repository of a registry. First is the source whose registry
//! failed least often. Of equals a registry that was not asked last is first, then the quickest.
//! The failures of all repositories of a registry count together, so that a registry with a hundred
//! repositories is not tried a hundred times before the next one.
//!
//! Callers: `transfer` sorts. `drive` notes failures, `patience` the sources that were silent or
//! slow, and `attempt` that bytes come.

use std::cmp::Reverse;

use super::{failure::FillFailure, origin::Origin, pace::LEAST};

/// How the sources have fared, and so in what order they are asked.
#[derive(Default)]
pub(super) struct Queue {
    histories: Vec<History>,
    /// The source that was asked last.
    last: Option<Origin>,
    /// It was passed over, and has not failed.
    pub(super) passed_over: bool,
}

/// How one source has fared.
pub(super) struct History {
    source: Origin,
    /// How often it failed, or was passed over, since it brought 64 KiB.
    failures: u32,
    /// It was passed over for its silence, and no byte has come since from any source.
    pub(super) silent: bool,
    /// It failed as a substitute.
    useless: bool,
    /// How many bytes it brought in the stretch for which it was passed over.
    pub(super) slow: Option<u64>,
}

impl Queue {
    /// An attempt failed after it brought this many bytes. Says whether the source was only passed
    /// over.
    pub(super) fn failed(&mut self, source: &Origin, brought: u64) -> bool {
        let history = self.history(source);
        history.failures = if brought < LEAST { history.failures + 1 } else { 1 };
        self.last = Some(source.clone());
        std::mem::take(&mut self.passed_over)
    }

    /// Bytes come: no source counts as silent any more.
    pub(super) fn bytes_come(&mut self) {
        self.histories.iter_mut().for_each(|known| known.silent = false);
    }

    /// A substitute failed. It has a second try if it was an outage.
    pub(super) fn substitute_failed(&mut self, source: &Origin, failure: &FillFailure) {
        let history = self.history(source);
        let in_trouble = matches!(failure, FillFailure::Upstream(error) if error.is_outage());
        history.useless = !in_trouble || history.failures > 1;
    }

    /// Whether a substitute of this source's registry has failed for good.
    pub(super) fn is_useless(&self, source: &Origin) -> bool {
        self.of_registry(source).any(|known| known.useless)
    }

    /// Puts the source first whose registry failed least often, then one of another registry than
    /// last time, then the one whose registry was quickest.
    pub(super) fn sort(&self, sources: &mut [Origin]) {
        sources.sort_by_cached_key(|source| {
            let failures = |known: &History| known.failures;
            let of_registry = self.of_registry(source).map(failures).sum::<u32>();
            let of_source = self.of_source(source).map_or(0, failures);
            let again = self.last.as_ref().is_some_and(|last| last.shares_upstream(source));
            (of_registry, again, Reverse(self.pace(source).unwrap_or(u64::MAX)), of_source)
        });
    }

    /// Whether `other` may be quicker than `source`, which brought this many bytes in a stretch.
    pub(super) fn may_be_quicker(&self, other: &Origin, source: &Origin, brought: u64) -> bool {
        if other.shares_upstream(source) {
            return other != source && self.of_source(other).is_none_or(|known| known.slow.is_none());
        }
        self.pace(other).is_none_or(|pace| pace / 2 > brought)
    }

    /// Whether `other` may bring bytes while `source` is silent.
    pub(super) fn may_bring(&self, other: &Origin, source: &Origin) -> bool {
        let silent = |known: &History| known.silent;
        if other.shares_upstream(source) {
            return other != source && !self.of_source(other).is_some_and(silent);
        }
        !self.of_registry(other).any(silent)
    }

    /// The fewest bytes that the source's registry brought in a stretch in which it was slow.
    fn pace(&self, source: &Origin) -> Option<u64> {
        self.of_registry(source).filter_map(|known| known.slow).min()
    }

    fn of_registry(&self, source: &Origin) -> impl Iterator<Item = &History> {
        self.histories.iter().filter(move |known| known.source.shares_upstream(source))
    }

    fn of_source(&self, source: &Origin) -> Option<&History> {
        self.histories.iter().find(|known| known.source == *source)
    }

    /// The history of this source, begun if there is none.
    pub(super) fn history(&mut self, source: &Origin) -> &mut History {
        let at = self.histories.iter().position(|known| known.source == *source).unwrap_or_else(|| {
            self.histories.push(History {
                source: source.clone(),
                failures: 0,
                silent: false,
                useless: false,
                slow: None,
            });
            self.histories.len() - 1
        });
        &mut self.histories[at]
    }
}
