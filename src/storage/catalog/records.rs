//! The records of a tag and of a link: what every catalogue keeps about them.
//!
//! Promises: a record that an older lanyard wrote is read; the names of the fields are those on
//! disk. Callers: the catalogues; pull, push and the retention, which read and make records.

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Tag};

/// How much of a repository there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It has held a manifest.
    Known,
    /// It holds blobs at most: a push is under way, or broke off.
    Begun,
    /// There is nothing of that name.
    Absent,
    /// It cannot be looked at now.
    Unseen,
}

/// What a tag names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TagRecord {
    /// The tag.
    #[serde(with = "tag_text")]
    pub tag: Tag,
    /// The manifest it names.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// The manifest's size in bytes.
    pub size: u64,
    /// When the tag was last found or made to name it, in seconds since 1970.
    pub updated: u64,
}

/// The link of a repository to a manifest or a blob.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LinkRecord {
    /// The manifest or blob.
    pub digest: Digest,
    /// The media type it was served or pushed with; empty for a blob, which has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    /// The manifest that it says it belongs to (image-spec, manifest.md, `subject`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// Why it is linked. On disk the field is called `origin`.
    #[serde(rename = "origin")]
    pub right: LinkRight,
    /// Since when, in seconds since 1970.
    pub created: u64,
}

impl LinkRecord {
    /// Whether the repository holds it as a manifest; a blob has no type.
    pub fn is_manifest(&self) -> bool {
        !self.media_type.is_empty()
    }

    /// Whether the repository is known to hold the digest. A manifest that names it proves
    /// nothing (S23): what another repository brought is not given out for that.
    pub fn is_held(&self) -> bool {
        match self.right {
            LinkRight::Fetched | LinkRight::Pushed => true,
            LinkRight::Named(_) => false,
        }
    }
}

/// Why a repository links a digest, and so whether it may give the content out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkRight {
    /// Upstream answered a request for it in this repository.
    Fetched,
    /// This manifest of the repository names it, or, where it is the digest itself, a client asked
    /// for it. Whether the repository holds it is not known.
    Named(Digest),
    /// A client pushed it.
    Pushed,
}

/// Tags as text; `oci` leaves the form of records to this room.
mod tag_text {
    use std::borrow::Cow;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::oci::Tag;

    pub(super) fn serialize<S: Serializer>(tag: &Tag, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(tag.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Tag, D::Error> {
        Cow::<'de, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
