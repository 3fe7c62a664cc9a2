//! The fill: one download of one digest, whoever asks.
//!
//! A [`Leader`] is the permit to download a digest: there is one per digest and process, it is not `Clone`, and one that is
//! dropped without a word has failed. [`Follower`]s tail the growing file, each at its own pace. What the leader has to say
//! goes through a `watch` as [`progress::Progress`]: `Waiting → Streaming → Complete | Failed`, forward only.
//!
//! | part | made by | lives until |
//! |---|---|---|
//! | table entry | [`Fills::claim`] | the leader settles (complete, fail, drop); the content is committed before (F3) |
//! | leader | the claim that finds no entry | the end of `drive`, on a task that no client owns (F5) |
//! | follower | every claim | the client's answer |
//! | file | the leader's `Part` | the last follower's read: a rename does not disturb an open file |
//!
//! Invariants, each with its test (here, in `drive`, or under `tests/it/`):
//!
//! - **F1** bytes are advertised only when a reader can read them (`advertises_only_what_is_readable`).
//! - **F2** the last byte is withheld until the digest is proven; a length that nothing vouches for
//!   is told to nobody before that (`length.rs`; `f2_*`).
//! - **F3** commit precedes removal from the table (`commit_precedes_removal`).
//! - **F4** one leader per digest and process (`one_leader_per_digest`).
//! - **F5** no client's speed or departure touches a fill (`f5_*`).
//! - **F6** a broken source is resumed from the last good byte (`f6_*`).
//! - **F7** every claim ends in `Complete` or `Failed` (`a_dropped_leader_has_failed`, `f7_*`).
//! - **F8** a range of a blob being filled answers as soon as its bytes are there (`f8_*`), and the
//!   registry that was asked for it has sent them in this fill (`runs.rs`, `f8_no_range_*`).

mod attempt;
mod claim;
mod download;
mod drive;
mod failure;
#[cfg(test)]
mod folder;
mod follower;
mod leader;
mod length;
mod origin;
#[cfg(test)]
mod origin_tests;
mod pace;
mod patience;
mod progress;
mod queue;
mod retry;
mod room;
mod runs;
mod sources;
mod table;
mod words;

pub(super) use claim::{Claim, Fills};
pub(super) use download::Drive;
pub use failure::FillFailure;
pub(super) use follower::{Follower, Opened};
pub(super) use origin::{Origin, OriginBlob, OriginBytes, Source};
pub(super) use sources::Standing;
