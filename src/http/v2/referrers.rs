//! GET and HEAD of `/v2/NAME/referrers/DIGEST` (distribution-spec, "Listing Referrers").

use actix_web::http::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderName, HeaderValue, LINK},
};

use crate::{
    http::{
        answer::{errors::HttpError, reply::Reply},
        request::RequestContext,
        v2::link,
    },
    oci::{Digest, OCI_INDEX},
    pull::Selection,
};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// An index of the manifests whose subject is `subject`, filtered by `artifactType` if the client
/// asks so. It has as many as an index can hold, or `n` of them, and a link to the others.
pub(crate) async fn get(context: RequestContext<'_>, subject: &Digest) -> Result<Reply, HttpError> {
    context.entry.digest(subject);
    let repository = context.repository()?;
    let wanted = Selection {
        artifact_type: context.query.artifact_type.clone().filter(|wanted| !wanted.is_empty()),
        last: context.query.last.clone(),
        n: context.query.n.and_then(|n| usize::try_from(n).ok()),
    };
    let filtered = wanted.artifact_type.is_some();
    let found = context.services.pull.referrers(&repository, subject, wanted).await?;
    let mut reply = Reply::bytes(StatusCode::OK, OCI_INDEX, found.index);
    reply.header(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if filtered {
        reply.header(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(last) = found.next {
        reply.text(LINK, &link::next(context.request.uri().path(), &context.query, &last));
    }
    reply.trace = Some(found.trace);
    Ok(reply)
}
