//! Patterns over images with their upstream and tag: the values of `match` in `[[tags]]`.

use std::{fmt, str::FromStr};

use super::pattern::{PatternError, glob, segment_matches};
use crate::oci::{NameError, Namespace, Repository, RepositoryName, Tag, UpstreamName};

/// The longest pattern: an upstream's name, a name and a tag, each as long as it can be.
const MAX: usize = 700;

/// Docker Hub. Its names have two parts at least: `names` reads one part alone as an image of
/// `library/`.
const HUB: &str = "docker.io";

/// `UPSTREAM/NAMES:TAG`, as in `docker.io/library/*:latest` or `**:edge`. `*` is one part between
/// slashes or some of it, `**` is any number of parts, the upstream's name among them. In the tag
/// `*` is any number of characters. Without a tag it is every tag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImagePattern {
    /// The upstream and the parts of the name. Never empty.
    parts: Vec<String>,
    tag: Option<String>,
}

/// Why a string is not a pattern over images.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ImagePatternError {
    /// What stands before the tag is no pattern.
    #[error(transparent)]
    Names(#[from] PatternError),
    /// No image has a name that fits.
    #[error("no image has such a name: {0}")]
    Name(#[from] NameError),
    /// What stands after the last colon is no tag.
    #[error(
        "a tag has 1 to 128 letters, digits, . _ and -, in which * is any number of them, and does not begin with . or -"
    )]
    Tag,
    /// There is no name after the upstream.
    #[error("has an upstream or a name alone; write both, as in docker.io/library/*, or docker.io/** for all of it")]
    NoName,
}

impl ImagePattern {
    /// Whether this tag of this repository fits. Hosted ones never do.
    pub fn matches(&self, repository: &Repository, tag: &Tag) -> bool {
        self.tag.as_deref().is_none_or(|own| segment_matches(own, tag.as_str())) && self.holds(repository)
    }

    /// Whether a tag of this repository may fit.
    pub fn holds(&self, repository: &Repository) -> bool {
        let Namespace::Upstream(upstream) = &repository.namespace else { return false };
        let mut parts = Vec::with_capacity(8);
        parts.push(upstream.as_str());
        parts.extend(repository.name.segments());
        glob(&self.parts, &parts, |part| part == "**", |part, segment| segment_matches(part, segment))
    }

    /// Whether everything that fits `other` fits this one too. Wildcards of `other` count as
    /// characters that only a wildcard of this one takes: "yes" is always right, and "no" may be
    /// wrong, as for `a*` and `*` together with `a`.
    pub fn covers(&self, other: &ImagePattern) -> bool {
        let part = |own: &String, other: &String| other != "**" && segment_matches(own, other);
        self.tag.as_deref().is_none_or(|own| segment_matches(own, other.tag.as_deref().unwrap_or("*")))
            && glob(&self.parts, &other.parts, |part| part == "**", part)
    }

    /// Whether an image of this upstream can fit.
    pub(super) fn may_be_of(&self, upstream: &UpstreamName) -> bool {
        let own = self.upstream();
        (own == "**" || segment_matches(own, upstream.as_str()))
            && !(upstream.as_str() == HUB && self.is_over_one_part())
    }

    /// What is wrong, and what to write, if the pattern is over names of one part of Docker Hub,
    /// as in `docker.io/nginx:1`: there are none.
    pub(super) fn not_in_library(&self) -> Option<String> {
        if self.upstream() != HUB || !self.is_over_one_part() {
            return None;
        }
        let mut full = self.clone();
        full.parts.insert(1, "library".to_owned());
        Some(format!("{HUB} has no names of one part alone; write {:?}", full.to_string()))
    }

    /// Whether only names of one part can fit.
    fn is_over_one_part(&self) -> bool {
        matches!(self.parts.as_slice(), [upstream, name] if upstream != "**" && name != "**")
    }

    /// The upstream's name, or the pattern over upstreams.
    pub(super) fn upstream(&self) -> &str {
        self.parts.first().map_or("", String::as_str)
    }

    /// The one image that fits, if the pattern has no wildcard.
    pub fn exact(&self) -> Option<(Repository, Tag)> {
        let (upstream, names) = self.parts.split_first()?;
        let namespace = Namespace::Upstream(upstream.parse().ok()?);
        Some((Repository { namespace, name: names.join("/").parse().ok()? }, self.tag.as_ref()?.parse().ok()?))
    }
}

impl FromStr for ImagePattern {
    type Err = ImagePatternError;

    fn from_str(text: &str) -> Result<Self, ImagePatternError> {
        let (names, tag) = match text.rsplit_once(':') {
            // A colon in front of a slash belongs to the upstream's port.
            Some((names, tag)) if !tag.contains('/') => (names, Some(tag)),
            Some(_) | None => (text, None),
        };
        if names.is_empty() || names.len() > MAX {
            return Err(PatternError::Length.into());
        }
        // If no image fits with a letter in the place of each wildcard, none fits at all.
        let without_wildcards = |text: &str| text.replace('*', "a");
        if tag.is_some_and(|tag| without_wildcards(tag).parse::<Tag>().is_err()) {
            return Err(ImagePatternError::Tag);
        }
        let parts: Vec<String> = names.split('/').map(str::to_owned).collect();
        for (index, part) in parts.iter().enumerate() {
            let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-' | b'*');
            if part.is_empty() || !part.bytes().all(|b| known(b) || index == 0 && b == b':') {
                return Err(PatternError::Grammar.into());
            }
            if part.contains("**") && part != "**" {
                return Err(PatternError::Stars.into());
            }
        }
        if parts.len() == 1 && parts[0] != "**" {
            return Err(ImagePatternError::NoName);
        }
        if let Some((_, name)) = names.split_once('/') {
            without_wildcards(name).parse::<RepositoryName>()?;
        }
        Ok(ImagePattern { parts, tag: tag.map(str::to_owned) })
    }
}

impl fmt::Display for ImagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts.join("/"))?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> ImagePattern {
        text.parse().unwrap()
    }

    fn fits(pattern: &str, image: &str) -> bool {
        let (name, tag) = image.rsplit_once(':').unwrap();
        let (upstream, name) = name.split_once('/').unwrap();
        let namespace = Namespace::Upstream(upstream.parse().unwrap());
        self::pattern(pattern).matches(&Repository { namespace, name: name.parse().unwrap() }, &tag.parse().unwrap())
    }

    #[test]
    fn an_image_fits_by_upstream_name_and_tag() {
        for (pattern, image, expected) in [
            ("docker.io/library/*:latest", "docker.io/library/nginx:latest", true),
            ("docker.io/library/*:latest", "docker.io/library/nginx:1", false),
            ("docker.io/library/*:latest", "quay.io/library/nginx:latest", false),
            ("**:edge", "ghcr.io/a/b/c:edge", true),
            ("**:edge", "ghcr.io/a/b/c:Edge", false),
            ("**:v*.*.*", "quay.io/x:v1.2.3", true),
            ("**:v*.*.*", "quay.io/x:v1.2", false),
            ("docker.io/**", "docker.io/library/nginx:1", true),
            ("docker.io/**", "ghcr.io/a:1", false),
            ("**", "ghcr.io/a:1", true),
            ("*/pause:*", "registry.k8s.io/pause:3", true),
            ("localhost:5000/**", "localhost:5000/x:1", true),
            ("localhost:5000/x:1", "localhost:5000/x:1", true),
            ("*:5000/x:1", "localhost:5000/x:1", true),
        ] {
            assert_eq!(fits(pattern, image), expected, "{pattern} {image}");
            assert_eq!(self::pattern(pattern).to_string(), pattern);
        }
        let hosted = Repository { namespace: Namespace::Hosted, name: "docker.io/a".parse().unwrap() };
        assert!(!pattern("**").matches(&hosted, &"1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (bad, why) in [
            ("", ImagePatternError::Names(PatternError::Length)),
            (":v1", ImagePatternError::Names(PatternError::Length)),
            ("docker.io", ImagePatternError::NoName),
            ("nginx:latest", ImagePatternError::NoName),
            ("*", ImagePatternError::NoName),
            ("docker.io/Nginx", ImagePatternError::Names(PatternError::Grammar)),
            ("docker.io/a:b/c", ImagePatternError::Names(PatternError::Grammar)),
            ("docker.io//a", ImagePatternError::Names(PatternError::Grammar)),
            ("docker.io/a**", ImagePatternError::Names(PatternError::Stars)),
            ("docker.io/a:", ImagePatternError::Tag),
            ("docker.io/a:b c", ImagePatternError::Tag),
            ("docker.io/a@sha256", ImagePatternError::Names(PatternError::Grammar)),
            ("docker.io/a/b:-x", ImagePatternError::Tag),
            ("docker.io/a/b:.*", ImagePatternError::Tag),
            ("docker.io/-x:1", ImagePatternError::Name(NameError::Grammar)),
            ("docker.io/library/../x:1", ImagePatternError::Name(NameError::Grammar)),
            ("quay.io/a/x-:1", ImagePatternError::Name(NameError::Grammar)),
            ("**/a._*:1", ImagePatternError::Name(NameError::Grammar)),
            ("*/-*", ImagePatternError::Name(NameError::Grammar)),
            (format!("quay.io/{}:1", "a".repeat(254)).as_str(), ImagePatternError::Name(NameError::Length)),
        ] {
            assert_eq!(bad.parse::<ImagePattern>(), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn docker_hub_has_no_names_of_one_part() {
        let of = |text: &str, upstream: &str| pattern(text).may_be_of(&upstream.parse().unwrap());
        for (text, full) in [
            ("docker.io/nginx:1", "docker.io/library/nginx:1"),
            ("docker.io/nginx", "docker.io/library/nginx"),
            ("docker.io/*:x", "docker.io/library/*:x"),
        ] {
            let told = format!("docker.io has no names of one part alone; write \"{full}\"");
            assert_eq!(pattern(text).not_in_library(), Some(told));
            assert!(!of(text, "docker.io"), "{text}");
            assert_eq!(pattern(full).not_in_library(), None);
            assert!(of(full, "docker.io"), "{full}");
        }
        for text in ["docker.io/**:x", "docker.io/*/*", "docker.io/**/nginx:1", "quay.io/nginx:1", "**", "**/nginx:1"] {
            assert_eq!(pattern(text).not_in_library(), None, "{text}");
        }
        for (text, upstream, expected) in [
            ("*/nginx:1", "docker.io", false),
            ("*/nginx:1", "quay.io", true),
            ("docker.i*/nginx:1", "docker.io", false),
            ("**/nginx:1", "docker.io", true),
            ("docker.i*/**", "docker.io", true),
            ("**", "docker.io", true),
            ("quay.io/*", "docker.io", false),
        ] {
            assert_eq!(of(text, upstream), expected, "{text} {upstream}");
        }
    }

    #[test]
    fn t4_a_wider_pattern_covers_a_narrower_one() {
        for (wide, narrow) in [
            ("**", "docker.io/library/nginx:latest"),
            ("**", "**:edge"),
            ("**:*", "**"),
            ("**:edge", "**:edge"),
            ("docker.io/**", "docker.io/library/*:latest"),
            ("docker.io/**", "docker.io/**:v*"),
            ("*/library/*", "docker.io/library/n*x:1"),
            ("**:v*", "ghcr.io/**:v*.*.*"),
            ("**/nginx", "docker.io/**/nginx:1"),
        ] {
            assert!(pattern(wide).covers(&pattern(narrow)), "{wide} {narrow}");
        }
        for (wide, narrow) in [
            ("docker.io/library/nginx:latest", "**"),
            ("**:edge", "**"),
            ("**:v1*", "**:v*"),
            ("docker.io/*", "docker.io/**"),
            ("docker.io/*/*", "docker.io/**"),
            ("*/library/*", "**"),
            ("ghcr.io/**", "docker.io/**"),
        ] {
            assert!(!pattern(wide).covers(&pattern(narrow)), "{wide} {narrow}");
        }
    }

    #[test]
    fn a_pattern_without_wildcards_is_one_image() {
        let (repository, tag) = pattern("docker.io/library/nginx:1.27").exact().unwrap();
        assert_eq!(format!("{repository}:{tag}"), "docker.io/library/nginx:1.27");
        for wild in ["docker.io/library/nginx", "**:1", "docker.io/*:1", "*/a:1", "docker.io/a:*"] {
            assert_eq!(pattern(wild).exact(), None, "{wild}");
        }
    }

    const PATTERN: &str = "(\\*\\*|[ab]\\.[ab]|\\*)(/(\\*\\*|[ab]{1,2}|\\*|[ab]\\*)){1,3}(:([ab]|\\*|a\\*))?";

    proptest! {
        /// T4: "yes" is always right.
        #[test]
        fn t4_what_is_covered_fits(wide in PATTERN, narrow in PATTERN, image in "[ab]\\.[ab](/[ab]{1,2}){1,3}:[ab]{1,2}") {
            if pattern(&wide).covers(&pattern(&narrow)) && fits(&narrow, &image) {
                prop_assert!(fits(&wide, &image));
            }
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            if let Ok(pattern) = text.parse::<ImagePattern>() {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }
    }
}
