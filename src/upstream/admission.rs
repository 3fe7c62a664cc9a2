//! One call to a registry, from its admission to its answer: whether the request may be sent now,
//! and whether it is sent again. Every request but tokens and probes goes through
//! [`Registry::call`].

use tokio::time::Instant;

use super::{
    attempt::Miss,
    call::{Call, Success},
    error::UpstreamError,
    registry::Registry,
    trouble::RateLimitWait,
};

impl Registry {
    /// Makes the call. Any answer that is not a 2xx is an error.
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

    /// The same without waiting for a rate limit.
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
            // The address may have been an old one. The registry gives a fresh one, once.
            if elsewhere && !std::mem::replace(&mut readdressed, true) {
                self.transport.counters.retried();
                continue;
            }
            // A circuit that this very failure opened is reported as the failure itself.
            let again = self.is_worth_another(call, &error) && attempts.again(&error).await;
            if !again || !self.is_worth_another(call, &error) {
                return Err(error);
            }
            self.transport.counters.retried();
        }
    }

    /// Fails at once where the request is not to be sent now.
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
