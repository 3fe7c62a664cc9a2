//! Who asks, and how a refusal is answered. Made by [`crate::http`] for each request.

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Principal {
    /// A client that has not signed in.
    Anonymous,
    /// A client on this machine that has not signed in: the peer's address is loopback, and no
    /// header says that it speaks for another client.
    Loopback,
    /// A user who signed in.
    User(String),
    /// A client of the Unix socket in the data folder. May do everything.
    Operator,
}

impl Principal {
    /// The user's name; `None` for the others.
    pub fn user(&self) -> Option<&str> {
        match self {
            Principal::User(name) => Some(name),
            Principal::Anonymous | Principal::Loopback | Principal::Operator => None,
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Denied {
    /// The client has not signed in, and a user may be allowed. HTTP: 401 with a challenge.
    #[error("this needs a user")]
    SignIn,
    /// The client may not read the repository, so the answer is as if it did not exist. HTTP: 404.
    #[error("there is no such repository")]
    Unknown,
    /// The client may not do this, and signing in would not help. HTTP: 403.
    #[error("this is not allowed")]
    Forbidden,
}
