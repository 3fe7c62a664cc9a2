//! The transport's errors: sentences without a URL, each of the kind by which `object_store`
//! decides whether a request is tried again.
//!
//! Callers: the connector and the bodies of its requests and answers.

use std::{error::Error, io, time::Duration};

use object_store::client::{HttpError, HttpErrorKind};

use super::error::{Plain, chain};

/// A request during which nothing moves for so long is given up.
pub(super) const STILL: Duration = Duration::from_secs(30);

/// Nothing has moved for [`STILL`].
pub(super) fn still() -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, Plain(format!("nothing came for {} s", STILL.as_secs())))
}

/// An error in the middle of a request or of its answer.
pub(super) fn broken(error: &(dyn Error + 'static)) -> HttpError {
    let hyper = chain(error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
    let is_cut = hyper.is_some_and(|error| error.is_incomplete_message() || error.is_closed() || error.is_canceled());
    let is_io = chain(error).any(|cause| cause.is::<io::Error>());
    let kind = if is_cut || is_io { HttpErrorKind::Interrupted } else { HttpErrorKind::Unknown };
    let reason = chain(error).last().map_or_else(String::new, ToString::to_string);
    HttpError::new(kind, Plain(format!("the connection broke: {reason}")))
}
