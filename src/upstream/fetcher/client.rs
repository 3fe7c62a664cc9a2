//! awc itself: one client per upstream, scheme and thread, and one request with its answer's head.
//!
//! What is done because of how awc 3.11 behaves: redirects, timeouts and connection limits are ours
//! and are off in awc; a request that met a stale or spoiled keep-alive connection is sent once
//! more, on a fresh client; a 1xx is passed over before awc sees it (`interim.rs`). Where one comes
//! as the final answer all the same, the clients of all threads are dropped, because awc has
//! already put that connection back, and the origin's connections are used for one request each
//! from then on.

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
    dial::Dialer,
    error::FetchError,
    head::{self, Framing},
    peer::Upstream,
    redirect::Chain,
    wire::{Seen, Watch},
};

const USER_AGENT: &str = concat!("lanyard/", env!("CARGO_PKG_VERSION"));

/// The clients of one thread. Built when first needed.
#[derive(Default)]
pub(super) struct Clients(RefCell<HashMap<(u64, bool), Rc<Client>>>);

struct Client {
    awc: awc::Client,
    watch: Watch,
    generation: u64,
}

/// An answer whose head is accepted.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    /// Host and port of who answered.
    pub(super) host: String,
    response: ClientResponse,
    client: Rc<Client>,
    seen: Rc<Seen>,
}

impl Clients {
    /// One hop of a request. One that met a connection which had gone away, or bytes on it that an
    /// earlier answer had left, is sent once more, on a new connection.
    pub(super) async fn ask(&self, upstream: &Arc<Upstream>, chain: &Chain) -> Result<Answer, FetchError> {
        let seen = Rc::new(Seen::default());
        let error = match self.hop(upstream, chain, self.client(upstream, chain), &seen).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let leftover = matches!(error, FetchError::Broken { .. } | FetchError::Protocol { .. }) && seen.was_used();
        if !(leftover && (chain.method == Method::GET || chain.method == Method::HEAD)) {
            return Err(error);
        }
        // The others of this client have idled as long, or are spoiled alike. A new one has none;
        // and as nobody else knows it yet, it gets none before this request has its own.
        self.forget(upstream, chain);
        let client = build(upstream, chain);
        let answer = self.hop(upstream, chain, client.clone(), &Rc::new(Seen::default())).await?;
        if client.generation == upstream.generation() && answer.framing != Framing::Withheld {
            self.0.borrow_mut().insert(key(upstream, chain), client);
        }
        Ok(answer)
    }

    /// One request and the head of its answer, which is accepted or refused.
    async fn hop(
        &self,
        upstream: &Arc<Upstream>,
        chain: &Chain,
        client: Rc<Client>,
        seen: &Rc<Seen>,
    ) -> Result<Answer, FetchError> {
        let answer = send(upstream, chain, client, seen).await.map_err(|error| explain(error, chain.host()))?;
        self.judge(upstream, chain, answer)
    }

    fn judge(&self, upstream: &Upstream, chain: &Chain, mut answer: Answer) -> Result<Answer, FetchError> {
        let version = answer.response.version();
        match head::accept(&chain.method, answer.status, version, &answer.headers) {
            Ok(framing) => {
                // A body that is not read stays in the connection.
                let behind = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
                let unread = framing == Framing::Nothing
                    && chain.method != Method::HEAD
                    && behind.iter().any(|name| answer.headers.get(name).is_some_and(|value| value != "0"));
                if framing == Framing::Withheld || unread {
                    self.forget(upstream, chain);
                }
                answer.framing = framing;
                Ok(answer)
            }
            Err(reason) => {
                self.forget(upstream, chain);
                if answer.status.is_informational() {
                    tracing::warn!(host = answer.host, status = answer.status.as_u16(), "connections are not reused");
                    upstream.close_from_now_on(answer.host.clone());
                }
                Err(FetchError::Protocol { host: answer.host, reason: reason.to_owned() })
            }
        }
    }

    fn client(&self, upstream: &Arc<Upstream>, chain: &Chain) -> Rc<Client> {
        let generation = upstream.generation();
        let mut clients = self.0.borrow_mut();
        if let Some(client) = clients.get(&key(upstream, chain)).filter(|client| client.generation == generation) {
            return client.clone();
        }
        let client = build(upstream, chain);
        clients.insert(key(upstream, chain), client.clone());
        client
    }

    /// Closes what idles. Answers that are being read go on.
    pub(super) fn forget_all(&self) {
        self.0.borrow_mut().clear();
    }

    /// No connection that this client holds is used again. Answers that are being read go on.
    fn forget(&self, upstream: &Upstream, chain: &Chain) {
        self.0.borrow_mut().remove(&key(upstream, chain));
    }
}

/// Which client a hop is sent by.
fn key(upstream: &Upstream, chain: &Chain) -> (u64, bool) {
    (upstream.id, chain.url().scheme() == "https")
}

/// A client without connections.
fn build(upstream: &Arc<Upstream>, chain: &Chain) -> Rc<Client> {
    let (_, secure) = key(upstream, chain);
    let watch = Watch::default();
    let limits = &upstream.timeouts;
    let connector = awc::Connector::new()
        .connector(Dialer::new(upstream.clone(), secure, watch.clone()))
        // The dialler keeps its own, finer limits; this one only stands behind them.
        .timeout(limits.connect.saturating_add(limits.handshake).saturating_mul(2))
        .limit(0);
    let awc = awc::Client::builder().connector(connector).disable_timeout().disable_redirects().finish();
    Rc::new(Client { awc, watch, generation: upstream.generation() })
}

/// Sends a request and waits for the head of its answer.
async fn send(
    upstream: &Arc<Upstream>,
    chain: &Chain,
    client: Rc<Client>,
    seen: &Rc<Seen>,
) -> Result<Answer, SendRequestError> {
    let url = chain.url();
    let host = chain.host();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    // Always http: the connection that awc gets is already secure where it has to be.
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
    if upstream.closes(&host) {
        request = request.force_close();
    }
    let response = client.watch.during(seen, request.send()).await?;
    let headers = response.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let (status, framing, seen) = (response.status(), Framing::Withheld, seen.clone());
    Ok(Answer { status, headers, framing, host, response, client, seen })
}

impl Answer {
    /// The next piece of the body; `None` at its end, which is not yet proof that it is complete.
    pub(super) async fn piece(&mut self) -> Option<Result<Bytes, PayloadError>> {
        if matches!(self.framing, Framing::Nothing | Framing::Withheld) {
            return None;
        }
        let response = &mut self.response;
        let next = poll_fn(|context| Pin::new(&mut *response).poll_next(context));
        self.client.watch.during(&self.seen, next).await
    }

    /// Whether a body that ended after `delivered` bytes was complete.
    pub(super) fn is_complete(&self, delivered: u64) -> bool {
        match self.framing {
            Framing::Nothing | Framing::Withheld => true,
            Framing::Sized(length) => delivered == length,
            // awc reads no further than the last chunk. If it met the end of the stream, there was no last chunk.
            Framing::Chunked => !self.seen.has_ended(),
        }
    }
}

/// In this room's words. awc's own texts are not used where they could quote what was received or sent (S18).
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
