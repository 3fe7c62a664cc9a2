//! The name of an upload: a UUID of version 4 that lanyard made itself.
//!
//! Promises: a client's text never becomes a path, only an id that was parsed from it (S13).
//! Parsing takes exactly the text that is written, so no two texts name one upload. Callers: the
//! uploads; the routes, which parse it.

use std::{fmt, str::FromStr};

use uuid::{Uuid, Variant, Version};

/// A random UUID (RFC 9562, version 4). Parsing is strict.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(Uuid);

/// The string is not an [`UploadId`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an upload's name is a UUID of version 4 in lower case")]
pub struct UploadIdError;

impl UploadId {
    /// A new random one, which cannot be guessed.
    pub(super) fn random() -> Self {
        UploadId(Uuid::new_v4())
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for UploadId {
    type Err = UploadIdError;

    fn from_str(text: &str) -> Result<Self, UploadIdError> {
        let id = Uuid::try_parse(text).map_err(|_| UploadIdError)?;
        let is_v4 = id.get_version() == Some(Version::Random) && id.get_variant() == Variant::RFC4122;
        // `Uuid` takes other spellings too: no dashes, capitals, braces. Written again it must be
        // the same text.
        if is_v4 && id.to_string() == text { Ok(UploadId(id)) } else { Err(UploadIdError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn takes_nothing_else() {
        assert_eq!(
            "f81d4fae-7dec-41d0-a765-00a0c91e6bf6".parse::<UploadId>().map(|id| id.to_string()).as_deref(),
            Ok("f81d4fae-7dec-41d0-a765-00a0c91e6bf6")
        );
        for text in [
            "",
            "..",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "f81d4fae-7dec-41d0-0765-00a0c91e6bf6",
            "F81D4FAE-7DEC-41D0-A765-00A0C91E6BF6",
            "f81d4fae7dec41d0a76500a0c91e6bf6",
            "f81d4fa-e7dec-41d0-a765-00a0c91e6bf6",
            "+81d4fae-7dec-41d0-a765-00a0c91e6bf6",
            "f81d4fae-7dec-41d0-a765-00a0c91e6bf66",
            "{f81d4fae-7dec-41d0-a765-00a0c91e6bf6}",
        ] {
            assert!(text.parse::<UploadId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn comes_back(_n in 0..64) {
            let id = UploadId::random();
            prop_assert_eq!(id.to_string().parse::<UploadId>(), Ok(id));
        }

        #[test]
        fn never_panics(text in "\\PC*", near in "[0-9a-f-]{0,40}") {
            let _ = text.parse::<UploadId>();
            let _ = near.parse::<UploadId>();
        }
    }
}
