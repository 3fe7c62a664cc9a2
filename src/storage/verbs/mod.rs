//! The verbs of [`Storage`](super::Storage), in six groups.
//!
//! Promises: those of `storage/mod.rs`; each verb has its contract and its errors in its doc.
//! Callers: pull, push, the retention, and the app.
//!
//! | group | verbs | file |
//! |---|---|---|
//! | look | what is here, by repository or by digest | `look.rs` |
//! | commit | one change of a repository, with what must hold for it | `commit.rs` |
//! | stage | content on its way in: downloads and uploads | `download.rs`, `upload.rs` |
//! | keep | holds, removals, the proof of content, the walk over all | `keep.rs` |
//! | room | reservations and counts | `room.rs` |
//! | uses | how content was used | `uses.rs` |

mod commit;
mod download;
mod keep;
mod look;
mod room;
mod upload;
mod uses;

pub use self::{
    commit::{Change, CommitError, Expectation, IfLinked, Refusal},
    download::Download,
    keep::{Unlinked, Walk},
    look::{Found, Holder, Tags},
    upload::Upload,
};
