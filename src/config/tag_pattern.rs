//! Patterns over tags of repositories: the values of `hosted.immutable_tags`.

use std::{fmt, str::FromStr};

use super::pattern::{Pattern, PatternError, segment_matches};
use crate::oci::{RepositoryName, Tag};

/// `REPOSITORIES:TAG`, as in `**:v*`: before the colon a [`Pattern`] over names, after it a tag in
/// which `*` is any number of characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TagPattern {
    names: Pattern,
    tag: String,
}

/// Why a string is not a pattern over tags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TagPatternError {
    /// It has no colon.
    #[error("has no tag; write repositories:tag, as in **:v*")]
    NoTag,
    /// The part before the colon is not a pattern over names.
    #[error(transparent)]
    Names(#[from] PatternError),
    /// The part after the colon is not a tag.
    #[error("the tag after the colon has 1 to 128 letters, digits, . _ and -, in which * is any number of them")]
    Tag,
}

impl TagPattern {
    /// Whether this tag of this repository fits.
    pub fn matches(&self, name: &RepositoryName, tag: &Tag) -> bool {
        segment_matches(&self.tag, tag.as_str()) && self.names.matches(name)
    }
}

impl FromStr for TagPattern {
    type Err = TagPatternError;

    fn from_str(text: &str) -> Result<Self, TagPatternError> {
        let (names, tag) = text.rsplit_once(':').ok_or(TagPatternError::NoTag)?;
        let names = names.parse()?;
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'*');
        if tag.is_empty() || tag.len() > 128 || !tag.bytes().all(known) {
            return Err(TagPatternError::Tag);
        }
        Ok(TagPattern { names, tag: tag.to_owned() })
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.names, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_fit_by_name_and_tag() {
        for (pattern, name, tag, fits) in [
            ("**:v*", "team/app", "v1.0", true),
            ("**:v*", "app", "v", true),
            ("**:v*", "app", "V1", false),
            ("**:v*", "app", "latest", false),
            ("team/*:*", "team/app", "Any-Thing_1", true),
            ("team/*:*", "other/app", "v1", false),
            ("team/app:1.*.0", "team/app", "1.22.0", true),
            ("team/app:latest", "team/app", "latest", true),
        ] {
            let matches = pattern.parse::<TagPattern>().unwrap().matches(&name.parse().unwrap(), &tag.parse().unwrap());
            assert_eq!(matches, fits, "{pattern} {name}:{tag}");
        }
        for (bad, why) in [
            ("team/**", TagPatternError::NoTag),
            ("Team/**:v*", TagPatternError::Names(PatternError::Grammar)),
            (":v*", TagPatternError::Names(PatternError::Length)),
            ("**:", TagPatternError::Tag),
            ("**:a b", TagPatternError::Tag),
        ] {
            assert_eq!(bad.parse::<TagPattern>(), Err(why), "{bad}");
        }
        assert_eq!("**:v*".parse::<TagPattern>().unwrap().to_string(), "**:v*");
    }
}
