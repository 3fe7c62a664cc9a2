//! Who asks, and how they are refused.

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Principal {
    /// Nobody in particular.
    Anonymous,
    /// Somebody on this machine: the peer's address is loopback, and nothing says that it speaks for another.
    Loopback,
    /// Somebody who signed in.
    User(String),
    /// Whoever may open the Unix socket in the data folder. May do everything.
    Operator,
}

impl Principal {
    /// The user's name, where there is one.
    pub fn user(&self) -> Option<&str> {
        match self {
            Principal::User(name) => Some(name),
            Principal::Anonymous | Principal::Loopback | Principal::Operator => None,
        }
    }
}

/// Why not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Denied {
    /// A user might; nobody has signed in. HTTP: 401 with a challenge.
    #[error("this needs a user")]
    SignIn,
    /// They may not read it, so it is to be answered as if it were not there. HTTP: 404.
    #[error("there is no such repository")]
    Unknown,
    /// They may not, and signing in would not help. HTTP: 403.
    #[error("this is not allowed")]
    Forbidden,
}
