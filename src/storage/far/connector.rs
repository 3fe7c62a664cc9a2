//! HTTP for `object_store`, over hyper: HTTP/1.1, a pool of connections, and the deadlines that the
//! crate leaves to its transport.
//!
//! - A connection is there within 5 s, or its request fails (`dial.rs`).
//! - A request fails when no byte of it or of its answer has moved for [`STILL`] (`meter.rs`): a
//!   part may take minutes on a slow line.
//! - A 4xx or a redirection is an error from here (`error.rs`), but for the statuses that
//!   `object_store` has a meaning for: 404 of an object, 409, 412, and 408 and 429, which it tries
//!   again as it does 5xx. The bodies of these are replaced by what may be told of them.
//!
//! Callers: `open.rs` hands it to the stores, and they to the services that issue credentials.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Limited};
use hyper::{
    Request, Response, StatusCode,
    header::{DATE, HeaderValue, USER_AGENT},
};
use hyper_rustls::HttpsConnector;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    },
};

use super::{
    dial::Dialer,
    error::{Plain, Refusal, chain},
    failure::{STILL, broken, still},
    meter::{Movement, Received, Sent},
};
use crate::network::explain;

/// Connections that wait for a next request are closed after this time. Stores close theirs sooner
/// or later, and a request on a closed one is lost.
const IDLE: Duration = Duration::from_secs(15);

/// The most of a refusal's body that is read, in bytes.
const LONGEST_REFUSAL: usize = 64 * 1024;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("lanyard/", env!("CARGO_PKG_VERSION")));

/// What the answers of a store told beside their content.
#[derive(Debug)]
pub(super) struct Observed {
    /// In seconds; the least number: not told.
    clock_ahead: AtomicI64,
}

impl Observed {
    pub(super) fn new() -> Observed {
        Observed { clock_ahead: AtomicI64::new(i64::MIN) }
    }

    /// See [`Far::clock_ahead`](super::Far::clock_ahead).
    pub(super) fn clock_ahead(&self) -> Option<i64> {
        Some(self.clock_ahead.load(Ordering::Relaxed)).filter(|seconds| *seconds != i64::MIN)
    }

    fn note(&self, date: Option<&HeaderValue>) {
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs().try_into().ok();
        let told = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok()).and_then(seconds);
        if let (Some(told), Some(here)) = (told, seconds(SystemTime::now())) {
            let (told, here): (i64, i64) = (told, here);
            self.clock_ahead.store(told - here, Ordering::Relaxed);
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    client: Client<HttpsConnector<Dialer>, Sent>,
    observed: Arc<Observed>,
    services: Arc<AtomicUsize>,
}

/// The transport of a store, or of a service that issues credentials for it.
#[derive(Debug)]
struct Transport {
    connector: Connector,
    /// A store's builder takes a transport for credentials first, and the store's own last.
    number: usize,
}

impl Connector {
    pub(super) fn new(dialer: Dialer, mut tls: rustls::ClientConfig, observed: Arc<Observed>) -> Connector {
        // The builder fills the list of protocols. HTTP/1.1 alone needs none.
        tls.alpn_protocols.clear();
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(dialer);
        let client = Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(https);
        Connector { client, observed, services: Arc::default() }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let number = self.services.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(HttpClient::new(Transport { connector: self.clone(), number }))
    }
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if self.number == self.connector.services.load(Ordering::Relaxed) {
            return self.connector.call(request).await;
        }
        let host = request.uri().host().unwrap_or_default().to_owned();
        self.connector.call(request).await.map_err(|error| without_credentials(&host, &error))
    }
}

/// The error of a service that issues credentials.
fn without_credentials(host: &str, error: &HttpError) -> HttpError {
    let reason = chain(error).last().map_or_else(String::new, ToString::to_string);
    let what = format!("no credentials: the configuration names none, and {host} issues none: {reason}");
    HttpError::new(error.kind(), Plain(what))
}

impl Connector {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        request.headers_mut().entry(USER_AGENT).or_insert(AGENT);
        let movement = Arc::new(Movement::new());
        let request: Request<Sent> = request.map(|body| Sent::new(body, Arc::clone(&movement)));
        let answer = tokio::select! {
            answer = self.client.request(request) => answer.map_err(|error| failed(&error))?,
            () = movement.ceased(STILL) => return Err(still()),
        };
        self.observed.note(answer.headers().get(DATE));
        let (head, body) = answer.into_parts();
        let body = Received::new(body);
        if head.status.is_success() || head.status == StatusCode::NOT_MODIFIED {
            return Ok(Response::from_parts(head, HttpResponseBody::new(body)));
        }
        let words = Limited::new(body, LONGEST_REFUSAL).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let refusal = Refusal::read(head.status, &words);
        if refusal.is_missing() || !is_refusal(head.status) {
            return Ok(Response::from_parts(head, refusal.to_string().into()));
        }
        // Of this kind, nothing is tried again.
        Err(HttpError::new(HttpErrorKind::Decode, refusal))
    }
}

/// Whether an answer with this status is an error, with no meaning to `object_store`.
fn is_refusal(status: StatusCode) -> bool {
    const MEANT: [StatusCode; 4] = [
        StatusCode::CONFLICT,
        StatusCode::PRECONDITION_FAILED,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    let refused = status.is_client_error() && !MEANT.contains(&status);
    refused || status.is_redirection() && status != StatusCode::NOT_MODIFIED || status == StatusCode::NOT_IMPLEMENTED
}

/// hyper's error in words, without a URL, and of the kind that decides whether it is tried again.
fn failed(error: &hyper_util::client::legacy::Error) -> HttpError {
    if error.is_connect() {
        let reason = chain(error).last().map_or_else(String::new, ToString::to_string);
        let tls = chain(error).find_map(|cause| {
            let cause = cause.downcast_ref::<io::Error>()?;
            let is_tls = cause.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
            is_tls.then(|| explain(cause))
        });
        return HttpError::new(HttpErrorKind::Connect, Plain(format!("no connection: {}", tls.unwrap_or(reason))));
    }
    broken(error)
}
