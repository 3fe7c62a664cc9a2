//! The report of a check, and its sentences for people.
//!
//! Promises: plain values in no order. Callers: the check fills it; the app prints it and turns it
//! into an exit code.

use std::{fmt, path::PathBuf};

use crate::oci::{Digest, Repository, Tag};

/// What a check found, in no order.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Blobs that were read.
    pub blobs: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// Those of them that are not what their names say.
    pub corrupt: Vec<Corrupt>,
    /// Tags and links that were read.
    pub records: u64,
    /// Those of them that are damaged.
    pub damaged: Vec<Damaged>,
    /// Files and folders among the records whose names no record has. They are left alone.
    pub strays: Vec<PathBuf>,
    /// Content that a hosted repository needs and does not have.
    pub missing: Vec<Missing>,
    /// Links of mirrored repositories to content that is not here. They are no damage: the content
    /// is fetched when a client asks for it.
    pub absent: u64,
    /// Files that hold much more disk space than their content. They harm no pull.
    pub reserved: Vec<Reserved>,
    /// Whether the index was filled from the files; never without a repair.
    pub index_filled: bool,
}

/// A blob that is not what its name says, or that the disk does not give back.
#[derive(Clone, Debug)]
pub struct Corrupt {
    /// Its name.
    pub digest: Digest,
    /// What is wrong with it.
    pub why: String,
    /// Whether it is in the quarantine now.
    pub quarantined: bool,
}

/// A file that holds much more disk space than its content.
#[derive(Clone, Debug)]
pub struct Reserved {
    /// The file.
    pub path: PathBuf,
    /// What it holds beyond its content, in bytes.
    pub bytes: u64,
    /// Whether that is free now.
    pub given_back: bool,
}

/// A record that is torn or rotten, or is the record of another name.
#[derive(Clone, Debug)]
pub struct Damaged {
    /// Its file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// What was done about it.
    pub mended: Mended,
}

/// What was done about a damaged record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mended {
    /// Nothing: there was no repair, or a newer lanyard has written it.
    Left,
    /// It was written anew, from the content that it links. The content stays held.
    Renewed,
    /// It was removed, which is how it was read all along.
    Removed,
}

/// Content that a hosted repository needs and does not have: a pull of it fails.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// The repository.
    pub repository: Repository,
    /// The content.
    pub digest: Digest,
    /// What needs it.
    pub needed: Needed,
}

/// What needs a content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Needed {
    /// The tag names it.
    ByTag(Tag),
    /// The manifest names it.
    ByManifest(Digest),
    /// It was pushed.
    ForItself,
}

impl CheckReport {
    /// Whether the check found no damage. Damage counts also after a repair has mended it. Space
    /// that files hold beyond their content is no damage.
    pub fn is_sound(&self) -> bool {
        self.corrupt.is_empty() && self.damaged.is_empty() && self.missing.is_empty()
    }

    /// Adds what another thread found.
    pub(super) fn absorb(&mut self, other: CheckReport) {
        let CheckReport { blobs, bytes, corrupt, records, damaged, strays, missing, absent, reserved, index_filled } =
            other;
        self.blobs += blobs;
        self.bytes += bytes;
        self.corrupt.extend(corrupt);
        self.records += records;
        self.damaged.extend(damaged);
        self.strays.extend(strays);
        self.missing.extend(missing);
        self.absent += absent;
        self.reserved.extend(reserved);
        self.index_filled |= index_filled;
    }
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.quarantined { "; it is in the quarantine now" } else { "" };
        write!(f, "{}: {}{done}", self.digest, self.why)
    }
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.given_back { "; they are free now" } else { "" };
        write!(f, "{}: {} bytes beyond its content{done}", self.path.display(), self.bytes)
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = match self.mended {
            Mended::Left => "",
            Mended::Renewed => "; it was written anew",
            Mended::Removed => "; it was removed",
        };
        write!(f, "{}: {}{done}", self.path.display(), self.why)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Missing { repository, digest, needed } = self;
        match needed {
            Needed::ByTag(tag) => write!(f, "{repository}: {digest} is missing, which the tag {tag} names"),
            Needed::ByManifest(manifest) => write!(f, "{repository}: {digest} is missing, which {manifest} names"),
            Needed::ForItself => write!(f, "{repository}: {digest} is missing, which was pushed"),
        }
    }
}
