//! GET and HEAD of `/v2/NAME/manifests/REFERENCE` (distribution-spec, "Pulling manifests").

use actix_web::http::header::{ACCEPT, CACHE_CONTROL, HeaderName, HeaderValue, VARY};

use bytes::Bytes;

use crate::{
    http::{
        answer::{body::SHARED, conditions, errors::HttpError, reply::Reply},
        request::RequestContext,
    },
    names::Spelling,
    oci::{Accept, Digest, ErrorCode, Reference, RegistryError, Repository},
};

/// What the tag is frozen at: a day, or the name of a lock file.
const FROZEN: HeaderName = HeaderName::from_static("x-lanyard-frozen");

/// The bytes that the reference names, exactly as upstream sent them. HEAD reads them too, so that
/// its headers are GET's; a manifest is small.
pub(crate) async fn get(
    mut context: RequestContext<'_>,
    spelling: &Spelling,
    reference: &Reference,
) -> Result<Reply, HttpError> {
    let repository = context.repository()?;
    let headers = context.request.headers();
    // A GET by digest ignores `Accept`.
    let told = matches!(reference, Reference::Tag(_)) || context.is_head();
    let lines = headers.get_all(ACCEPT).filter(|_| told);
    let accept = Accept::from_headers(lines.filter_map(|line| line.to_str().ok()));
    if context.is_head() && accept.asks_before_a_push() && context.could_be_pushed_to(spelling) {
        // A 200 would make the client send nothing, and a mirrored manifest does not become hosted
        // by that.
        let message = format!("{} is not hosted here; a push makes it so", spelling.name);
        return Err(RegistryError::new(ErrorCode::ManifestUnknown, message).into());
    }
    // A client that names a digest by HEAD may have the content and be about to push it, as oras
    // and helm are. Any answer but 404 would end the push, and a push must work without the
    // internet.
    let by_digest = matches!(reference, Reference::Digest(_));
    let may_push = context.is_head() && by_digest && context.could_be_pushed_to(spelling);
    let answer = match context.services.pull.manifest(&repository, reference, &accept).await {
        Err(error) if may_push && error.is_outage() => {
            let message = format!("{} is not hosted here, and upstream cannot be asked", spelling.name);
            return Err(RegistryError::new(ErrorCode::ManifestUnknown, message).into());
        }
        // On the heap: rare, and 104 bytes that other pulls do not need.
        Err(error) if error.is_outage() => match Box::pin(other_holder(&context, &repository, reference)).await? {
            Some(holder) => context.services.pull.manifest(&holder, reference, &accept).await?,
            None => return Err(error.into()),
        },
        answer => answer?,
    };
    context.entry.digest(&answer.digest);

    // No charset here: containers/image fails on one.
    let media_type = HeaderValue::from_str(&answer.media_type).map_err(|_| {
        RegistryError::new(ErrorCode::Unavailable, "the manifest's media type is malformed").with_status(502)
    })?;
    let mut reply = if conditions::has_it(headers, &answer.digest) {
        Reply::not_modified()
    } else {
        whole(&mut context, media_type, answer.bytes, &answer.digest).await
    };
    reply.digest(&answer.digest);
    reply.header(VARY, HeaderValue::from_static("accept"));
    reply.header(
        CACHE_CONTROL,
        match reference {
            Reference::Digest(_) => conditions::immutable(),
            Reference::Tag(_) => HeaderValue::from_static("no-cache"),
        },
    );
    if let Some(frozen) = &answer.frozen {
        reply.text(FROZEN, frozen);
    }
    reply.trace = Some(answer.trace);
    Ok(reply)
}

/// Another repository in which the client may have the same manifest. A tag has a meaning in its
/// own repository only.
async fn other_holder(
    context: &RequestContext<'_>,
    repository: &Repository,
    reference: &Reference,
) -> Result<Option<Repository>, HttpError> {
    match reference {
        Reference::Digest(digest) => Ok(context.other_holder(repository, digest).await?),
        Reference::Tag(_) => Ok(None),
    }
}

/// The manifest from memory, where all clients share one copy; from its file where clients that do
/// not read hold too many bytes.
async fn whole(context: &mut RequestContext<'_>, media_type: HeaderValue, bytes: Bytes, digest: &Digest) -> Reply {
    let length = bytes.len() as u64;
    // On the heap: rare, and 416 bytes that other manifests do not need.
    if length > SHARED
        && !context.is_head()
        && !context.delivery.carries(&bytes)
        && let Some(file) = Box::pin(context.services.pull.manifest_file(digest, length)).await
    {
        return Reply::manifest_from(media_type, file);
    }
    Reply::manifest(media_type, bytes)
}
