//! GET and HEAD of `/v2/NAME/referrers/DIGEST` (distribution-spec, "Listing Referrers").

use actix_web::http::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderName, HeaderValue},
};
use bytes::Bytes;
use serde_json::Value;

use super::{errors::Refusal, reply::Reply, routes::Asked};
use crate::oci::{Digest, ErrorCode, OCI_INDEX, RegistryError};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// An index of the manifests that are about `subject`, filtered by `artifactType` where the client asks so.
pub(super) async fn get(asked: Asked<'_>, subject: &Digest) -> Result<Reply, Refusal> {
    asked.entry.digest(subject);
    let repository = asked.repository()?;
    let found = asked.face.pull.referrers(&repository, subject).await?;
    let wanted = asked.query.artifact_type.as_deref();
    let index = match wanted {
        Some(wanted) => only(&found.index, wanted)?,
        None => found.index,
    };
    let mut reply = Reply::bytes(StatusCode::OK, OCI_INDEX, index);
    reply.header(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if wanted.is_some() {
        reply.header(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    reply.trace = Some(found.trace);
    Ok(reply)
}

/// The index with only the descriptors of one artifact type. What else it says stays as it is.
fn only(index: &[u8], wanted: &str) -> Result<Bytes, RegistryError> {
    let unreadable =
        |_| RegistryError::new(ErrorCode::Unavailable, "the referrers list is unreadable").with_status(502);
    let mut index: Value = serde_json::from_slice(index).map_err(unreadable)?;
    if let Some(manifests) = index.get_mut("manifests").and_then(Value::as_array_mut) {
        manifests.retain(|m| m.get("artifactType").and_then(Value::as_str) == Some(wanted));
    }
    Ok(index.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_by_artifact_type() {
        let index = br#"{"schemaVersion":2,"manifests":[{"artifactType":"a/b","size":1},{"artifactType":"c"},{}],"annotations":{"k":"v"}}"#;
        let filtered: Value = serde_json::from_slice(&only(index, "a/b").unwrap()).unwrap();
        let expected = serde_json::json!({
            "schemaVersion": 2, "manifests": [{ "artifactType": "a/b", "size": 1 }], "annotations": { "k": "v" }
        });
        assert_eq!(filtered, expected);
        assert_eq!(only(b"<html>", "x").unwrap_err().status, 502);
        assert!(only(b"[1]", "x").is_ok());
    }
}
