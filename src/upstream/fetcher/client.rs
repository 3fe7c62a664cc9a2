//! awc itself: one client per upstream, scheme and thread, and one request with its answer's head.
//!
//! awc 3.11 needs this care:
//!
//! - Redirects, timeouts and connection limits are ours and are off in awc.
//! - A request that met a stale or spoiled keep-alive connection is sent once more, on a fresh
//!   client.
//! - A 1xx is skipped before awc sees it (`interim.rs`). If one comes as the final answer all the
//!   same, awc has already put that connection back. So the clients of all threads are dropped, and
//!   each connection to that host serves one request from then on.

use std::{cell::RefCell, collections::HashMap, future::poll_fn, pin::Pin, rc::Rc, sync::Arc};

use actix_http::error::{ParseError, PayloadError};
use awc::{
    ClientResponse,
    error::{ConnectError, SendRequestError},
};
use bytes::Bytes;
use futures_core::Stream as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{
    connection::{ConnectionNotes, Watch},
    dial::Dialer,
    error::FetchError,
    head::{self, BodyLength},
    peer::Peer,
    redirect::Chain,
};

const USER_AGENT: &str = concat!("lanyard/", env!("CARGO_PKG_VERSION"));

/// The clients of one thread, each built when it is first needed.
#[derive(Default)]
pub(super) struct AwcClients(RefCell<HashMap<(u64, bool), Rc<AwcClient>>>);

struct AwcClient {
    awc: awc::Client,
    watch: Watch,
    generation: u64,
}

/// An answer whose head is accepted.
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) framing: BodyLength,
    /// Host and port that answered.
    pub(super) host: String,
    response: ClientResponse,
    client: Rc<AwcClient>,
    notes: Rc<ConnectionNotes>,
}

impl AwcClients {
    /// Makes one hop of a request. If it met a closed connection, or bytes that an earlier answer
    /// had left there, it is sent once more on a new connection.
    pub(super) async fn ask(&self, peer: &Arc<Peer>, chain: &Chain) -> Result<Head, FetchError> {
        let notes = Rc::new(ConnectionNotes::default());
        let error = match self.hop(peer, chain, self.client(peer, chain), &notes).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let leftover = matches!(error, FetchError::Broken { .. } | FetchError::Protocol { .. }) && notes.was_used();
        if !(leftover && (chain.method == Method::GET || chain.method == Method::HEAD)) {
            return Err(error);
        }
        // The client's other connections have idled as long, or are spoiled alike. A new client has
        // none. No other request knows it yet, so it gets none before this request has its own.
        self.forget(peer, chain);
        let client = build(peer, chain);
        let answer = self.hop(peer, chain, client.clone(), &Rc::new(ConnectionNotes::default())).await?;
        if client.generation == peer.generation() && answer.framing != BodyLength::Withheld {
            self.0.borrow_mut().insert(key(peer, chain), client);
        }
        Ok(answer)
    }

    /// Sends one request and accepts or refuses the head of its answer.
    async fn hop(
        &self,
        peer: &Arc<Peer>,
        chain: &Chain,
        client: Rc<AwcClient>,
        notes: &Rc<ConnectionNotes>,
    ) -> Result<Head, FetchError> {
        let answer = send(peer, chain, client, notes).await.map_err(|error| explain(error, chain.host()))?;
        self.judge(peer, chain, answer)
    }

    fn judge(&self, peer: &Peer, chain: &Chain, mut answer: Head) -> Result<Head, FetchError> {
        let version = answer.response.version();
        match head::accept(&chain.method, answer.status, version, &answer.headers) {
            Ok(framing) => {
                // A body that is not read stays in the connection.
                let behind = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
                let unread = framing == BodyLength::Nothing
                    && chain.method != Method::HEAD
                    && behind.iter().any(|name| answer.headers.get(name).is_some_and(|value| value != "0"));
                if framing == BodyLength::Withheld || unread {
                    self.forget(peer, chain);
                }
                answer.framing = framing;
                Ok(answer)
            }
            Err(reason) => {
                self.forget(peer, chain);
                if answer.status.is_informational() {
                    tracing::warn!(host = answer.host, status = answer.status.as_u16(), "connections are not reused");
                    peer.close_from_now_on(answer.host.clone());
                }
                Err(FetchError::Protocol { host: answer.host, reason: reason.to_owned() })
            }
        }
    }

    fn client(&self, peer: &Arc<Peer>, chain: &Chain) -> Rc<AwcClient> {
        let generation = peer.generation();
        let mut clients = self.0.borrow_mut();
        if let Some(client) = clients.get(&key(peer, chain)).filter(|client| client.generation == generation) {
            return client.clone();
        }
        let client = build(peer, chain);
        clients.insert(key(peer, chain), client.clone());
        client
    }

    /// Closes idle connections. Answers that are being read go on.
    pub(super) fn forget_all(&self) {
        self.0.borrow_mut().clear();
    }

    /// Lets go of a client, so that none of its connections is used again. Answers that are being
    /// read go on.
    fn forget(&self, peer: &Peer, chain: &Chain) {
        self.0.borrow_mut().remove(&key(peer, chain));
    }
}

/// The key of the client that sends a hop.
fn key(peer: &Peer, chain: &Chain) -> (u64, bool) {
    (peer.id, chain.url().scheme() == "https")
}

/// A client without connections.
fn build(peer: &Arc<Peer>, chain: &Chain) -> Rc<AwcClient> {
    let (_, secure) = key(peer, chain);
    let watch = Watch::default();
    let limits = &peer.timeouts;
    let connector = awc::Connector::new()
        .connector(Dialer::new(peer.clone(), secure, watch.clone()))
        // The dialler keeps its own, finer limits. This one only stands behind them.
        .timeout(limits.connect.saturating_add(limits.handshake).saturating_mul(2))
        .limit(0);
    let awc = awc::Client::builder().connector(connector).disable_timeout().disable_redirects().finish();
    Rc::new(AwcClient { awc, watch, generation: peer.generation() })
}

/// Sends a request and waits for the head of its answer.
async fn send(
    peer: &Arc<Peer>,
    chain: &Chain,
    client: Rc<AwcClient>,
    notes: &Rc<ConnectionNotes>,
) -> Result<Head, SendRequestError> {
    let url = chain.url();
    let host = chain.host();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    // Always http: the connection that awc gets is already secure if it has to be.
    let mut request = client.awc.request(chain.method.clone(), format!("http://{host}{}{query}", url.path()));
    for (name, value) in &chain.headers {
        request = request.append_header((name.clone(), value.clone()));
    }
    let name = url.host_str().unwrap_or_default();
    let authority = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    request = request
        .insert_header((header::HOST, authority))
        .insert_header((header::ACCEPT_ENCODING, HeaderValue::from_static("identity")))
        .insert_header((header::USER_AGENT, HeaderValue::from_static(USER_AGENT)))
        .no_decompress();
    if peer.closes(&host) {
        request = request.force_close();
    }
    let response = client.watch.during(notes, request.send()).await?;
    let headers = response.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let (status, framing, notes) = (response.status(), BodyLength::Withheld, notes.clone());
    Ok(Head { status, headers, framing, host, response, client, notes })
}

impl Head {
    /// The next piece of the body. `None` is its end, and no proof yet that it is complete.
    pub(super) async fn piece(&mut self) -> Option<Result<Bytes, PayloadError>> {
        if matches!(self.framing, BodyLength::Nothing | BodyLength::Withheld) {
            return None;
        }
        let response = &mut self.response;
        let next = poll_fn(|context| Pin::new(&mut *response).poll_next(context));
        self.client.watch.during(&self.notes, next).await
    }

    /// Whether a body that ended after `delivered` bytes was complete.
    pub(super) fn is_complete(&self, delivered: u64) -> bool {
        match self.framing {
            BodyLength::Nothing | BodyLength::Withheld => true,
            BodyLength::Sized(length) => delivered == length,
            // awc reads no further than the last chunk. If it met the end of the stream, there was
            // no last chunk.
            BodyLength::Chunked => !self.notes.has_ended(),
        }
    }
}

/// awc's error as a [`FetchError`]. awc's own text is left out if it could quote what was received
/// or sent (S18).
fn explain(error: SendRequestError, host: String) -> FetchError {
    match error {
        SendRequestError::Connect(ConnectError::Resolver(inner)) => match inner.downcast::<FetchError>() {
            Ok(own) => *own,
            Err(_) => FetchError::Connect { host, reason: "the name cannot be resolved".into() },
        },
        SendRequestError::Connect(ConnectError::Disconnected) => {
            FetchError::Broken { host, reason: "it closed the connection without an answer".into() }
        }
        SendRequestError::Connect(ConnectError::Timeout) => FetchError::Timeout { host, what: "the connection" },
        SendRequestError::Connect(ConnectError::Io(error)) => FetchError::Connect { host, reason: error.to_string() },
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) => {
            FetchError::Broken { host, reason: error.to_string() }
        }
        SendRequestError::Response(ParseError::Incomplete) => {
            FetchError::Broken { host, reason: "the connection ended within the answer's head".into() }
        }
        SendRequestError::Response(ParseError::TooLarge) => {
            FetchError::Protocol { host, reason: "an answer head that is too large".into() }
        }
        SendRequestError::Response(_) => FetchError::Protocol { host, reason: "its answer is not HTTP".into() },
        SendRequestError::Url(_) | SendRequestError::Http(_) => {
            FetchError::Protocol { host, reason: "the URL cannot be asked over HTTP".into() }
        }
        _ => FetchError::Connect { host, reason: "the request could not be sent".into() },
    }
}
