//! Counts of other rooms as the values of metrics. Called at each scrape.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;

/// Sets a counter to a count that another room keeps. Two scrapes at once may come in the wrong
/// order, so the counter never goes back.
pub(super) fn raise(counter: &Counter, count: u64) {
    counter.inner().fetch_max(count, Ordering::Relaxed);
}

pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
