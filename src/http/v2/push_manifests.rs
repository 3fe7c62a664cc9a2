//! PUT of `/v2/NAME/manifests/REFERENCE` (distribution-spec, "Pushing manifests").

use actix_web::http::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderName, LOCATION},
};

use crate::{
    http::{
        answer::{errors::HttpError, reply::Reply},
        request::RequestContext,
        target::base,
    },
    oci::{ErrorCode, MAX_MANIFEST_BYTES, Reference, RegistryError, Tag},
    push::{ManifestPush, PushedManifest},
};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// Takes a manifest in, with the tags of the path and the query.
pub(crate) async fn put(mut context: RequestContext<'_>, reference: &Reference) -> Result<Reply, HttpError> {
    let repo = context.push_target()?;
    let tags = context.query.tags()?;
    let told = context.content_length();
    let bytes = context.body.whole(told, MAX_MANIFEST_BYTES).await?.ok_or_else(|| {
        let message = format!("a manifest has at most {MAX_MANIFEST_BYTES} bytes here");
        RegistryError::new(ErrorCode::ManifestInvalid, message).with_status(413)
    })?;
    let push = ManifestPush {
        reference: reference.clone(),
        tags: tags.clone(),
        content_type: content_type(&context),
        from_elsewhere: !context.is_here(),
        bytes,
    };
    let PushedManifest { digest, subject } =
        context.services.push.push_manifest(&repo, push, context.may_pull()).await?;
    context.entry.digest(&digest);

    let mut reply = Reply::empty(StatusCode::CREATED);
    let path = base(context.request.uri().path());
    // By digest, also where it was pushed by tag: the tag may move.
    reply.text(LOCATION, &format!("{path}/manifests/{digest}"));
    reply.digest(&digest);
    if let Some(subject) = subject {
        reply.text(OCI_SUBJECT, &subject.to_string());
    }
    if !tags.is_empty() {
        reply.text(OCI_TAG, &tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(", "));
    }
    Ok(reply)
}

/// The media type in lower case, without parameters.
fn content_type(context: &RequestContext<'_>) -> Option<String> {
    let header = context.request.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    let media_type = header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (!media_type.is_empty()).then_some(media_type)
}
