//! The query of a page of the administration, read strictly: a dry run with a misspelled name must
//! not remove anything.

use std::borrow::Cow;

use crate::oci::{ErrorCode, RegistryError};

/// Takes a query without keys only.
pub(super) fn none(query: &str) -> Result<(), RegistryError> {
    match url::form_urlencoded::parse(query.as_bytes()).next() {
        Some((key, _)) => Err(bad(format!("unknown query key {key:?}"))),
        None => Ok(()),
    }
}

/// The values of `image`, which may stand any number of times.
pub(super) fn images(query: &str) -> Result<Vec<String>, RegistryError> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let image = |(key, value): (Cow<'_, str>, Cow<'_, str>)| match key.as_ref() {
        "image" => Ok(value.into_owned()),
        key => Err(bad(format!("unknown query key {key:?}"))),
    };
    pairs.map(image).collect()
}

/// The values of these keys. Each may stand once, as `true` or `false`; an absent one is false.
pub(super) fn switches<const N: usize>(query: &str, keys: [&str; N]) -> Result<[bool; N], RegistryError> {
    let mut said = [None; N];
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let Some(at) = keys.iter().position(|known| *known == key) else {
            return Err(bad(format!("unknown query key {key:?}")));
        };
        said[at] = match (value.as_ref(), said[at]) {
            ("true", None) => Some(true),
            ("false", None) => Some(false),
            _ => return Err(bad(format!("{key} must be given once, as true or false"))),
        };
    }
    Ok(said.map(|said| said.unwrap_or(false)))
}

/// 400.
pub(super) fn bad(message: impl Into<String>) -> RegistryError {
    RegistryError::new(ErrorCode::Unsupported, message).with_status(400)
}
