//! The two ways out for a request: the fetcher, and in tests a script in memory.
//!
//! Only `transport.rs` sends here.

use super::fetcher::{FetchError, Fetcher, Request, Response};

/// Where requests go.
#[derive(Clone)]
pub(super) enum Network {
    /// The network.
    Fetcher(Fetcher),
    /// A test's script.
    #[cfg(test)]
    Script(std::sync::Arc<super::script::Script>),
}

impl Network {
    /// Sends a request. Returns when the head of the answer has arrived.
    pub(super) async fn send(&self, request: Request) -> Result<Response, FetchError> {
        match self {
            Network::Fetcher(fetcher) => fetcher.send(request).await,
            #[cfg(test)]
            Network::Script(script) => script.send(request).await,
        }
    }

    /// Whether the host that failed rests, so that the fetcher does not dial it now.
    pub(super) fn is_resting(&self, error: &FetchError) -> bool {
        match self {
            Network::Fetcher(fetcher) => fetcher.is_resting(error),
            #[cfg(test)]
            Network::Script(_) => false,
        }
    }
}
