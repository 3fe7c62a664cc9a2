//! How requests leave: through the fetcher, or, in tests, to a script in memory.

use super::fetcher::{FetchError, Fetcher, Request, Response};

/// See the module.
#[derive(Clone)]
pub(super) enum Network {
    /// The network.
    Fetcher(Fetcher),
    /// A test's script.
    #[cfg(test)]
    Script(std::sync::Arc<super::script::Script>),
}

impl Network {
    /// Returns when the head has arrived.
    pub(super) async fn send(&self, request: Request) -> Result<Response, FetchError> {
        match self {
            Network::Fetcher(fetcher) => fetcher.send(request).await,
            #[cfg(test)]
            Network::Script(script) => script.send(request).await,
        }
    }

    /// Whether the host of this failure is not dialled for now.
    pub(super) fn is_resting(&self, error: &FetchError) -> bool {
        match self {
            Network::Fetcher(fetcher) => fetcher.is_resting(error),
            #[cfg(test)]
            Network::Script(_) => false,
        }
    }
}
