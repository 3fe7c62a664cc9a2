//! The errors of the fetcher: why an answer failed, and why an upstream's settings cannot work.

use url::Url;

use crate::network::TrustError;

/// Why there is no answer, or no more of it. Messages name hosts, and never hold credentials or
/// signed query strings.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// Name, route, connection or TLS failed: there is no connection.
    #[error("cannot reach {host}: {reason}")]
    Connect {
        /// Host and port.
        host: String,
        /// In words.
        reason: String,
    },
    /// The head or the next bytes did not come in time.
    #[error("{host} did not answer in time ({what})")]
    Timeout {
        /// Host and port.
        host: String,
        /// The step that took too long.
        what: &'static str,
    },
    /// The connection ended before the body did.
    #[error("{host} broke off: {reason}")]
    Broken {
        /// Host and port.
        host: String,
        /// In words.
        reason: String,
    },
    /// The answer breaks HTTP, or lanyard does not accept it: a 1xx as final answer, both
    /// Content-Length and Transfer-Encoding, no length at all, an encoding.
    #[error("{host} answered nonsense: {reason}")]
    Protocol {
        /// Host and port.
        host: String,
        /// In words.
        reason: String,
    },
    /// Too many redirects, a loop, or a downgrade to http.
    #[error("{host} redirected where lanyard does not follow: {reason}")]
    Redirect {
        /// Host and port.
        host: String,
        /// In words.
        reason: String,
    },
    /// The address is private and the upstream is not (S4).
    #[error("{host} resolves to an address that is not dialled for this upstream")]
    Forbidden {
        /// Host and port.
        host: String,
    },
    /// The fetchers are stopped.
    #[error("lanyard is stopping")]
    Stopped,
}

impl FetchError {
    /// Whether there was no connection at all. Other errors met a connection.
    pub(in crate::upstream) fn found_no_connection(&self) -> bool {
        match self {
            FetchError::Connect { .. } => true,
            FetchError::Timeout { what, .. } => matches!(*what, "the connection" | "the TLS handshake"),
            FetchError::Broken { .. }
            | FetchError::Protocol { .. }
            | FetchError::Redirect { .. }
            | FetchError::Forbidden { .. }
            | FetchError::Stopped => false,
        }
    }
}

/// Why an upstream has no handle: its settings cannot work.
#[derive(Debug, thiserror::Error)]
pub enum FetcherError {
    /// The certificates that it is to be trusted by cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Neither http nor https, or no host.
    #[error("{0} is not the URL of a registry: it must be http:// or https:// and have a host")]
    Url(String),
    /// Not `http://host:port`. The URL is not quoted, because it may hold a password.
    #[error("the proxy must be of the form http://[user:password@]host:port")]
    Proxy,
}

/// Host and port of a URL, in the form of errors.
pub(super) fn authority(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or("?"), url.port_or_known_default().unwrap_or(0))
}
