//! The shapes of `/api/v1/pull`: the order, and the events of its answer, one JSON object a line.
//!
//! Each image has one event when it is begun (`resolving`), one when its manifests are here
//! (`fetching`), and one at its end: `whole` or `failed`, in a dry run `planned`. Between them are
//! events of its blobs, at most five a second for each. The last event is `end`.

use serde::{Deserialize, Serialize};

/// The order to fetch images.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullOrder {
    /// The images, as an operator writes them.
    pub images: Vec<String>,
    /// `all`, or names of platforms; none: Linux on the architecture of lanyard's machine.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// Also fetch what refers to the chosen manifests.
    #[serde(default)]
    pub referrers: bool,
    /// Only say what would be fetched.
    #[serde(default)]
    pub dry_run: bool,
    /// Pin each image that is whole, for the same platforms.
    #[serde(default)]
    pub pin: bool,
    /// Who orders it, for the pins.
    #[serde(default)]
    pub by: String,
    /// How many blobs are fetched at once; 3 if it is absent.
    pub jobs: Option<usize>,
}

/// One line of the answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum PullEvent {
    /// How far an image is.
    Image(ImageEvent),
    /// How far a blob is.
    Blob(BlobEvent),
    /// Nothing follows.
    End {
        /// How many images are not whole.
        failed: usize,
    },
}

/// How far an image is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageEvent {
    /// In full, as in `docker.io/library/nginx:latest`; as the operator wrote it if it means none.
    pub image: String,
    /// See [`ImageState`].
    pub state: ImageState,
    /// The manifest that the name means, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// How the manifest was had: an outcome word. `stale`: upstream could not be asked whether the
    /// tag has moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// How many bytes of its blobs are here.
    pub bytes: u64,
    /// How many its blobs have together; 0 before that is known.
    pub of: u64,
    /// Whether it was pinned, being whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// Why it is not whole, or could not be pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The same in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<PullCause>,
}

/// How far an image is, in a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageState {
    /// Its manifests are being got.
    Resolving,
    /// Its blobs are being got.
    Fetching,
    /// All of it is here.
    Whole,
    /// It could not be had.
    Failed,
    /// The end of a dry run.
    Planned,
}

/// Why an image is not whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullCause {
    /// There is no room to keep it.
    NoRoom,
    /// lanyard is offline, and it is not here.
    Offline,
    /// Upstream gave no answer.
    Unreachable,
    /// lanyard is stopping.
    Stopping,
    /// Trying again does not help.
    Failed,
}

impl PullCause {
    /// Whether the same order may succeed later.
    pub fn may_pass(self) -> bool {
        match self {
            PullCause::NoRoom | PullCause::Offline | PullCause::Unreachable | PullCause::Stopping => true,
            PullCause::Failed => false,
        }
    }
}

/// How far a blob is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BlobEvent {
    /// The image that needs it.
    pub image: String,
    /// Which.
    pub digest: String,
    /// `hit`, `joined` or `filled`; in a dry run what it would be.
    pub outcome: String,
    /// How many of its bytes are here.
    pub bytes: u64,
    /// Its length in bytes.
    pub of: u64,
    /// Whether this is its last event.
    pub whole: bool,
}
