//! The values of a rule of `[[tags]]`: what a tag is frozen at, and how long it is believed.
//! `keys.rs` has the rule itself, `pull` goes by it.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

/// What tags are frozen at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Freeze {
    /// What they named at the end of this day, by lanyard's own record.
    Day(Day),
    /// What this lock file says.
    File(PathBuf),
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Freeze::Day(day) => day.fmt(f),
            Freeze::File(path) => path.display().fmt(f),
        }
    }
}

/// A day in UTC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Day {
    text: String,
    end: u64,
}

/// The text is no day.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no such day; write one as in 2026-11-01")]
pub struct NoDay;

impl Day {
    /// Its last second, in seconds since 1970.
    pub fn end(&self) -> u64 {
        self.end
    }
}

impl FromStr for Day {
    type Err = NoDay;

    fn from_str(text: &str) -> Result<Self, NoDay> {
        let end = humantime::parse_rfc3339(&format!("{text}T23:59:59Z")).map_err(|_| NoDay)?;
        // Only days that are written back the same: some parsers let February have 31 days.
        if humantime::format_rfc3339_seconds(end).to_string() != format!("{text}T23:59:59Z") {
            return Err(NoDay);
        }
        let end = end.duration_since(std::time::UNIX_EPOCH).map_err(|_| NoDay)?.as_secs();
        Ok(Day { text: text.to_owned(), end })
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What becomes of a tag that is frozen and that the record or the lock file does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unlisted {
    /// It is not found.
    Refuse,
    /// It is as without the rule's `freeze`.
    Pass,
}

impl Unlisted {
    /// The words as they are written.
    pub(super) const WORDS: &[(&str, Unlisted)] = &[("refuse", Unlisted::Refuse), ("pass", Unlisted::Pass)];
}

/// How long a tag is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TagTtl {
    /// So long.
    For(Duration),
    /// For ever, once it is here.
    Never,
}
