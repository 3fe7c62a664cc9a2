//! DELETE of `/v2/NAME/manifests/REFERENCE` and `/v2/NAME/blobs/DIGEST` (distribution-spec,
//! "Content Management").

use actix_web::http::StatusCode;

use crate::{
    http::{
        answer::{errors::HttpError, reply::Reply},
        request::RequestContext,
    },
    oci::{Digest, Reference},
};

/// Removes a tag, or a manifest with every tag that names it.
pub(crate) async fn manifest(context: RequestContext<'_>, reference: &Reference) -> Result<Reply, HttpError> {
    let repo = context.repository()?;
    match reference {
        Reference::Tag(tag) => context.services.push.delete_tag(&repo, tag.clone()).await?,
        Reference::Digest(digest) => {
            context.entry.digest(digest);
            context.services.push.delete_manifest(&repo, *digest).await?;
        }
    }
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

/// Removes a blob.
pub(crate) async fn blob(context: RequestContext<'_>, digest: &Digest) -> Result<Reply, HttpError> {
    context.entry.digest(digest);
    let repo = context.repository()?;
    context.services.push.delete_blob(&repo, *digest).await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}
