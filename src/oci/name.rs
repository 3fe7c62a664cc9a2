//! Repository names (distribution-spec, "Pulling manifests") and the names of upstreams. Both are
//! parsed strictly and are cheap to clone.

use std::{fmt, str::FromStr, sync::Arc};

/// Why a string is not a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// It is empty, or longer than [`RepositoryName::MAX`] bytes.
    #[error("a name has 1 to 253 characters")]
    Length,
    /// It is not in the grammar.
    #[error(
        "a name is lower-case letters, digits and single separators (. _ __ -) between them, in parts divided by /"
    )]
    Grammar,
}

/// A repository's name within its namespace, like `library/busybox`.
///
/// Grammar: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Arc<str>);

impl RepositoryName {
    /// The longest name, in bytes. The specification allows 255 for host, slash and name together.
    pub const MAX: usize = 253;

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between the slashes, at least one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        if s.is_empty() || s.len() > Self::MAX {
            return Err(NameError::Length);
        }
        if s.split('/').all(is_component) { Ok(RepositoryName(s.into())) } else { Err(NameError::Grammar) }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(s: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = s.as_bytes();
    loop {
        let word = rest.iter().take_while(|b| alnum(**b)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        let separator = match rest {
            [] => return true,
            [b'.', ..] => 1,
            [b'_', b'_', ..] => 2,
            [b'_', ..] => 1,
            [b'-', ..] => rest.iter().take_while(|b| **b == b'-').count(),
            _ => return false,
        };
        rest = &rest[separator..];
    }
}

/// The name of an upstream registry, `host` or `host:port` in lower case, as it stands in `ns=` and
/// before a prefixed name. It is a key into the configured list; lanyard never dials it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamName(Arc<str>);

impl UpstreamName {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UpstreamName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        if s.is_empty() || s.len() > RepositoryName::MAX {
            return Err(NameError::Length);
        }
        let (host, port) = match s.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (s, None),
        };
        let label = |l: &str| {
            !l.is_empty()
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let port_is_good = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|n| n > 0 && p == n.to_string()));
        if host.split('.').all(label) && port_is_good { Ok(UpstreamName(s.into())) } else { Err(NameError::Grammar) }
    }
}

macro_rules! text {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
text!(RepositoryName);
text!(UpstreamName);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn takes_the_grammar_and_nothing_else() {
        let long = "a".repeat(254);
        for good in ["a", "library/busybox", "a.b_c__d---e/f0", "0/1/2", &long[..253]] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "a._b", "-a", "a-", "..", "a/../b", "a%2fb", "ä", "a b",
            "a\0", "a\\b", "a:b", &long,
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn upstream_names_are_hosts() {
        for good in ["docker.io", "localhost:5000", "a-b.c", "127.0.0.1:1"] {
            assert!(good.parse::<UpstreamName>().is_ok(), "{good}");
        }
        for bad in ["", "Docker.io", "a:", "a:0", "a:70000", "a:05", "a/b", "a..b", "-a", "user@host", "a:1:2", "[::1]"]
        {
            assert!(bad.parse::<UpstreamName>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn generated_names_parse(s in "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}(/[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}){0,3}") {
            prop_assert!(s.parse::<RepositoryName>().is_ok());
        }

        #[test]
        fn never_panics(s in "\\PC*") {
            let _ = s.parse::<RepositoryName>();
            let _ = s.parse::<UpstreamName>();
        }
    }
}
