//! GET and HEAD of `/v2/NAME/blobs/DIGEST` (distribution-spec, "Pulling blobs"; ranges: RFC 9110,
//! section 14).

use std::time::Duration;

use actix_web::http::{
    StatusCode,
    header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, HeaderValue},
};
use bytes::Bytes;
use futures_util::stream;

use crate::{
    http::{
        answer::{body::Pieces, conditions, errors::HttpError, multipart::Multipart, reply::Reply},
        request::RequestContext,
    },
    names::Spelling,
    oci::{Digest, ErrorCode, Outcome, RegistryError, Repository},
    pull::{BlobAnswer, BlobBody, BodyError, Piece, StillProving},
};

const OCTETS: &str = "application/octet-stream";
/// How long a HEAD of a client that is about to push waits for upstream. If upstream has the blob,
/// the client leaves it out.
const PATIENCE: Duration = Duration::from_secs(2);
/// When to ask again for a blob that is being proven.
const SOON: Duration = Duration::from_secs(5);

/// The blob, or the requested ranges of it.
pub(crate) async fn get(
    mut context: RequestContext<'_>,
    spelling: &Spelling,
    digest: &Digest,
) -> Result<Reply, HttpError> {
    context.entry.digest(digest);
    let repository = context.repository()?;
    let has_it = conditions::has_it(context.request.headers(), digest);
    let mut reply = if has_it || context.is_head() {
        // On the heap: 704 bytes that a GET does not need.
        Box::pin(sized(&context, spelling, &repository, digest, has_it)).await?
    } else {
        whole_or_part(&mut context, &repository, digest).await?
    };
    reply.digest(digest);
    reply.header(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    reply.header(CACHE_CONTROL, conditions::immutable());
    Ok(reply)
}

/// Answers with the size only, and downloads nothing. A 304 needs it too: a client that knows a
/// digest may not know whether it is in this repository.
async fn sized(
    context: &RequestContext<'_>,
    spelling: &Spelling,
    repository: &Repository,
    digest: &Digest,
    has_it: bool,
) -> Result<Reply, HttpError> {
    let pushing = context.is_head() && context.could_be_pushed_to(spelling);
    let patience = if pushing { PATIENCE } else { Duration::MAX };
    let stays = context.is_head() && context.may_push(repository).await;
    let found = tokio::time::timeout(patience, context.services.pull.blob_size(repository, digest, stays)).await;
    let head = match found {
        Ok(Ok(head)) => head,
        Ok(Err(error)) if error.is_outage() && !pushing => match context.other_holder(repository, digest).await? {
            Some(holder) => context.services.pull.blob_size(&holder, digest, false).await?,
            None => return Err(error.into()),
        },
        Ok(Err(error)) if !(pushing && error.is_outage()) => return Err(error.into()),
        Ok(Err(_)) | Err(_) => return Err(send_it(spelling)),
    };
    let mut reply = if has_it { Reply::not_modified() } else { Reply::head(OCTETS, head.size) };
    reply.trace = Some(head.trace);
    Ok(reply)
}

/// 404. A client that asks for a blob by HEAD and without a registry's name is about to push
///      (WIRE.md). If upstream cannot say whether it has the blob, the client must send it: any
///      other answer would end the push, and a push must work without the internet.
fn send_it(spelling: &Spelling) -> HttpError {
    let message = format!("{} is not hosted here, and upstream cannot be asked", spelling.name);
    RegistryError::new(ErrorCode::BlobUnknown, message).into()
}

async fn whole_or_part(
    context: &mut RequestContext<'_>,
    repository: &Repository,
    digest: &Digest,
) -> Result<Reply, HttpError> {
    let ranges = conditions::ranges(context.request.headers(), digest)?;
    let client = context.services.site.client(context.request).address.to_canonical();
    context.services.pull.look_again(client, repository, digest).await.map_err(still_proving)?;
    let answer = match context.services.pull.blob(repository, digest, ranges.as_ref()).await {
        Err(error) if error.is_outage() => match context.other_holder(repository, digest).await? {
            Some(holder) => context.services.pull.blob(&holder, digest, ranges.as_ref()).await?,
            None => return Err(error.into()),
        },
        answer => answer?,
    };
    let BlobAnswer { size, ranges, mut body, trace } = answer;
    let first = match first_piece(&mut body, size).await {
        Ok(first) => first,
        Err(error) => return Err(HttpError::before_first_byte(error, trace)),
    };
    let pull = &context.services.pull;
    let saves = trace.upstream.is_some() && !matches!(trace.outcome, Outcome::Filled | Outcome::Bypassed);
    let giving = match &ranges {
        None => pull.giving(client, digest, 0, size),
        Some(ranges) => match ranges.single() {
            Some(range) => pull.giving(client, digest, range.first, size),
            None => {
                let parts = ranges.iter().map(|range| (range.first, range.last + 1)).collect();
                pull.giving_parts(client, digest, parts, size)
            }
        },
    };
    context.delivery.gives(giving.saving(saves));
    let mut reply = match ranges {
        None => Reply::stream(StatusCode::OK, OCTETS, size, first, pieces(body)),
        Some(ranges) => match ranges.single() {
            Some(range) => {
                let (status, length) = (StatusCode::PARTIAL_CONTENT, range.length());
                let mut reply = Reply::stream(status, OCTETS, length, first, pieces(body));
                reply.text(CONTENT_RANGE, &range.to_string());
                reply
            }
            None => Multipart::new(OCTETS, ranges).reply(first, pieces(body)),
        },
    };
    reply.trace = Some(trace);
    Ok(reply)
}

fn pieces(body: BlobBody) -> Pieces {
    Box::pin(stream::unfold(body, |mut body| async move {
        let piece = body.next().await?;
        Some((piece.map_err(|error| error.to_string()), body))
    }))
}

fn still_proving(proving: StillProving) -> HttpError {
    let error = RegistryError::new(ErrorCode::Unavailable, proving.to_string());
    RegistryError { retry_after: Some(SOON), ..error }.into()
}

/// The first piece, awaited before the head is sent: a failure before it can still be answered as
/// an error.
async fn first_piece(body: &mut BlobBody, size: u64) -> Result<Piece, Option<BodyError>> {
    if size == 0 {
        return Ok(Piece::Bytes(Bytes::new()));
    }
    loop {
        match body.next().await {
            Some(Ok(piece)) if piece.length() == 0 => {}
            Some(Ok(piece)) => return Ok(piece),
            Some(Err(error)) => return Err(Some(error)),
            None => return Err(None),
        }
    }
}
