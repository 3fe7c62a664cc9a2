//! GET and HEAD of `/v2/_catalog` (in the Docker Registry API, not in the specification): the
//! hosted repositories that the client may pull. Mirrored ones are not listed.

use actix_web::http::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderValue, LINK},
};
use serde_json::json;

use crate::{
    http::{
        answer::{errors::HttpError, reply, reply::Reply},
        query::MAX_PAGE,
        request::RequestContext,
        v2::link,
    },
    oci::RepositoryName,
};

/// The repositories in bytewise order, a thousand at a time unless `n` says fewer.
pub(crate) async fn list(context: RequestContext<'_>) -> Result<Reply, HttpError> {
    let n = usize::try_from(context.query.n.unwrap_or(MAX_PAGE)).unwrap_or(usize::MAX);
    let (page, more) = context.services.push.catalog(context.query.last.clone(), n, context.may_pull()).await?;
    let body = json!({ "repositories": page.iter().map(RepositoryName::as_str).collect::<Vec<_>>() });
    let mut reply = Reply::bytes(StatusCode::OK, reply::JSON, body.to_string().into());
    reply.header(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let (true, Some(last)) = (more, page.last()) {
        reply.text(LINK, &link::next(context.request.uri().path(), &context.query, last.as_str()));
    }
    Ok(reply)
}
