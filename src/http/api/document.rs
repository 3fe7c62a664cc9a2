//! The answer of a page: one JSON document, which no proxy keeps.

use actix_web::http::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderValue},
};
use serde::Serialize;

use crate::{
    http::answer::reply::{JSON, Reply},
    oci::{ErrorCode, RegistryError},
};

/// 200 with this value.
pub(super) fn json(value: &impl Serialize) -> Result<Reply, RegistryError> {
    let text = serde_json::to_vec(value).map_err(|error| RegistryError::new(ErrorCode::Unknown, error.to_string()))?;
    let mut reply = Reply::bytes(StatusCode::OK, JSON, text.into());
    reply.header(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}
