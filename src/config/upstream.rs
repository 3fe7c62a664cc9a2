//! The built-in upstreams, and the functions of an [`Upstream`]. `check_upstream.rs` merges the
//! entries of the file over the built-in ones; `keys.rs` has the fields.

use std::fmt;

use figment::Figment;
use url::Url;

use super::{
    keys::Upstream,
    layer::Layers,
    reader::{Reader, Section, redacted},
};
use crate::oci::UpstreamName;

/// The upstreams that need no entry: name, and base URL. All are asked anonymously.
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

impl Upstream {
    /// An anonymous upstream. Every key but the name and the URL has its default.
    pub fn new(name: UpstreamName, url: Url) -> Self {
        let (layers, figment) = (Layers::none(), Figment::new());
        let (mut reader, mut section) = (Reader::new(&layers, &figment), Section::new(None, ""));
        match Self::read(&mut reader, &mut section, Some(name), Some(url), Some(None), Some(None)) {
            Some(upstream) => upstream,
            None => unreachable!("a default of [[upstream]] is wrong"),
        }
    }

    /// Whether `url` is the built-in one of this name. Then only public addresses are dialled.
    pub fn has_built_in_url(&self) -> bool {
        built_in(self.name.as_str()).is_some_and(|built_in| built_in == self.url)
    }
}

/// The built-in base URL of this upstream.
pub(super) fn built_in(name: &str) -> Option<Url> {
    BUILT_IN.iter().find(|(known, _)| *known == name).and_then(|(_, url)| url.parse().ok())
}

/// Only the keys that tell upstreams apart. Passwords are not shown.
impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("url", &redacted(&self.url))
            .field("credentials", &self.credentials)
            .field("proxy", &self.proxy.as_ref().map(redacted))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::credentials::Credentials, *};

    #[test]
    fn the_built_in_list_is_names_and_urls() {
        for (name, url) in BUILT_IN {
            let upstream = Upstream::new(name.parse().unwrap(), url.parse().unwrap());
            assert!(upstream.has_built_in_url(), "{name}");
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
        assert!(!upstream.has_built_in_url());
    }
}
