//! The registries that may be asked: the built-in ones, and what an operator can say about one.

use std::{fmt, path::PathBuf, time::Duration};

use url::Url;

use super::Pattern;
use crate::oci::{RepositoryName, UpstreamName};

/// The upstreams that are there without a word of configuration: name, and base URL. All are asked anonymously.
pub const BUILT_IN: [(&str, &str); 8] = [
    ("docker.io", "https://registry-1.docker.io"),
    ("ghcr.io", "https://ghcr.io"),
    ("quay.io", "https://quay.io"),
    ("registry.k8s.io", "https://registry.k8s.io"),
    ("gcr.io", "https://gcr.io"),
    ("mcr.microsoft.com", "https://mcr.microsoft.com"),
    ("public.ecr.aws", "https://public.ecr.aws"),
    ("nvcr.io", "https://nvcr.io"),
];

/// The connections to one upstream at a time, where nothing else is said.
const CONNECTIONS: usize = 16;

/// `[[upstream]]`
#[derive(Clone, PartialEq)]
pub struct Upstream {
    /// The value of `ns=`, and the path prefix.
    pub name: UpstreamName,
    /// The registry's base URL, scheme, host and port; a path is kept as a prefix. Never with a user or a query.
    pub url: Url,
    /// Whether `url` is the built-in one: then only public addresses are ever dialled.
    pub built_in_url: bool,
    /// The name that stands before repository names there, such as a project of Harbor's. Clients
    /// do not write it.
    pub prefix: Option<RepositoryName>,
    /// For Basic, and for the token endpoint.
    pub credentials: Option<Credentials>,
    /// Where the password was read from. It may change while lanyard runs.
    pub password_file: Option<PathBuf>,
    /// PEM file with additional trust anchors. It held at least one certificate when the configuration was read.
    pub ca_file: Option<PathBuf>,
    /// `http://[user:password@]host:port`; absent: `HTTPS_PROXY`/`HTTP_PROXY`/`NO_PROXY` of the environment.
    /// User and password are percent-encoded in it.
    pub proxy: Option<Url>,
    /// Hosts (`host` or `host:port`, lower case) beside the upstream's own that may issue tokens.
    pub token_hosts: Vec<String>,
    /// Repositories that may be pulled, by the names that clients use; empty: all. Never empty
    /// where there are credentials (SECURITY.md S6).
    pub allow: Vec<Pattern>,
    /// Repositories that may not be pulled, whatever `allow` says.
    pub block: Vec<Pattern>,
    /// Overrides `cache.tag_ttl`.
    pub tag_ttl: Option<Duration>,
    /// Go on serving what upstream has deleted.
    pub keep_deleted: bool,
    /// The most connections at a time, at least 1.
    pub connections: usize,
}

impl Upstream {
    /// An anonymous upstream about which nothing more is said.
    pub fn new(name: UpstreamName, url: Url) -> Self {
        let built_in_url = built_in(name.as_str()).is_some_and(|built_in| built_in == url);
        Upstream {
            name,
            url,
            built_in_url,
            prefix: None,
            credentials: None,
            password_file: None,
            ca_file: None,
            proxy: None,
            token_hosts: Vec::new(),
            allow: Vec::new(),
            block: Vec::new(),
            tag_ttl: None,
            keep_deleted: false,
            connections: CONNECTIONS,
        }
    }
}

/// The built-in base URL of this upstream.
pub(super) fn built_in(name: &str) -> Option<Url> {
    BUILT_IN.iter().find(|(known, _)| *known == name).and_then(|(_, url)| url.parse().ok())
}

/// A URL as it may be shown: without its password.
pub(super) fn redacted(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() && url.set_password(Some("REDACTED")).is_err() {
        return "REDACTED".to_owned();
    }
    url.into()
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("url", &redacted(&self.url))
            .field("built_in_url", &self.built_in_url)
            .field("prefix", &self.prefix)
            .field("credentials", &self.credentials)
            .field("password_file", &self.password_file)
            .field("ca_file", &self.ca_file)
            .field("proxy", &self.proxy.as_ref().map(redacted))
            .field("token_hosts", &self.token_hosts)
            .field("allow", &self.allow)
            .field("block", &self.block)
            .field("tag_ttl", &self.tag_ttl)
            .field("keep_deleted", &self.keep_deleted)
            .field("connections", &self.connections)
            .finish()
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_list_is_names_and_urls() {
        for (name, url) in BUILT_IN {
            let upstream = Upstream::new(name.parse().unwrap(), url.parse().unwrap());
            assert!(upstream.built_in_url, "{name}");
            assert_eq!(upstream.url.scheme(), "https");
        }
    }

    #[test]
    fn s18_debug_shows_no_secret() {
        let mut upstream = Upstream::new("a.b".parse().unwrap(), "https://a.b".parse().unwrap());
        upstream.credentials = Some(Credentials { username: "me".into(), password: "canary-1".into() });
        upstream.proxy = Some("http://me:canary-2@proxy:3128".parse().unwrap());
        let shown = format!("{upstream:?} {}", upstream.credentials.clone().unwrap());
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("me:REDACTED@proxy:3128"), "{shown}");
        assert!(!upstream.built_in_url);
    }
}
