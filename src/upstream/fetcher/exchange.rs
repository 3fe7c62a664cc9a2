//! One job from its first hop to its last byte.
//!
//! It runs on a fetcher thread (`threads.rs`): it follows redirects, sends the head to the caller,
//! and moves the body until it is complete or its reader has gone.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use tokio::time::timeout;
use url::Url;

use super::{
    body::{self, pump},
    client::{AwcClients, Head},
    error::FetchError,
    head::BodyLength,
    job::Job,
    peer::Peer,
    redirect::Chain,
    request::{Request, Response},
};

/// A redirect's body is read up to this many bytes, so that its connection can be used again.
const SHORT_BODY: u64 = 64 * 1024;
/// A redirect's body is read for so long.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// Runs a job. Dropping the answer's receiver, or later the body, ends it and closes its
/// connection.
pub(super) async fn perform(clients: Rc<AwcClients>, job: Job) {
    let Job { peer, request, mut reply, permit, load } = job;
    let answer = tokio::select! {
        biased;
        () = reply.closed() => return,
        answer = answer(&clients, &peer, request) => answer,
    };
    match answer {
        Ok((answer, url)) => {
            let (writer, body) = body::channel();
            let response = Response { status: answer.status, headers: answer.headers.clone(), url, body };
            if reply.send(Ok(response)).is_ok() {
                pump(answer, writer, &peer.timeouts).await;
            }
        }
        Err(error) => {
            // If the caller has gone, the error is of no use.
            let _ = reply.send(Err(error));
        }
    }
    drop((permit, load));
}

/// Gets the final head, within the request's time.
async fn answer(clients: &AwcClients, peer: &Arc<Peer>, request: Request) -> Result<(Head, Url), FetchError> {
    let limit = request.head_timeout;
    let chain = Chain::new(request);
    let asked = RefCell::new(chain.host());
    match timeout(limit, follow(clients, peer, chain, &asked)).await {
        Ok(answer) => answer,
        Err(_) => Err(FetchError::Timeout { host: asked.into_inner(), what: "the head of its answer" }),
    }
}

async fn follow(
    clients: &AwcClients,
    peer: &Arc<Peer>,
    mut chain: Chain,
    asked: &RefCell<String>,
) -> Result<(Head, Url), FetchError> {
    loop {
        asked.replace(chain.host());
        peer.may_dial(&chain.host())?;
        let answer = clients.ask(peer, &chain).await;
        peer.dialled(&chain.host(), answer.as_ref().err());
        let answer = answer?;
        if !Chain::is_redirect(answer.status) {
            return Ok((answer, chain.url().clone()));
        }
        chain.follow(&answer.headers)?;
        // The result does not matter: a connection that is not read to its end is closed.
        let _ = timeout(SHORT_WAIT, skip(answer)).await;
    }
}

async fn skip(mut answer: Head) {
    if let BodyLength::Sized(length) = answer.framing
        && length > SHORT_BODY
    {
        return;
    }
    let mut skipped = 0;
    while let Some(Ok(piece)) = answer.piece().await {
        skipped += piece.len() as u64;
        if skipped > SHORT_BODY {
            return;
        }
    }
}
