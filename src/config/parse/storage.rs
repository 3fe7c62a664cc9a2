//! Values of `[storage]`.

use figment::value::Value;
use url::Url;

use super::{text, upstream::base_url};

/// A bucket or a container: 3 to 63 characters, as S3 and Azure bound them; Google also takes `_`.
pub(in crate::config) fn bucket(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if (3..=63).contains(&text.len())
        && text.chars().all(fits)
        && ends(text.chars().next())
        && ends(text.chars().next_back())
        && !text.contains("..")
    {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no name of a bucket: 3 to 63 lower-case letters, digits, hyphens, dots"))
}

/// What stands before all keys: words between slashes.
pub(in crate::config) fn key_prefix(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let word = |word: &str| !word.is_empty() && word != "." && word != ".." && word.chars().all(fits);
    if text.len() <= 256 && text.split('/').all(word) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} cannot stand before keys: letters, digits, -, ., _, and a slash between words"))
}

/// The URL of an object store: scheme, host and port. Azure's emulators have the account behind it.
pub(in crate::config) fn endpoint(value: &Value) -> Result<Url, String> {
    let url = base_url(text(value)?);
    url.map_err(|what| {
        what.replace("registry.example.com", "s3.example.com").replace("username and password_file", "files")
    })
}

/// A word without spaces, such as a region or an account.
pub(in crate::config) fn word(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    if text.len() <= 256 && text.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} must be one word"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_what_stores_take() {
        for good in ["abc", "my-registry.1", "a_b", &"x".repeat(63)] {
            assert_eq!(bucket(&Value::from(good)).as_deref(), Ok(good));
        }
        for bad in ["", "ab", "Abc", "-abc", "abc-", "a..b", "a/b", "a b", "bucket?x", &"x".repeat(64)] {
            assert!(bucket(&Value::from(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn prefixes_are_words() {
        for good in ["lanyard", "a/b.c/D_1-2"] {
            assert_eq!(key_prefix(&Value::from(good)).as_deref(), Ok(good));
        }
        for bad in ["", "/", "/a", "a/", "a//b", "a/../b", ".", "a b", "a%2fb", "ä"] {
            assert!(key_prefix(&Value::from(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn endpoints_hold_no_password() {
        assert!(endpoint(&Value::from("https://minio.lan:9000")).is_ok());
        for bad in ["minio.lan:9000", "https://key:secret@minio.lan", "https://minio.lan/?a", "s3://bucket"] {
            let what = endpoint(&Value::from(bad)).unwrap_err();
            assert!(!what.contains("secret") && !what.contains("registry"), "{what}");
        }
    }
}
