//! An answer, from the handler's reply to the line in the access log.
//!
//! A handler makes a `Reply`; only `errors.rs` makes one of an error. `Reply::send` gives it to
//! actix-web as a `ReplyBody`, which owns the request's log entry and its `Delivery`, and ends with
//! them.

pub(crate) mod access_log;
pub(crate) mod body;
pub(crate) mod conditions;
pub(crate) mod delivery;
pub(crate) mod errors;
pub(crate) mod multipart;
pub(crate) mod reply;
