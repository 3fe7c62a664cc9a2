//! The network of unit tests: a closure that answers requests, and a list of the requests.
//!
//! Tests build it with [`Script::new`] and look at [`Script::asked`] afterwards.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method, StatusCode, header::HeaderName};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::fetcher::{FetchError, Request, Response, ResponseBody};

/// A scripted network.
pub(super) struct Script {
    handler: Box<dyn Fn(&Request) -> Act + Send + Sync>,
    asked: Mutex<Vec<Request>>,
}

/// A script's reaction to a request.
pub(super) enum Act {
    /// Answers.
    Scripted(Scripted),
    /// Fails.
    Fail(FetchError),
    /// It never answers. The request's own head timeout ends it.
    Hang,
}

/// An answer, built up from its status.
#[derive(Default)]
pub(super) struct Scripted {
    status: u16,
    headers: Vec<(&'static str, String)>,
    url: Option<String>,
    chunks: Vec<Result<Vec<u8>, FetchError>>,
    after: Duration,
    unsized_body: bool,
}

pub(super) fn status(status: u16) -> Scripted {
    Scripted { status, ..Scripted::default() }
}

impl Scripted {
    pub(super) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// One more chunk; `Content-Length` is that of all chunks.
    pub(super) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.chunks.push(Ok(body.as_ref().to_vec()));
        self
    }

    pub(super) fn breaks_off(mut self) -> Self {
        self.chunks.push(Err(broken()));
        self
    }

    pub(super) fn without_length(mut self) -> Self {
        self.unsized_body = true;
        self
    }

    /// The answer comes from another URL, after a redirect.
    pub(super) fn from(mut self, url: &str) -> Self {
        self.url = Some(url.into());
        self
    }

    pub(super) fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    pub(super) fn reply(self) -> Act {
        Act::Scripted(self)
    }

    fn response(self, request: &Request) -> Response {
        let mut headers = HeaderMap::new();
        let length: usize = self.chunks.iter().flatten().map(Vec::len).sum();
        if !self.unsized_body && request.method != Method::HEAD {
            headers.insert("content-length", length.into());
        }
        for (name, value) in self.headers {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let (sender, chunks) = mpsc::channel(self.chunks.len().max(1));
        for chunk in self.chunks.into_iter().filter(|_| request.method != Method::HEAD) {
            sender.try_send(chunk.map(Into::into)).unwrap();
        }
        let url = self.url.map_or_else(|| request.url.clone(), |url| url.parse().unwrap());
        Response { status: StatusCode::from_u16(self.status).unwrap(), headers, url, body: ResponseBody { chunks } }
    }
}

pub(super) fn refused() -> Act {
    Act::Fail(FetchError::Connect { host: "registry.example:443".into(), reason: "connection refused".into() })
}

pub(super) fn broken() -> FetchError {
    FetchError::Broken { host: "registry.example:443".into(), reason: "reset".into() }
}

impl Script {
    pub(super) fn new(handler: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Script { handler: Box::new(handler), asked: Mutex::default() })
    }

    pub(super) async fn send(&self, request: Request) -> Result<Response, FetchError> {
        let reply = (self.handler)(&request);
        self.asked.lock().push(request.clone());
        match reply {
            Act::Scripted(answer) => {
                tokio::time::sleep(answer.after).await;
                Ok(answer.response(&request))
            }
            Act::Fail(error) => Err(error),
            Act::Hang => {
                tokio::time::sleep(request.head_timeout).await;
                Err(FetchError::Timeout { host: "registry.example:443".into(), what: "the head" })
            }
        }
    }

    /// All requests, as `METHOD path?query`.
    pub(super) fn asked(&self) -> Vec<String> {
        let line = |r: &Request| match r.url.query() {
            Some(query) => format!("{} {}?{query}", r.method, r.url.path()),
            None => format!("{} {}", r.method, r.url.path()),
        };
        self.asked.lock().iter().map(line).collect()
    }

    /// How many requests contain `part`.
    pub(super) fn count(&self, part: &str) -> usize {
        self.asked().iter().filter(|line| line.contains(part)).count()
    }

    /// All requests.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.asked.lock().clone()
    }
}
