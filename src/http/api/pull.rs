//! POST of `/api/v1/pull`: images are fetched, and the answer tells how it goes, one JSON object a
//! line, for as long as it takes (`admin/pull_events.rs`).

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;

use crate::{
    admin::{Admin, PullEvent, PullOrder},
    http::{
        answer::{errors::HttpError, reply::Reply},
        api::parameters::bad,
        request_body::RequestBody,
    },
    pull::Piece,
};

const LINES: &str = "application/x-ndjson";

/// The longest order, in bytes: ten thousand images have room in it.
const LONGEST: usize = 4 << 20;

/// Begins to fetch, and answers with the events. The work goes on while the client reads.
pub(super) async fn post(admin: &Arc<Admin>, mut body: RequestBody) -> Result<Reply, HttpError> {
    let text = body.whole(None, LONGEST).await?;
    let text = text.ok_or_else(|| bad(format!("the order is longer than {LONGEST} bytes")).with_status(413))?;
    let order: PullOrder = serde_json::from_slice(&text).map_err(|error| bad(format!("the order: {error}")))?;
    let events = admin.pull(&order)?;
    let lines = stream::unfold(events, |mut events| async move {
        let event = events.next().await?;
        Some((line(&event), events))
    });
    Ok(Reply::lines(LINES, Box::pin(lines)))
}

fn line(event: &PullEvent) -> Result<Piece, String> {
    let mut line = serde_json::to_vec(event).map_err(|error| error.to_string())?;
    line.push(b'\n');
    Ok(Piece::Bytes(Bytes::from(line)))
}
