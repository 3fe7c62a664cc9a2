//! A content digest: `algorithm:hex` (OCI image-spec, descriptor.md, "Digests"). A [`Digest`] is
//! well-formed; only a [`Hasher`](super::Hasher) proves that content has it.

use std::{fmt, str::FromStr};

/// The registered digest algorithms that lanyard stores and verifies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256, 32 bytes. Public images use it.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(s: &str) -> Result<Self, DigestError> {
        match s {
            "sha256" => Ok(Algorithm::Sha256),
            "sha512" => Ok(Algorithm::Sha512),
            _ => Err(DigestError::Algorithm),
        }
    }
}

/// A well-formed digest. It is `Copy`, so passing it on does not allocate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// The 32 bytes of a SHA-256.
    Sha256([u8; 32]),
    /// The 64 bytes of a SHA-512.
    Sha512([u8; 64]),
}

/// Why a string is not a digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DigestError {
    /// It has no colon between algorithm and hex.
    #[error("a digest is written algorithm:hex")]
    NoAlgorithm,
    /// Its algorithm is not registered, or lanyard does not store it.
    #[error("the digest algorithm is not sha256 or sha512")]
    Algorithm,
    /// It is not lower-case hex of the algorithm's length.
    #[error("the digest is not lower-case hex of its algorithm's length")]
    Hex,
}

impl Digest {
    /// The algorithm of this digest.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Digest::Sha256(_) => Algorithm::Sha256,
            Digest::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Digest::Sha256(b) => b,
            Digest::Sha512(b) => b,
        }
    }

    /// The first 16 bytes, for tables of many digests. No two known digests share them, and they
    /// take a quarter of the memory of a [`Digest`].
    pub fn beginning(&self) -> [u8; 16] {
        let mut beginning = [0; 16];
        beginning.copy_from_slice(&self.as_bytes()[..16]);
        beginning
    }

    /// The lower-case hex after the colon.
    pub fn hex(&self) -> String {
        self.with_hex(str::to_owned)
    }

    /// As an entity tag (RFC 9110 section 8.8.3): between quotes.
    pub fn quoted(&self) -> String {
        self.with_hex(|hex| ["\"", self.algorithm().as_str(), ":", hex, "\""].concat())
    }

    /// Passes the lower-case hex to `look`, without an allocation.
    fn with_hex<R>(&self, look: impl FnOnce(&str) -> R) -> R {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut space = [0; 128];
        let hex = &mut space[..self.as_bytes().len() * 2];
        for (pair, b) in hex.chunks_exact_mut(2).zip(self.as_bytes()) {
            pair.copy_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
        // Hex is ASCII.
        look(str::from_utf8(hex).unwrap_or_default())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm().as_str())?;
        f.write_str(":")?;
        self.with_hex(|hex| f.write_str(hex))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(s: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = s.split_once(':').ok_or(DigestError::NoAlgorithm)?;
        match algorithm.parse()? {
            Algorithm::Sha256 => decode(hex).map(Digest::Sha256),
            Algorithm::Sha512 => decode(hex).map(Digest::Sha512),
        }
    }
}

fn decode<const N: usize>(hex: &str) -> Result<[u8; N], DigestError> {
    let nibble = |c: u8| match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        _ => Err(DigestError::Hex),
    };
    let hex = hex.as_bytes();
    if hex.len() != N * 2 {
        return Err(DigestError::Hex);
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(out)
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = std::borrow::Cow::<'de, str>::deserialize(d)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_not_a_digest() {
        for (text, error) in [
            ("", DigestError::NoAlgorithm),
            ("sha256", DigestError::NoAlgorithm),
            ("sha256:", DigestError::Hex),
            ("sha256:baddigeststring", DigestError::Hex),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", DigestError::Algorithm),
            ("SHA256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", DigestError::Algorithm),
            ("sha256:E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", DigestError::Hex),
            ("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85", DigestError::Hex),
            ("sha256:../../../../../../../../../../etc/passwd00000000000000000000000000", DigestError::Hex),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn writes_what_it_read(bytes: [u8; 32], long in proptest::collection::vec(any::<u8>(), 64)) {
            let digest = Digest::Sha256(bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
            let digest = Digest::Sha512(long.try_into().unwrap());
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        }

        #[test]
        fn never_panics(s in "\\PC*") {
            let _ = s.parse::<Digest>();
        }
    }
}
