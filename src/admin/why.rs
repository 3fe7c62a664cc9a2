//! Why content is on disk, one word each: in `ls`, JSON, logs and tests (DESIGN.md section 1).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A reason for being on disk. Of an image the first that holds, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// Kept by an operator.
    Pinned,
    /// Brought by an operator.
    Imported,
    /// A frozen tag names it.
    Frozen,
    /// Pushed here.
    Hosted,
    /// A tag of a mirrored repository names it.
    Tagged,
    /// Asked for by its digest, and no tag names it.
    Digest,
    /// Its tag has moved on.
    Superseded,
    /// It says that it belongs to another manifest.
    Referrer,
    /// A manifest names it.
    Part,
    /// A client was told that it is here.
    Promised,
    /// It is being downloaded.
    Filling,
    /// An unfinished download.
    Parked,
    /// No repository has it.
    Orphan,
}

/// A word that is none of the reasons.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no reason; the reasons are {words}", words = Why::words())]
pub struct UnknownWhy(String);

impl Why {
    /// Every reason, in the order above.
    pub const ALL: [Why; 13] = [
        Why::Pinned,
        Why::Imported,
        Why::Frozen,
        Why::Hosted,
        Why::Tagged,
        Why::Digest,
        Why::Superseded,
        Why::Referrer,
        Why::Part,
        Why::Promised,
        Why::Filling,
        Why::Parked,
        Why::Orphan,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Pinned => "pinned",
            Why::Imported => "imported",
            Why::Frozen => "frozen",
            Why::Hosted => "hosted",
            Why::Tagged => "tagged",
            Why::Digest => "digest",
            Why::Superseded => "superseded",
            Why::Referrer => "referrer",
            Why::Part => "part",
            Why::Promised => "promised",
            Why::Filling => "filling",
            Why::Parked => "parked",
            Why::Orphan => "orphan",
        }
    }

    /// Whether content is not evicted for this reason.
    pub(super) fn keeps(self) -> bool {
        match self {
            Why::Pinned
            | Why::Imported
            | Why::Frozen
            | Why::Hosted
            | Why::Promised
            | Why::Filling
            | Why::Parked
            | Why::Orphan => true,
            Why::Tagged | Why::Digest | Why::Superseded | Why::Referrer | Why::Part => false,
        }
    }

    fn words() -> String {
        Why::ALL.map(Why::as_str).join(", ")
    }
}

impl FromStr for Why {
    type Err = UnknownWhy;

    fn from_str(word: &str) -> Result<Self, UnknownWhy> {
        Why::ALL.into_iter().find(|why| why.as_str() == word).ok_or_else(|| UnknownWhy(word.to_owned()))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
