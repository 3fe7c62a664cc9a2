//! How long a fill waits for a source that is silent or slow.
//!
//! | the source | is passed over if |
//! |---|---|
//! | is silent for 5 s | another registry or repository was not silent since a byte came |
//! | brings less than 64 KiB/s for 5 s | another registry or repository was not found as slow |
//! | is either, and has sent all bytes that are here, while no reader was told a length | never |
//!
//! So a fill waits for its last source as long as the fetcher does, and a slow registry slows down
//! no request that named another one (S30). A substitute, which is a source of another registry
//! than the one that the fill was begun for, is taken only if readers can be told a length by it.
//! Its failures end no fill, reach only its own clients, and it is not asked again.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    failure::FillFailure,
    origin::Origin,
    pace::{SILENCE, Stretch},
    transfer::Transfer,
};
use crate::upstream::{UpstreamError, fetcher::FetchError};

/// How often the fill looks for another source meanwhile.
const GLANCE: Duration = Duration::from_millis(250);

impl Transfer<'_> {
    /// Fails if `source` brings little, and another source may bring more.
    pub(super) fn is_brisk(&mut self, source: &Origin, stretch: &mut Stretch) -> Result<(), FillFailure> {
        let Some(brought) = stretch.was_slow(self.offset()) else { return Ok(()) };
        let quicker = |other: &Origin| self.queue.may_be_quicker(other, source, brought);
        if self.must_stay(source) || !self.sources().iter().any(quicker) {
            return Ok(());
        }
        self.queue.history(source).slow = Some(brought);
        self.queue.passed_over = true;
        Err(passed_over(source))
    }

    /// Waits until `source` has been silent for long, and another source may be quicker.
    pub(super) async fn is_silent(&self, source: &Origin) -> FillFailure {
        sleep(SILENCE).await;
        while self.must_stay(source) || !self.sources().iter().any(|other| self.queue.may_bring(other, source)) {
            sleep(GLANCE).await;
        }
        passed_over(source)
    }

    /// Notes that [`Transfer::is_silent`] passed `source` over.
    pub(super) fn was_silent(&mut self, source: &Origin) {
        let history = self.queue.history(source);
        (history.silent, history.slow) = (true, Some(0));
        self.queue.passed_over = true;
    }

    /// Whether the next source's bytes would follow bytes of this one that nothing vouches for: if
    /// they do not fit together, all are lost.
    fn must_stay(&self, source: &Origin) -> bool {
        self.is_untold() && self.offset() > 0 && self.is_of(source)
    }
}

fn passed_over(source: &Origin) -> FillFailure {
    let host = source.upstream().to_string();
    let what = "enough, and another repository may";
    FillFailure::Upstream(Arc::new(UpstreamError::Unreachable(FetchError::Timeout { host, what })))
}
