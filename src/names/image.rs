//! An image as an operator writes it: `nginx`, `nginx:1.27`, `ghcr.io/a/b@sha256:…`,
//! `quay.io/a/b:1@sha256:…`.
//!
//! It means what the same text means to a client that has lanyard as its mirror, with one
//! difference: a first segment that can only be a host, as in `registry.example/a/b`, must be a
//! configured upstream. A client would ask for it elsewhere. Callers: the administration.

use std::fmt;

use super::{Names, Spelling, on};
use crate::oci::{
    Digest, ErrorCode, Namespace, Reference, RegistryError, Repository, RepositoryName, Tag, UpstreamName,
};

/// The tag that a name without a tag and without a digest means.
const LATEST: &str = "latest";

/// An image: a repository, and a tag, a digest or both. It is shown in full, as in
/// `docker.io/library/nginx:latest`, and what is shown means the same image again.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Image {
    /// The repository.
    pub repository: Repository,
    /// The tag; `None` only where there is a digest.
    pub tag: Option<Tag>,
    /// The digest of the manifest. With a tag it says what the tag must name.
    pub digest: Option<Digest>,
}

impl Image {
    /// What a client asks for to get it: the digest if there is one, or else the tag.
    pub fn reference(&self) -> Option<Reference> {
        self.digest.map(Reference::from).or_else(|| self.tag.clone().map(Reference::from))
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Names {
    /// The image that `text` means. `hosted_exists` says whether a hosted repository of a name
    /// exists. A name alone means its tag `latest`.
    ///
    /// # Errors
    /// A host that is no upstream is NAME_UNKNOWN; a name, a tag or a digest that is none is
    /// NAME_INVALID, MANIFEST_INVALID or DIGEST_INVALID. The message shows the word.
    pub fn image(&self, text: &str, hosted_exists: impl Fn(&RepositoryName) -> bool) -> Result<Image, RegistryError> {
        self.image_among(text, &[], hosted_exists)
    }

    /// The same, where content of upstreams may be meant that are `left` of an earlier
    /// configuration.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    pub fn image_among(
        &self,
        text: &str,
        left: &[UpstreamName],
        hosted_exists: impl Fn(&RepositoryName) -> bool,
    ) -> Result<Image, RegistryError> {
        let known = |host: &str| self.find(host).or_else(|| left.iter().find(|upstream| upstream.as_str() == host));
        let wrong = |code, why: &dyn fmt::Display| RegistryError::new(code, format!("{}: {why}", shown(text)));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|error| wrong(ErrorCode::DigestInvalid, &error))?))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // A colon in front of a slash belongs to the host's port.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            Some(_) | None => (rest, None),
        };
        let tag = tag.or((digest.is_none()).then_some(LATEST)).map(str::parse).transpose();
        let tag = tag.map_err(|error| wrong(ErrorCode::ManifestInvalid, &error))?;
        let parse = |name: &str| name.parse::<RepositoryName>().map_err(|error| wrong(ErrorCode::NameInvalid, &error));
        let repository = match name.split_once('/') {
            Some((host, rest)) if known(host).is_some() || host.contains(':') => {
                on(known(host).map_or_else(|| self.upstream(host), Ok)?, parse(rest)?)?
            }
            Some((host, _)) if is_only_a_host(host) => {
                let name = parse(name)?;
                if !hosted_exists(&name) && !self.claims(&name) {
                    self.upstream(host)?;
                }
                Repository { namespace: Namespace::Hosted, name }
            }
            Some(_) | None => self.resolve(&Spelling { host: None, name: parse(name)? }, None, hosted_exists)?,
        };
        Ok(Image { repository, tag, digest })
    }
}

/// Whether clients take the first segment of a name for a host (docker's reference grammar).
fn is_only_a_host(segment: &str) -> bool {
    segment.contains('.') || segment == "localhost"
}

/// The beginning of what an operator wrote, fit for a message.
fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::names, *};

    fn image(text: &str) -> Result<String, ErrorCode> {
        let hosted = |name: &RepositoryName| matches!(name.as_str(), "app" | "my.team/app");
        names().image(text, hosted).map(|image| image.to_string()).map_err(|error| error.code)
    }

    #[test]
    fn every_spelling_means_what_a_client_means() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, shown) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("library/nginx", "docker.io/library/nginx:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/a/b:1", "docker.io/a/b:1"),
            ("ghcr.io/a/b", "ghcr.io/a/b:latest"),
            ("localhost:5001/x", "localhost:5001/x:latest"),
            ("localhost:5001/x:1", "localhost:5001/x:1"),
            ("app:2", "app:2"),
            ("team/x", "team/x:latest"),
            ("my.team/app", "my.team/app:latest"),
        ] {
            assert_eq!(image(text).as_deref(), Ok(shown), "{text}");
            assert_eq!(image(shown).as_deref(), Ok(shown), "{shown} means itself");
        }
        for (text, name) in [("nginx@", "docker.io/library/nginx@"), ("ghcr.io/a/b:1@", "ghcr.io/a/b:1@")] {
            assert_eq!(image(&format!("{text}{digest}")), Ok(format!("{name}{digest}")), "a digest needs no tag");
        }
    }

    #[test]
    fn content_of_an_earlier_upstream_has_its_name() {
        let left: Vec<UpstreamName> = ["old.example", "old:5000"].map(|name| name.parse().unwrap()).into();
        let image = |text: &str| names().image_among(text, &left, |_| false).map(|image| image.to_string());
        for text in ["old.example/a/b:1", "old:5000/x:1", "docker.io/library/nginx:1"] {
            assert_eq!(image(text).as_deref(), Ok(text));
        }
        assert_eq!(image("other.example/a/b:1").unwrap_err().code, ErrorCode::NameUnknown);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for (text, code) in [
            ("", ErrorCode::NameInvalid),
            ("Nginx", ErrorCode::NameInvalid),
            ("a//b", ErrorCode::NameInvalid),
            ("../etc", ErrorCode::NameInvalid),
            ("nginx:", ErrorCode::ManifestInvalid),
            ("nginx:-x", ErrorCode::ManifestInvalid),
            ("nginx@sha256:zz", ErrorCode::DigestInvalid),
            ("registry.example/a/b", ErrorCode::NameUnknown),
            ("other:5000/a", ErrorCode::NameUnknown),
            ("localhost/a", ErrorCode::NameUnknown),
        ] {
            assert_eq!(image(text), Err(code), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            if let Ok(shown) = image(&text) {
                proptest::prop_assert_eq!(image(&shown), Ok(shown));
            }
        }
    }
}
