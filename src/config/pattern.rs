//! Patterns over repository names: the values of `namespaces`, `reserved`, `allow` and `block`.

use std::{fmt, str::FromStr};

use crate::oci::RepositoryName;

/// A pattern over repository names: `*` is one path segment or a part of one, `**` is any number of
/// segments.
///
/// `team/*` is `team/app` but not `team/app/web`; `team/**` is `team` itself and everything below
/// it; `**` is every name. Matching takes at worst time in proportion to the product of both
/// lengths.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern(String);

/// Why a string is not a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PatternError {
    /// It is empty, or longer than a name can be.
    #[error("a pattern has 1 to 253 characters")]
    Length,
    /// A segment is empty, or a character is in no name.
    #[error("a pattern is lower-case letters, digits, . _ - and * in parts divided by single /")]
    Grammar,
    /// `**` is only a part of a segment, as in `a**` or `***`.
    #[error("** stands alone between slashes, as in team/**")]
    Stars,
}

impl Pattern {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first part, up to the first slash.
    pub fn first_segment(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// Whether the whole name fits. It is the name within its namespace, for Docker Hub with its
    /// `library/`.
    pub fn matches(&self, name: &RepositoryName) -> bool {
        let pattern: Vec<&str> = self.0.split('/').collect();
        let name: Vec<&str> = name.segments().collect();
        glob(&pattern, &name, |part| *part == "**", |part, segment| segment_matches(part, segment))
    }
}

/// Whether a segment or a tag fits, in which `*` is any number of characters.
pub(super) fn segment_matches(part: &str, segment: &str) -> bool {
    glob(part.as_bytes(), segment.as_bytes(), |byte| *byte == b'*', |a, b| a == b)
}

/// Matches with one kind of wildcard, which is any number of items. Only the last wildcard is tried
/// again, so no case is exponential.
pub(super) fn glob<P, T>(
    pattern: &[P],
    items: &[T],
    is_star: impl Fn(&P) -> bool,
    fits: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut i) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while i < items.len() {
        match pattern.get(p) {
            Some(part) if is_star(part) => {
                retry = Some((p + 1, i));
                p += 1;
            }
            Some(part) if fits(part, &items[i]) => {
                p += 1;
                i += 1;
            }
            Some(_) | None => match retry {
                Some((after_star, start)) => {
                    retry = Some((after_star, start + 1));
                    p = after_star;
                    i = start + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(is_star)
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(s: &str) -> Result<Self, PatternError> {
        if s.is_empty() || s.len() > RepositoryName::MAX {
            return Err(PatternError::Length);
        }
        for part in s.split('/') {
            let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-' | b'*');
            if part.is_empty() || !part.bytes().all(known) {
                return Err(PatternError::Grammar);
            }
            if part.contains("**") && part != "**" {
                return Err(PatternError::Stars);
            }
        }
        Ok(Pattern(s.to_owned()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(&name.parse().unwrap())
    }

    #[test]
    fn stars_are_segments_and_parts_of_them() {
        for (pattern, name) in [
            ("library/busybox", "library/busybox"),
            ("library/*", "library/busybox"),
            ("*/busybox", "library/busybox"),
            ("lib*y/b*x", "library/busybox"),
            ("**", "a"),
            ("**", "a/b/c"),
            ("team/**", "team"),
            ("team/**", "team/a/b"),
            ("**/web", "web"),
            ("**/web", "a/b/web"),
            ("a/**/z", "a/z"),
            ("a/**/b/**/z", "a/x/b/b/y/z"),
            ("*-ci/**", "team-ci/a"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("library/*", "library/a/b"),
            ("library/*", "library"),
            ("*", "a/b"),
            ("team/**", "teams/a"),
            ("team/**", "a/team/b"),
            ("**/web", "a/web/b"),
            ("a/**/z", "a/b/y"),
            ("busybox", "library/busybox"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn takes_the_grammar_and_nothing_else() {
        for (bad, why) in [
            ("", PatternError::Length),
            ("/a", PatternError::Grammar),
            ("a//b", PatternError::Grammar),
            ("Team/*", PatternError::Grammar),
            ("a b", PatternError::Grammar),
            ("a?", PatternError::Grammar),
            ("team/a**", PatternError::Stars),
            ("***", PatternError::Stars),
        ] {
            assert_eq!(bad.parse::<Pattern>(), Err(why), "{bad}");
        }
        assert_eq!("a".repeat(254).parse::<Pattern>(), Err(PatternError::Length));
    }

    /// The definition, with every choice tried.
    fn slow<T: PartialEq>(pattern: &[T], items: &[T], star: &T, fits: &dyn Fn(&T, &T) -> bool) -> bool {
        match (pattern.split_first(), items.split_first()) {
            (None, None) => true,
            (Some((p, rest)), _) if p == star => {
                (0..=items.len()).any(|skipped| slow(rest, &items[skipped..], star, fits))
            }
            (Some((p, rest)), Some((i, more))) => fits(p, i) && slow(rest, more, star, fits),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            pattern in "(\\*\\*|[ab*]{1,1}|[ab]{1,2}\\*?[ab]{0,1})(/(\\*\\*|[ab]{1,2}|\\*|[ab]\\*[ab])){0,4}",
            name in "[ab]{1,3}(/[ab]{1,3}){0,5}",
        ) {
            let part = |p: &&str, s: &&str| slow(p.as_bytes(), s.as_bytes(), &b'*', &|a, b| a == b);
            let parts: Vec<&str> = pattern.split('/').collect();
            let segments: Vec<&str> = name.split('/').collect();
            let expected = slow(&parts, &segments, &"**", &part);
            prop_assert_eq!(matches(&pattern, &name), expected);
        }

        #[test]
        fn every_name_is_a_pattern_for_itself(name in "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}(/[a-z0-9]{1,8}){0,3}") {
            prop_assert!(matches(&name, &name));
        }

        #[test]
        fn never_panics(s in "\\PC*") {
            if let Ok(pattern) = s.parse::<Pattern>() {
                prop_assert_eq!(pattern.to_string(), s);
            }
        }
    }

    #[test]
    fn many_stars_do_not_take_long() {
        let pattern = format!("{}b", "a*".repeat(100));
        assert!(!matches(&pattern, &"a".repeat(250)));
    }
}
