//! The fill: one download of one digest, for all clients that ask for it.
//!
//! A [`Leader`](leader::Leader) is the permit to download a digest. There is one per digest and
//! process, it is not `Clone`, and if it is dropped unsettled, the fill has failed. A [`Follower`]
//! reads the growing file at the pace of its client. The leader reports through a `watch` of
//! [`Progress`](progress::Progress): `Waiting → Streaming → Complete | Failed`, forward only.
//!
//! | part | made by | lives until |
//! |---|---|---|
//! | table entry | [`Fills::claim`] | the leader settles, after the commit (F3) |
//! | leader | the claim that finds no entry | the end of `drive`, on a task of its own (F5) |
//! | follower | every claim | the client's answer |
//! | file | the leader's `storage::Download` | the last follower's read: a rename leaves it open |
//!
//! From the caller inwards: `claim` and `list` → `drive` → `attempt` → `room`, `patience` →
//! `transfer`, the state that they share → `statements`, `queue`, `length`, `leader`. `origin` is
//! where the bytes come from.
//!
//! Invariants, each with its test (here or under `tests/it/`):
//!
//! - **F1** A byte is advertised only when a reader can read it
//!   (`advertises_only_what_is_readable`).
//! - **F2** The last byte is withheld until the digest is proven, and readers are told a length
//!   that nothing vouches for only after that (`length.rs`; `f2_*`).
//! - **F3** The commit precedes the removal from the table (`commit_precedes_removal`).
//! - **F4** There is one leader per digest and process (`one_leader_per_digest`).
//! - **F5** No client's speed or departure touches a fill (`f5_*`).
//! - **F6** A fill whose source breaks off resumes from the last good byte (`f6_*`).
//! - **F7** Every claim ends in `Complete` or `Failed` (`a_dropped_leader_has_failed`, `f7_*`).
//! - **F8** A range of a blob that is being filled is answered as soon as its bytes are here
//!   (`f8_*`) and came in this fill from the registry that was asked for it (`runs.rs`,
//!   `f8_no_range_*`).

mod attempt;
mod claim;
mod drive;
mod failure;
#[cfg(test)]
mod folder;
mod follower;
mod leader;
mod length;
mod list;
mod meter;
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
mod statements;
mod table;
mod transfer;

pub(super) use claim::{Claim, Fills};
pub use failure::FillFailure;
pub(super) use follower::{FillHead, Follower};
pub use list::FillStatus;
pub(super) use origin::{Origin, OriginBlob, OriginBytes, UpstreamRepository};
pub(super) use sources::SourceState;
pub(super) use transfer::Drive;
