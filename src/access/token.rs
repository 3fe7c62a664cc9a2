//! Bearer tokens: JWT (RFC 7519) with HS256 (RFC 7518, section 3.2). This lanyard alone issues and
//! reads them (S8).
//!
//! - One header is valid, byte for byte. No other algorithm and no `jwk`, `jku`, `x5u` or `kid` is
//!   ever looked at.
//! - The signature is verified before anything is parsed.
//! - A token of more than 8 KiB is refused unread.
//!
//! Written by hand: the crate `jsonwebtoken` parses the header before it verifies the signature,
//! reads the clock itself, and writes the header's fields in another order than tokens in use.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::key::SecretKey;
use crate::runtime::clock::seconds;

/// The issuer of all tokens, and their audience.
pub const SERVICE: &str = "lanyard";
/// How long a token is valid.
const LIFETIME: Duration = Duration::from_secs(300);
/// A token is valid from so many seconds before its issue: a clock that is set back by less refuses
/// no token that is in use.
const SET_BACK: u64 = 60;
/// The longest token, in bytes.
const LONGEST: usize = 8 << 10;
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// The actions that a token names for one resource: an entry of its `access` list, as in Docker's
/// token specification.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResourceActions {
    /// `repository`, or `registry` for the catalogue.
    #[serde(rename = "type")]
    pub kind: String,
    /// The repository as the client spells it.
    pub name: String,
    /// `pull`, `push`, `delete`; `*` for the catalogue.
    pub actions: Vec<String>,
}

impl ResourceActions {
    /// `registry:catalog:*`: listing what may be pulled.
    pub fn catalog() -> ResourceActions {
        ResourceActions { kind: "registry".to_owned(), name: "catalog".to_owned(), actions: vec!["*".to_owned()] }
    }
}

/// A new token.
pub struct Token {
    /// The token as it is sent.
    pub text: String,
    /// How long it is valid after `issued_at`, in whole seconds.
    pub lifetime: Duration,
    /// When it was issued.
    pub issued_at: SystemTime,
}

/// What a valid token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedToken {
    /// The user that it was issued to; `None` for a client that had not signed in.
    pub user: Option<String>,
    /// What it may be used for.
    pub access: Vec<ResourceActions>,
}

/// The token would be larger than 8 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this is more than one token can hold; ask for less at a time")]
pub struct TooLarge;

#[derive(Serialize, Deserialize)]
struct TokenClaims {
    iss: String,
    sub: String,
    aud: String,
    exp: u64,
    nbf: u64,
    iat: u64,
    access: Vec<ResourceActions>,
}

/// Issues tokens under one key, and verifies them.
pub(super) struct TokenIssuer {
    key: hmac::Key,
    header: String,
}

impl TokenIssuer {
    pub(super) fn new(key: &SecretKey) -> Self {
        TokenIssuer { key: key.hmac(), header: URL_SAFE_NO_PAD.encode(HEADER) }
    }

    pub(super) fn issue(
        &self,
        user: Option<&str>,
        access: Vec<ResourceActions>,
        now: SystemTime,
    ) -> Result<Token, TooLarge> {
        let iat = seconds(now);
        let claims = TokenClaims {
            iss: SERVICE.to_owned(),
            sub: user.unwrap_or_default().to_owned(),
            aud: SERVICE.to_owned(),
            exp: iat + LIFETIME.as_secs(),
            nbf: iat.saturating_sub(SET_BACK),
            iat,
            access,
        };
        // Cannot fail: claims are text and numbers.
        let claims = serde_json::to_vec(&claims).map_err(|_| TooLarge)?;
        let signed = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, signed.as_bytes()));
        let text = format!("{signed}.{signature}");
        if text.len() > LONGEST {
            return Err(TooLarge);
        }
        Ok(Token { text, lifetime: LIFETIME, issued_at: now })
    }

    /// What a token says. `None` unless this key signed it and it is valid at `now`.
    pub(super) fn verify(&self, text: &str, now: SystemTime) -> Option<VerifiedToken> {
        if text.len() > LONGEST {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        if header != self.header {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.key, signed.as_bytes(), &signature).ok()?;
        let claims: TokenClaims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let now = seconds(now);
        let ours = claims.iss == SERVICE && claims.aud == SERVICE;
        let in_time = claims.nbf <= now && now < claims.exp;
        (ours && in_time)
            .then_some(VerifiedToken { user: Some(claims.sub).filter(|user| !user.is_empty()), access: claims.access })
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
