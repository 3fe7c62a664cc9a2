//! The one retry policy. A request that got a 5xx or a broken connection is sent again at most
//! twice, within 5 s of its beginning, after a pause of 100 to 500 ms. All retries together stay
//! under a fifth of all requests, so that an upstream in trouble does not get more requests because
//! of it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::UpstreamError;

/// The most retries of one request.
const MAX_RETRIES: u32 = 2;

/// Retries begin only so long after the request did. Clients learn of errors within seconds.
const DEADLINE: Duration = Duration::from_secs(5);

/// The share of a retry that a request adds to the budget, in thousandths.
const DEPOSIT: u32 = 200;

/// The most that the budget holds, and its beginning, in thousandths of a retry.
const FULL: u32 = 10_000;

/// A budget of retries, shared by all requests to one upstream.
#[derive(Debug)]
pub(super) struct RetryBudget(Mutex<u32>);

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget(Mutex::new(FULL))
    }
}

impl RetryBudget {
    /// Begins a request. The budget grows by a fifth of a retry.
    pub(super) fn begin(&self) -> Attempts<'_> {
        let mut budget = self.0.lock();
        *budget = (*budget + DEPOSIT).min(FULL);
        Attempts { budget: self, begun: Instant::now(), retries: 0 }
    }

    fn withdraw(&self) -> bool {
        let mut budget = self.0.lock();
        match budget.checked_sub(1000) {
            Some(rest) => {
                *budget = rest;
                true
            }
            None => false,
        }
    }
}

/// The attempts of one request.
pub(super) struct Attempts<'a> {
    budget: &'a RetryBudget,
    begun: Instant,
    retries: u32,
}

impl Attempts<'_> {
    /// Waits for a pause and returns true if the request is to be sent again after `error`.
    pub(super) async fn again(&mut self, error: &UpstreamError) -> bool {
        let pause = Duration::from_millis(rand::random_range(100..=500));
        let may = error.is_transient() && self.retries < MAX_RETRIES && self.begun.elapsed() + pause < DEADLINE;
        if !may || !self.budget.withdraw() {
            return false;
        }
        self.retries += 1;
        tokio::time::sleep(pause).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(status: u16) -> UpstreamError {
        UpstreamError::Failed { status, message: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn twice_and_only_what_may_pass() {
        let budget = RetryBudget::default();
        let mut attempts = budget.begin();
        assert!(attempts.again(&failed(503)).await && attempts.again(&failed(500)).await);
        assert!(!attempts.again(&failed(500)).await);
        let limited = UpstreamError::RateLimited { retry_after: None, message: String::new() };
        for error in [failed(400), limited, UpstreamError::RangeNotSatisfiable, UpstreamError::untrue("x")] {
            assert!(!budget.begin().again(&error).await, "{error:?}");
        }
        let mut late = budget.begin();
        tokio::time::advance(DEADLINE).await;
        assert!(!late.again(&failed(500)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_not_made_worse() {
        let budget = RetryBudget::default();
        let mut retries = 0;
        for _ in 0..1000 {
            let mut attempts = budget.begin();
            while attempts.again(&failed(500)).await {
                retries += 1;
            }
        }
        assert!(retries <= 210, "{retries} retries of 1000 requests");
    }
}
