//! Bearer tokens: JWT (RFC 7519) with HS256 (RFC 7518, section 3.2), made and read by this process alone (S8).
//!
//! There is one header, and a token whose header is not it, byte for byte, is none: no other algorithm, no `jwk`, `jku`, `x5u`
//! or `kid` is ever looked at. The signature is checked before anything is parsed, and nothing above 8 KiB is checked at all.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::key::Key;

/// Who issues tokens, and whom they are for.
pub const SERVICE: &str = "lanyard";
/// How long a token is good.
const LIFETIME: Duration = Duration::from_secs(300);
/// How far a clock may be set back before tokens that are under way seem not to have begun.
const SET_BACK: u64 = 60;
/// The longest token, in bytes.
const LONGEST: usize = 8 << 10;
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// One entry of a token's access list, as in Docker's token specification.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// `repository`, or `registry` for the catalogue.
    #[serde(rename = "type")]
    pub kind: String,
    /// The repository as the client spells it.
    pub name: String,
    /// `pull`, `push`, `delete`; `*` of the catalogue.
    pub actions: Vec<String>,
}

impl Grant {
    /// `registry:catalog:*`: listing what may be pulled.
    pub fn catalog() -> Grant {
        Grant { kind: "registry".to_owned(), name: "catalog".to_owned(), actions: vec!["*".to_owned()] }
    }
}

/// A new token.
pub struct Token {
    /// As it is sent.
    pub text: String,
    /// How long it is good, in whole seconds.
    pub lifetime: Duration,
    /// Since when.
    pub issued_at: SystemTime,
}

/// What a good token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bearer {
    /// Who asked for it; none: nobody had signed in.
    pub user: Option<String>,
    /// What it may be used for.
    pub access: Vec<Grant>,
}

/// More was asked for than a token holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this is more than one token can hold; ask for less at a time")]
pub struct TooMuch;

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: u64,
    nbf: u64,
    iat: u64,
    access: Vec<Grant>,
}

pub(super) struct Tokens {
    key: hmac::Key,
    header: String,
}

impl Tokens {
    pub(super) fn new(key: &Key) -> Self {
        Tokens { key: key.hmac(), header: URL_SAFE_NO_PAD.encode(HEADER) }
    }

    pub(super) fn issue(&self, user: Option<&str>, access: Vec<Grant>, now: SystemTime) -> Result<Token, TooMuch> {
        let iat = seconds(now);
        let claims = Claims {
            iss: SERVICE.to_owned(),
            sub: user.unwrap_or_default().to_owned(),
            aud: SERVICE.to_owned(),
            exp: iat + LIFETIME.as_secs(),
            nbf: iat.saturating_sub(SET_BACK),
            iat,
            access,
        };
        // Claims are text and numbers, which are always JSON.
        let claims = serde_json::to_vec(&claims).map_err(|_| TooMuch)?;
        let signed = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, signed.as_bytes()));
        let text = format!("{signed}.{signature}");
        if text.len() > LONGEST {
            return Err(TooMuch);
        }
        Ok(Token { text, lifetime: LIFETIME, issued_at: now })
    }

    /// What a token says that this key signed and whose time it is.
    pub(super) fn verify(&self, text: &str, now: SystemTime) -> Option<Bearer> {
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
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let now = seconds(now);
        let ours = claims.iss == SERVICE && claims.aud == SERVICE;
        let in_time = claims.nbf <= now && now < claims.exp;
        (ours && in_time)
            .then_some(Bearer { user: Some(claims.sub).filter(|user| !user.is_empty()), access: claims.access })
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
