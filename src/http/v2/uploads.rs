//! `/v2/NAME/blobs/uploads/` (distribution-spec, "Pushing blobs").
//!
//! | method | answer |
//! |---|---|
//! | POST | 202 and the `Location`; `?digest=` with the bytes, 201; `?mount=`, 201 or 202 |
//! | POST `?digest-algorithm=` | 202; the upload is hashed by it from its first byte on |
//! | GET | 204 and the offset |
//! | PATCH | 202 for the next bytes; 416 and the offset if they do not follow |
//! | PUT `?digest=` | 201 for the last bytes, or none, and the digest of all |
//! | DELETE | 204; the upload is gone |
//!
//! A `Location` is a path in the client's own spelling of the name, so that it is right behind any
//! proxy.

use std::sync::Arc;

use actix_web::http::{
    StatusCode,
    header::{CONTENT_RANGE, HeaderName, HeaderValue, LOCATION, RANGE},
};

use crate::{
    http::{
        answer::{errors::HttpError, reply::Reply},
        request::RequestContext,
        target::base,
    },
    oci::{Digest, ErrorCode, RegistryError, Repository},
    push::{PushError, UploadId, UploadWriter},
};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// POST: begins an upload, or does all of it.
pub(crate) async fn post(mut context: RequestContext<'_>) -> Result<Reply, HttpError> {
    let repo = context.push_target()?;
    let push = Arc::clone(&context.services.push);
    let algorithm = context.query.digest_algorithm()?;
    if let Some(digest) = context.query.mount()? {
        // An invalid `from` cannot hold the blob: answer 202, as for any failed mount, and let the
        // client upload.
        let from = context.query.from.as_deref().map(|from| context.named(from, &digest)).transpose();
        if let Ok(from) = from
            && push.mount(&repo, digest, from, context.may_pull()).await?
        {
            return Ok(created(&mut context, &digest));
        }
    }
    let digest = context.query.digest()?;
    let Some(digest) = digest else {
        let id = push.begin(&repo, &context.owner(), algorithm).await?;
        return Ok(under_way(&context, StatusCode::ACCEPTED, id, 0));
    };
    // No second request can continue this upload, so it ends with this request, also where that
    // fails.
    let single = push.begin_single(&repo, digest.algorithm()).await?;
    let writing = push.open(&repo, single.id(), None).await?;
    stream_body(&mut context, writing, None).await?.finish(digest).await?;
    single.ended();
    Ok(created(&mut context, &digest))
}

/// GET: the offset.
pub(crate) async fn get(context: RequestContext<'_>, id: UploadId) -> Result<Reply, HttpError> {
    let repo = context.push_target()?;
    let offset = context.services.push.status(&repo, id).await?;
    Ok(under_way(&context, StatusCode::NO_CONTENT, id, offset))
}

/// PATCH: the next bytes.
pub(crate) async fn patch(mut context: RequestContext<'_>, id: UploadId) -> Result<Reply, HttpError> {
    let repo = context.push_target()?;
    let chunk = UploadChunk::of(&context)?;
    let writing = open(&context, &repo, id, chunk.as_ref()).await?;
    let writing = stream_body(&mut context, writing, chunk.as_ref()).await?;
    let offset = writing.park().await?;
    Ok(under_way(&context, StatusCode::ACCEPTED, id, offset))
}

/// PUT: the last bytes, if there are any, and the digest of all.
pub(crate) async fn put(mut context: RequestContext<'_>, id: UploadId) -> Result<Reply, HttpError> {
    let repo = context.push_target()?;
    let digest = context.query.digest()?.ok_or_else(|| {
        RegistryError::new(ErrorCode::DigestInvalid, "the request that ends an upload must name its digest: ?digest=…")
    })?;
    let chunk = UploadChunk::of(&context)?;
    let writing = open(&context, &repo, id, chunk.as_ref()).await?;
    writing.check_algorithm(&digest)?;
    let writing = stream_body(&mut context, writing, chunk.as_ref()).await?;
    writing.finish(digest).await?;
    Ok(created(&mut context, &digest))
}

/// DELETE: cancels the upload.
pub(crate) async fn delete(context: RequestContext<'_>, id: UploadId) -> Result<Reply, HttpError> {
    let repo = context.push_target()?;
    context.services.push.cancel(&repo, id).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// Opens the upload at the chunk's offset. 416 with the right offset where that is another.
async fn open(
    context: &RequestContext<'_>,
    repo: &Repository,
    id: UploadId,
    chunk: Option<&UploadChunk>,
) -> Result<UploadWriter, HttpError> {
    match context.services.push.open(repo, id, chunk.map(|chunk| chunk.first)).await {
        Err(error @ PushError::OutOfOrder { offset }) => {
            let mut error = HttpError::from(error);
            for (name, value) in place(context, id, offset) {
                error = error.with_header(name, value);
            }
            Err(error)
        }
        opened => Ok(opened?),
    }
}

/// Streams the body into the upload. Bytes that came before an error stay in the upload.
async fn stream_body(
    context: &mut RequestContext<'_>,
    mut writing: UploadWriter,
    chunk: Option<&UploadChunk>,
) -> Result<UploadWriter, HttpError> {
    let wrong = |came: u64, ended: bool| {
        let chunk = chunk.filter(|chunk| chunk.contradicts(came, ended))?;
        Some(wrong_size(came, chunk.length()))
    };
    if let Some(error) = context.content_length().and_then(|told| wrong(told, true)) {
        return Err(error);
    }
    let mut came = 0;
    while let Some(piece) = context.body.piece().await? {
        came += piece.len() as u64;
        if let Some(error) = wrong(came, false) {
            return Err(error);
        }
        writing.write(piece).await?;
    }
    if let Some(error) = wrong(came, true) {
        // The client is told after its bytes are safe, since it then asks for the offset.
        writing.park().await?;
        return Err(error);
    }
    Ok(writing)
}

fn wrong_size(came: u64, told: u64) -> HttpError {
    let message = format!("Content-Range announces {told} bytes, and {came} came");
    RegistryError::new(ErrorCode::SizeInvalid, message).into()
}

/// `Content-Range` of a chunk: `FIRST-LAST`, both inclusive.
struct UploadChunk {
    first: u64,
    last: u64,
}

impl UploadChunk {
    fn of(context: &RequestContext<'_>) -> Result<Option<UploadChunk>, RegistryError> {
        let Some(header) = context.request.headers().get(CONTENT_RANGE) else { return Ok(None) };
        let chunk = header.to_str().ok().and_then(UploadChunk::parse);
        chunk.map(Some).ok_or_else(|| {
            let message = "Content-Range of a chunk is FIRST-LAST, two offsets in bytes";
            RegistryError::new(ErrorCode::BlobUploadInvalid, message)
        })
    }

    /// Some clients write it as RFC 9110 has it: `bytes FIRST-LAST/TOTAL`.
    fn parse(text: &str) -> Option<UploadChunk> {
        let text = text.trim();
        let text = text.strip_prefix("bytes ").unwrap_or(text);
        let range = text.split_once('/').map_or(text, |(range, _)| range);
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
        let chunk = UploadChunk { first: number(first)?, last: number(last)? };
        (chunk.first <= chunk.last && chunk.last < u64::MAX).then_some(chunk)
    }

    fn length(&self) -> u64 {
        self.last - self.first + 1
    }

    /// Whether a body of which `came` bytes have come cannot be this chunk; `ended`: no more will
    /// come.
    fn contradicts(&self, came: u64, ended: bool) -> bool {
        came > self.length() || (ended && came < self.length())
    }
}

fn place(context: &RequestContext<'_>, id: UploadId, offset: u64) -> Vec<(HeaderName, HeaderValue)> {
    let location = format!("{}/blobs/uploads/{id}", base(context.request.uri().path()));
    // An empty upload says 0-0 too: the form has no empty range.
    let range = format!("0-{}", offset.saturating_sub(1));
    let values = [(LOCATION, location), (RANGE, range), (UPLOAD_UUID, id.to_string())];
    values.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))).collect()
}

fn under_way(context: &RequestContext<'_>, status: StatusCode, id: UploadId, offset: u64) -> Reply {
    let mut reply = Reply::empty(status);
    for (name, value) in place(context, id, offset) {
        reply.header(name, value);
    }
    reply
}

/// 201 with the blob's `Location`.
fn created(context: &mut RequestContext<'_>, digest: &Digest) -> Reply {
    context.entry.digest(digest);
    let mut reply = Reply::empty(StatusCode::CREATED);
    reply.text(LOCATION, &format!("{}/blobs/{digest}", base(context.request.uri().path())));
    reply.digest(digest);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_two_offsets() {
        let parse = |text: &str| UploadChunk::parse(text).map(|chunk| (chunk.first, chunk.last, chunk.length()));
        assert_eq!(parse("0-0"), Some((0, 0, 1)));
        assert_eq!(parse(" 5-9 "), Some((5, 9, 5)));
        assert_eq!(parse("bytes 5-9/10"), Some((5, 9, 5)));
        for bad in ["", "-", "5", "5-", "-5", "9-5", "+1-2", "0-18446744073709551615", "0-99999999999999999999", "a-b"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
