//! Values of `[[upstream]]`, and the file of a password. Messages about values in which people
//! write passwords do not show the value.

use std::path::Path;

use figment::value::Value;
use url::Url;

use super::text;
use crate::{
    oci::{RepositoryName, UpstreamName},
    runtime::read_file,
};

/// A host, so that it is not the beginning of a repository's name: `team` would take every
/// repository `team/…` of the default upstream (S16).
pub(in crate::config) fn name(value: &Value) -> Result<UpstreamName, String> {
    let text = text(value)?;
    let name: UpstreamName = text
        .parse()
        .map_err(|_| format!("{text:?} is not a host such as \"ghcr.io\" or \"registry.lan:5000\", in lower case"))?;
    if text.contains(['.', ':']) || text == "localhost" {
        return Ok(name);
    }
    Err(format!("{text:?} could be the beginning of a repository's name; use one with a dot or a port"))
}

/// The URL of a registry. The messages do not show the text, because people write passwords into
/// URLs.
pub(in crate::config) fn base_url(text: &str) -> Result<Url, String> {
    let wrong = || "must be a URL such as \"https://registry.example.com\"".to_owned();
    if !(text.starts_with("https://") || text.starts_with("http://"))
        || text.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Err(wrong());
    }
    let url: Url = text.parse().map_err(|_| wrong())?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password; use username and password_file".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end before any ? or #".to_owned());
    }
    Ok(url)
}

/// A name that stands before repository names.
pub(in crate::config) fn prefix(value: &Value) -> Result<RepositoryName, String> {
    let text = text(value)?;
    let bare = text.trim_matches('/');
    match bare.parse::<RepositoryName>() {
        Ok(_) if bare != text => Err(format!("must neither begin nor end with a slash; write {bare:?}")),
        Ok(prefix) => Ok(prefix),
        Err(error) => Err(format!("{text:?} cannot stand before repository names: {error}")),
    }
}

/// The URL of a proxy, which may hold a user and a password. The messages do not show it.
pub(in crate::config) fn proxy(value: &Value) -> Result<Url, String> {
    let wrong = || "must be \"http://host:port\" or \"http://user:password@host:port\"".to_owned();
    let text = text(value)?;
    let url: Url = text.parse().map_err(|_| wrong())?;
    let plain = text.starts_with("http://") && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let only_host = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if plain && only_host && url.host_str().is_some_and(|host| !host.is_empty()) { Ok(url) } else { Err(wrong()) }
}

/// A host that issues tokens.
pub(in crate::config) fn token_host(text: &str) -> Result<String, String> {
    match text.parse::<UpstreamName>() {
        Ok(host) => Ok(host.as_str().to_owned()),
        Err(_) => Err("must be a host such as \"auth.example.com\", without https:// and in lower case".to_owned()),
    }
}

/// The user of [`Credentials`](super::super::Credentials).
pub(in crate::config) fn username(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    // RFC 7617, section 2: the colon ends the user name.
    if text.contains(|c: char| c == ':' || c.is_control()) {
        return Err("must not hold a colon or control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// Reads a file with a password. It holds one line; the newline that editors put at the end is not
/// part of the password. The messages do not show the path, because people write the password
/// itself there. The line of the configuration file is told.
pub(crate) fn read_password(path: &Path) -> Result<String, String> {
    let bytes = read_file(path).map_err(|error| format!("the file cannot be read: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if line.contains(char::is_control) {
        return Err("the file must hold one line, the password".to_owned());
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_a_registry_and_no_more() {
        for good in ["https://ghcr.io", "http://10.0.0.1:5000/prefix", "https://[::1]:5000/"] {
            assert!(base_url(good).is_ok(), "{good}");
        }
        for bad in [
            "ghcr.io",
            "ftp://ghcr.io",
            "https:ghcr.io",
            "https://",
            " https://a",
            "https://a b",
            "https://a\n",
            "HTTPS://a",
            "https://me@a",
            "https://me:secret@a",
            "https://:secret@a",
            "https://a?x",
            "https://a#x",
            "https://a:70000",
        ] {
            let what = base_url(bad).unwrap_err();
            assert!(!what.contains("secret"), "{what}");
        }
    }

    #[test]
    fn prefixes_are_repository_names() {
        for good in ["project", "a/b/c", "team-1_x.y/z"] {
            assert_eq!(prefix(&Value::from(good)).unwrap().as_str(), good);
        }
        for (bad, hint) in [
            ("/project", "write \"project\""),
            ("project/", "write \"project\""),
            ("/a/b/", "write \"a/b\""),
            ("//a", "write \"a\""),
            ("", "not empty"),
            ("/", "cannot stand before"),
            ("a//b", "cannot stand before"),
            ("Project", "lower-case"),
            ("a/../b", "lower-case"),
            ("https://a", "lower-case"),
            ("a b", "lower-case"),
            ("a:b", "lower-case"),
        ] {
            let what = prefix(&Value::from(bad)).unwrap_err();
            assert!(what.contains(hint), "{bad}: {what}");
        }
        assert!(prefix(&Value::from("a".repeat(254))).is_err());
        assert!(prefix(&Value::from(5)).is_err());
    }

    #[test]
    fn proxies_are_http_hosts() {
        for good in ["http://proxy:3128", "http://me:p%40ss@proxy:3128/", "http://10.0.0.1"] {
            assert!(proxy(&Value::from(good)).is_ok(), "{good}");
        }
        for bad in
            ["proxy:3128", "https://proxy", "socks5://proxy", "http://proxy/path", "http://proxy?x", "http:proxy", ""]
        {
            assert!(proxy(&Value::from(bad)).is_err(), "{bad}");
        }
    }
}
