//! Whether a fill asks once more after an attempt that failed.
//!
//! [`Retry`] counts attempts, and decides from values alone: it asks no source, and reads no clock.
//! `drive` calls it after each attempt, and gives up as well when `pace` finds too little progress.
//!
//! | the attempt failed because | the fill asks again |
//! |---|---|
//! | upstream failed, and the source was a substitute or was passed over | always |
//! | the source has no such content, or denies it | while others are left, at most once a source |
//! | the source is down, and bytes have come before | always |
//! | the source did not answer in time | while sources are left that were not asked |
//! | upstream gave any other answer | twice, or once a source; once more after bytes have come |
//! | the bytes are not the digest's | twice, or once a source, while no reader was told a length |
//! | the disk is full or fails, or lanyard stops | never |
//!
//! An attempt at a substitute, or at a source that was passed over, does not count. Bytes that came
//! anew begin the count again.

use std::time::Duration;

use super::{failure::FillFailure, sources::refuses};
use crate::upstream::{UpstreamError, fetcher::FetchError};

/// How often a fill asks before its first byte: clients are waiting for a status line.
const FIRST_ATTEMPTS: usize = 2;
/// How long the first pause is. Each attempt doubles it, up to [`DOUBLINGS`] times.
const PAUSE: Duration = Duration::from_millis(100);
const DOUBLINGS: usize = 5;

/// The attempts of one fill since bytes came last.
pub(super) struct Retry {
    attempts: usize,
    /// The most bytes that were ever here.
    seen: u64,
}

/// An attempt that failed, and what is left to try.
pub(super) struct FailedAttempt<'a> {
    /// Why it failed.
    pub(super) failure: &'a FillFailure,
    /// How many bytes are here now.
    pub(super) here: u64,
    /// Whether it does not count: the source was a substitute, or was passed over.
    pub(super) spared: bool,
    /// How many sources there were to ask before it.
    pub(super) sources: usize,
    /// How many there are now. A source that refused is not one of them.
    pub(super) left: usize,
    /// Whether no reader has been told a length.
    pub(super) untold: bool,
}

/// What a fill does after a failed attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Ask again after this pause.
    Again(Duration),
    /// Fail as the attempt did.
    GiveUp,
}

impl Retry {
    /// `here`: how many bytes an earlier fill left.
    pub(super) fn new(here: u64) -> Retry {
        Retry { attempts: 0, seen: here }
    }

    /// The most bytes that were ever here.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Counts the attempt, and says what to do after it.
    pub(super) fn next(&mut self, attempt: &FailedAttempt<'_>) -> Next {
        if attempt.here > self.seen {
            (self.seen, self.attempts) = (attempt.here, 0);
        }
        self.attempts += usize::from(!attempt.spared);
        if self.asks_again(attempt) { Next::Again(PAUSE * (1 << self.attempts.min(DOUBLINGS))) } else { Next::GiveUp }
    }

    fn asks_again(&self, attempt: &FailedAttempt<'_>) -> bool {
        let (attempts, left) = (self.attempts, attempt.left);
        match attempt.failure {
            FillFailure::Upstream(_) if attempt.spared => true,
            FillFailure::Upstream(error) if refuses(error) => left > 0 && attempts <= attempt.sources,
            FillFailure::Upstream(error) if error.is_outage() && self.seen > 0 => true,
            // The clients have waited long for nothing: only another source may be quicker.
            FillFailure::Upstream(error) if has_waited(error) => attempts < left,
            // A content network's refusal, or a length that is not true: the next answer may
            // differ.
            FillFailure::Upstream(_) => attempts < FIRST_ATTEMPTS.max(left) + usize::from(self.seen > 0),
            // No reader was told anything: the next answer may be the blob.
            FillFailure::Corrupt => attempt.untold && attempts < FIRST_ATTEMPTS.max(left),
            FillFailure::NoRoom
            | FillFailure::Storage(_)
            | FillFailure::Abandoned
            | FillFailure::Elsewhere
            | FillFailure::Stopping => false,
        }
    }
}

/// A timeout, or a rate limit that the request has waited for as long as it may.
fn has_waited(error: &UpstreamError) -> bool {
    matches!(
        error,
        UpstreamError::Unreachable(FetchError::Timeout { .. })
            | UpstreamError::RateLimited { retry_after: Some(_), .. }
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn upstream(error: UpstreamError) -> FillFailure {
        FillFailure::Upstream(Arc::new(error))
    }

    fn failed(status: u16) -> FillFailure {
        upstream(UpstreamError::Failed { status, message: String::new() })
    }

    fn refused() -> FillFailure {
        upstream(UpstreamError::NotFound { message: String::new(), told: true })
    }

    fn timeout() -> FillFailure {
        upstream(UpstreamError::Unreachable(FetchError::Timeout { host: String::new(), what: "" }))
    }

    fn limited() -> FillFailure {
        upstream(UpstreamError::RateLimited { retry_after: Some(PAUSE), message: String::new() })
    }

    fn untrue() -> FillFailure {
        upstream(UpstreamError::Untrue { message: String::new() })
    }

    /// How many attempts a fill makes that all fail like this one; `None`: it never gives up.
    fn attempts(before: u64, attempt: &FailedAttempt<'_>) -> Option<usize> {
        let mut retry = Retry::new(before);
        (1..100).find(|_| retry.next(attempt) == Next::GiveUp)
    }

    #[test]
    fn the_table() {
        use FillFailure::{Abandoned, Corrupt, Elsewhere, NoRoom, Stopping};
        for (failure, here, spared, left, untold, ends) in [
            (failed(503), 0, true, 2, true, None),
            (Corrupt, 0, true, 2, true, None),
            (Corrupt, 9, true, 2, false, Some(1)),
            (refused(), 0, false, 0, true, Some(1)),
            (refused(), 9, false, 0, true, Some(1)),
            (refused(), 0, false, 1, true, Some(3)),
            (refused(), 0, false, 3, true, Some(5)),
            (failed(503), 9, false, 1, false, None),
            (timeout(), 9, false, 1, false, None),
            (limited(), 9, false, 1, false, None),
            (timeout(), 0, false, 1, true, Some(1)),
            (timeout(), 0, false, 3, true, Some(3)),
            (limited(), 0, false, 1, true, Some(1)),
            (failed(503), 0, false, 1, true, Some(2)),
            (failed(503), 0, false, 3, true, Some(3)),
            (failed(403), 9, false, 1, false, Some(3)),
            (untrue(), 0, false, 1, true, Some(2)),
            (untrue(), 9, false, 1, true, Some(3)),
            (untrue(), 9, false, 4, true, Some(5)),
            (Corrupt, 9, false, 1, true, Some(2)),
            (Corrupt, 9, false, 4, true, Some(4)),
            (Corrupt, 9, false, 4, false, Some(1)),
            (NoRoom, 9, false, 4, true, Some(1)),
            (Abandoned, 9, false, 4, true, Some(1)),
            (Elsewhere, 9, false, 4, true, Some(1)),
            (Stopping, 9, true, 4, true, Some(1)),
        ] {
            let sources = left + usize::from(matches!(&failure, FillFailure::Upstream(error) if refuses(error)));
            let attempt = FailedAttempt { failure: &failure, here, spared, sources, left, untold };
            assert_eq!(attempts(here, &attempt), ends, "{failure:?}, {here} bytes, {left} sources are left");
        }
    }

    #[test]
    fn bytes_begin_the_count_again() {
        let failure = untrue();
        let attempt =
            |here| FailedAttempt { failure: &failure, here, spared: false, sources: 1, left: 1, untold: true };
        let mut retry = Retry::new(0);
        assert_ne!(retry.next(&attempt(0)), Next::GiveUp);
        assert_ne!(retry.next(&attempt(5)), Next::GiveUp);
        assert_ne!(retry.next(&attempt(5)), Next::GiveUp);
        assert_ne!(retry.next(&attempt(6)), Next::GiveUp);
        assert_eq!(retry.seen(), 6);
        assert_ne!(retry.next(&attempt(0)), Next::GiveUp, "the bytes were removed: they were here all the same");
        assert_eq!(retry.next(&attempt(0)), Next::GiveUp);
        assert_eq!(retry.seen(), 6);
    }

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let failure = timeout();
        let attempt = FailedAttempt { failure: &failure, here: 1, spared: false, sources: 1, left: 1, untold: false };
        let mut retry = Retry::new(1);
        let pauses: Vec<_> = (0..7).map(|_| retry.next(&attempt)).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 3200, 3200].map(|ms| Next::Again(Duration::from_millis(ms))));
        let spared = FailedAttempt { spared: true, ..attempt };
        assert_eq!(Retry::new(0).next(&spared), Next::Again(PAUSE), "bytes came: the count is 0");
    }
}
