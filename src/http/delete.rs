//! DELETE of `/v2/NAME/manifests/REFERENCE` and `/v2/NAME/blobs/DIGEST` (distribution-spec, "Content Management").

use actix_web::http::StatusCode;

use super::{errors::Refusal, reply::Reply, routes::Asked};
use crate::{
    names::Spelling,
    oci::{Digest, Reference},
};

/// Takes away a tag, or a manifest with every tag that names it.
pub(super) async fn manifest(
    mut asked: Asked<'_>,
    spelling: &Spelling,
    reference: &Reference,
) -> Result<Reply, Refusal> {
    let repo = asked.hosted(spelling)?;
    match reference {
        Reference::Tag(tag) => asked.face.push.delete_tag(&repo, tag.clone()).await?,
        Reference::Digest(digest) => {
            asked.entry.digest(digest);
            asked.face.push.delete_manifest(&repo, *digest).await?;
        }
    }
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

/// Takes a blob away.
pub(super) async fn blob(mut asked: Asked<'_>, spelling: &Spelling, digest: &Digest) -> Result<Reply, Refusal> {
    asked.entry.digest(digest);
    let repo = asked.hosted(spelling)?;
    asked.face.push.delete_blob(&repo, *digest).await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}
