//! DELETE of `/v2/NAME/manifests/REFERENCE` and `/v2/NAME/blobs/DIGEST` (distribution-spec, "Content Management").

use actix_web::http::StatusCode;

use crate::{
    http::{
        answer::{errors::Refusal, reply::Reply},
        routes::Asked,
    },
    oci::{Digest, Reference},
};

/// Takes away a tag, or a manifest with every tag that names it.
pub(crate) async fn manifest(asked: Asked<'_>, reference: &Reference) -> Result<Reply, Refusal> {
    let repo = asked.repository()?;
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
pub(crate) async fn blob(asked: Asked<'_>, digest: &Digest) -> Result<Reply, Refusal> {
    asked.entry.digest(digest);
    let repo = asked.repository()?;
    asked.face.push.delete_blob(&repo, *digest).await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}
