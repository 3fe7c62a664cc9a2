//! A manifest's reference: a tag or a digest (distribution-spec, "Pulling manifests"). `http`
//! parses it from the path of a request.

use std::{fmt, str::FromStr, sync::Arc};

use super::{Digest, DigestError};

/// Why a string is not a reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReferenceError {
    /// It has a colon, so it is meant as a digest, but it is not one.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// It does not match `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
    #[error("a tag is 1 to 128 letters, digits, dots, underscores and dashes, and does not begin with . or -")]
    Tag,
}

/// A tag. Case-sensitive. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

impl Tag {
    /// The tag as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(s: &str) -> Result<Self, ReferenceError> {
        let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        match s.as_bytes() {
            [first, rest @ ..]
                if word(first) && rest.len() < 128 && rest.iter().all(|b| word(b) || matches!(b, b'.' | b'-')) =>
            {
                Ok(Tag(s.into()))
            }
            _ => Err(ReferenceError::Tag),
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text after `/manifests/`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Reference {
    /// A mutable name.
    Tag(Tag),
    /// Exact content.
    Digest(Digest),
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Reference::Digest(digest)
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Reference::Tag(tag)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(s: &str) -> Result<Self, ReferenceError> {
        if s.contains(':') { Ok(Reference::Digest(s.parse()?)) } else { Ok(Reference::Tag(s.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Tag(tag) => tag.fmt(f),
            Reference::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tells_tags_from_digests() {
        let long = "T".repeat(129);
        for good in ["latest", "_", "V1.0-rc", &long[..128]] {
            assert!(matches!(good.parse(), Ok(Reference::Tag(_))), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "a%20", "a b", "ü", "..", &long] {
            assert_eq!(bad.parse::<Reference>(), Err(ReferenceError::Tag), "{bad}");
        }
        assert!(matches!("sha256:zz".parse::<Reference>(), Err(ReferenceError::Digest(_))));
    }

    proptest! {
        #[test]
        fn never_panics(s in "\\PC*") {
            if let Ok(reference) = s.parse::<Reference>() {
                prop_assert_eq!(reference.to_string(), s);
            }
        }
    }
}
