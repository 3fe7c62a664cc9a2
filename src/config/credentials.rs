//! A user and a password for an upstream. `check_upstream.rs` makes them, `upstream` sends them.

use std::fmt;

/// A user name and a secret. `Debug` and `Display` never show the secret.
#[derive(Clone, PartialEq)]
pub struct Credentials {
    /// User name, without a colon.
    pub username: String,
    /// Password or token, one line.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.username)
    }
}
