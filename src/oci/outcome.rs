//! The outcome words: how an answer came about. `pull` and `push` choose the word; DESIGN.md
//! section 1 has the same table for operators.

use std::fmt;

/// How an answer came about. The header `X-Lanyard-Cache`, logs, metrics and tests use these words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// From the store, and upstream was not asked.
    Hit,
    /// From a download that another request had begun.
    Joined,
    /// This request began the download.
    Filled,
    /// From the store, after upstream confirmed that it is current.
    Revalidated,
    /// From the store, because upstream could not be asked.
    Stale,
    /// Passed through, without the store.
    Bypassed,
}

impl Outcome {
    /// Every outcome, in the order above.
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
