//! The verbs of [`Storage`](super::Storage), in nine groups.
//!
//! Promises: those of `storage/mod.rs`; each verb has its contract and its errors in its doc.
//! Callers: pull, push, the retention, the administration, and the app.
//!
//! | group | verbs | file |
//! |---|---|---|
//! | look | what is here, by repository or by digest | `look.rs` |
//! | commit | one change of a repository, with what must hold for it | `commit.rs` |
//! | stage | content on its way in: downloads and uploads | `download.rs`, `upload.rs` |
//! | keep | holds, removals, the proof of content, the walk over all | `keep.rs` |
//! | pins | which images are kept on disk | `pins.rs` |
//! | kept | what such images need | `kept.rs` |
//! | forget | images of upstreams go, and what would go | `forget.rs` |
//! | room | reservations and counts | `room.rs` |
//! | uses | how content was used | `uses.rs` |

mod commit;
mod download;
mod forget;
mod keep;
mod kept;
mod look;
mod pins;
mod room;
mod upload;
mod uses;

pub use self::{
    commit::{Change, CommitError, Expectation, HeldCommits, IfLinked, Refusal},
    download::Download,
    forget::Prospect,
    keep::{Unlinked, Walk},
    look::{Found, Holder, Tags},
    upload::Upload,
    uses::AheadOfTime,
};
