//! How an answer came about.

use std::fmt;

/// The one set of outcome words: header `X-Lanyard-Cache`, logs, metrics and tests all use these.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// From the store; upstream was not asked.
    Hit,
    /// From a download that another request had begun.
    Joined,
    /// This request began the download.
    Filled,
    /// From the store, after upstream said it is still the right one.
    Revalidated,
    /// From the store, because upstream could not be asked.
    Stale,
    /// Passed through; the store was not involved.
    Bypassed,
}

impl Outcome {
    /// Every outcome, in the order of the table above.
    pub const ALL: [Outcome; 6] =
        [Outcome::Hit, Outcome::Joined, Outcome::Filled, Outcome::Revalidated, Outcome::Stale, Outcome::Bypassed];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Hit => "hit",
            Outcome::Joined => "joined",
            Outcome::Filled => "filled",
            Outcome::Revalidated => "revalidated",
            Outcome::Stale => "stale",
            Outcome::Bypassed => "bypassed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
