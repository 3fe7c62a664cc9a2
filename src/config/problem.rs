//! The problems of a configuration, and where each value came from.
//!
//! A problem holds no secret (SECURITY.md S18), so it can be printed anywhere.

use std::{fmt, path::PathBuf};

/// Where a value was said.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    /// The value is the default.
    Default,
    /// A configuration file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line, from 1. None: the file as a whole.
        line: Option<usize>,
    },
    /// An environment variable, by its name.
    Environment(String),
    /// A command-line flag, with its dashes.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Source::File { path, line: None } => write!(f, "{}", path.display()),
            Source::Environment(name) => f.write_str(name),
            Source::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that the operator has to change. Shown as `source: key: what`, so that an editor can
/// jump to it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// Where it was said.
    pub source: Source,
    /// The key as it is written in the file, like `cache.tag_ttl` or `upstream[0].url`. Empty: the
    /// source as a whole.
    pub key: String,
    /// The mistake and its remedy, never a secret.
    pub what: String,
}

impl Problem {
    /// A problem with a key.
    pub(super) fn new(source: Source, key: impl Into<String>, what: impl Into<String>) -> Self {
        Problem { source, key: key.into(), what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key or a file name may hold control characters. They are escaped for the terminal.
        let line = match self.key.as_str() {
            "" => format!("{}: {}", self.source, self.what),
            key => format!("{}: {key}: {}", self.source, self.what),
        };
        line.chars()
            .try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_default()) } else { write!(f, "{c}") })
    }
}

/// Every value in force as it was written, and its source. It holds no secrets.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// Values outside of upstreams and rules, by key path.
    pub(super) values: ShownEntry,
    /// The upstreams in the order of `Config::upstreams`, each with its keys.
    pub(super) upstreams: Vec<ShownEntry>,
    /// The rules of tags in their order, each with its keys.
    pub(super) tags: Vec<ShownEntry>,
    /// The rules of access in their order, each with its keys.
    pub(super) access: Vec<ShownEntry>,
}

/// Keys with their values, in the order of `config show`.
pub(super) type ShownEntry = Vec<(String, Shown)>;

/// A value in TOML notation, and its source.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// The text after the `=`.
    pub(super) value: String,
    /// Where it was said.
    pub(super) source: Source,
}

impl Provenance {
    /// Where the value of this key was said, for example of `cache.tag_ttl`. None: the key has no
    /// value.
    pub fn source(&self, key: &str) -> Option<&Source> {
        self.values.iter().find(|(path, _)| path == key).map(|(_, shown)| &shown.source)
    }

    /// Where a key of a rule of tags was said, by the rule's number.
    pub(super) fn tag_rule(&self, index: usize, key: &str) -> Option<&Source> {
        let entry = self.tags.get(index)?;
        entry.iter().find(|(path, _)| path.rsplit('.').next() == Some(key)).map(|(_, shown)| &shown.source)
    }
}
