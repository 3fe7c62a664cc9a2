//! An answer, from the handler's reply to the line in the access log.
//!
//! A handler makes a `Reply`; an error becomes one in `errors.rs` alone. `Reply::send` gives it to
//! actix-web as a `Body`, which carries the request's log entry and ends with it.

pub(crate) mod access_log;
pub(crate) mod body;
pub(crate) mod conditions;
pub(crate) mod delivery;
pub(crate) mod errors;
pub(crate) mod multipart;
pub(crate) mod reply;
