//! One call to a registry, from its admission to its answer: whether the request may be sent now,
//! and whether it is sent again. Every request goes through [`Registry::call`], except those for
//! tokens, for `/v2/` and for probes.
//!
//! Order: `allow` and `block`, offline mode, circuit, rate limit, rest (`trouble.rs`), the
//! attempts.

use tokio::time::Instant;

use super::{
    attempt::Miss,
    call::{Call, Success},
    error::UpstreamError,
    registry::Registry,
    trouble::RateLimitWait,
};

impl Registry {
    /// Makes the call. An answer that is not a 2xx is an error. After a 429 it waits and tries
    /// again, as [`RateLimitWait`] allows.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Success, UpstreamError> {
        if !self.allows(call.repository) {
            return Err(UpstreamError::Blocked);
        }
        if self.is_offline() {
            return Err(UpstreamError::Offline);
        }
        let mut patience = RateLimitWait::of(call.kind, call.spend);
        loop {
            let error = match self.call_now(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !patience.outlasts(&error).await {
                return Err(error);
            }
        }
    }

    /// Makes the call without waiting for a rate limit.
    async fn call_now(&self, call: &Call<'_>) -> Result<Success, UpstreamError> {
        self.admit(call)?;
        let mut attempts = self.transport.retries.begin();
        let mut readdressed = false;
        loop {
            let (ended, elsewhere) = match self.attempt(call).await {
                Ok(answer) => (Ok(answer), false),
                Err(Miss { error, elsewhere }) => (Err(error), elsewhere),
            };
            self.troubles.note(call.repository, call.kind, ended.as_ref().err());
            let error = match ended {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if matches!(error, UpstreamError::Untrue { .. }) {
                self.transport.counters.disbelieved();
            }
            // The redirect may have led to an expired address. The registry gives a fresh one. Ask
            // it once.
            if elsewhere && !std::mem::replace(&mut readdressed, true) {
                self.transport.counters.retried();
                continue;
            }
            // If this failure opens the circuit, return the failure itself, not `CircuitOpen`.
            let again = self.is_worth_another(call, &error) && attempts.again(&error).await;
            if !again || !self.is_worth_another(call, &error) {
                return Err(error);
            }
            self.transport.counters.retried();
        }
    }

    /// Fails at once if the circuit, the rate limit or a rest forbids the request.
    fn admit(&self, call: &Call<'_>) -> Result<(), UpstreamError> {
        self.transport.admit()?;
        let now = Instant::now();
        self.governor.lock().admit(call.kind, call.spend, call.repository, now)?;
        self.troubles.admit(call.repository, call.kind, now)
    }

    /// Whether the request may be sent again after it has failed with `error`.
    fn is_worth_another(&self, call: &Call<'_>, error: &UpstreamError) -> bool {
        let dialled = match error {
            UpstreamError::Unreachable(error) => !self.transport.is_resting(error),
            UpstreamError::NotFound { .. }
            | UpstreamError::Denied { .. }
            | UpstreamError::RateLimited { .. }
            | UpstreamError::Failed { .. }
            | UpstreamError::CircuitOpen { .. }
            | UpstreamError::Untrue { .. }
            | UpstreamError::RangeNotSatisfiable
            | UpstreamError::Blocked
            | UpstreamError::Offline => true,
        };
        dialled
            && self.transport.admit().is_ok()
            && !self.troubles.is_resting(call.repository, call.kind, Instant::now())
    }
}
