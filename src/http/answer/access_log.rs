//! One line for each request, written when its answer has ended: the last byte is handed to the
//! connection, the body is cut, or the client is gone. The metrics are counted at the same moment,
//! so that both agree. Handlers fill a [`LogEntry`] in as they learn of the request.
//!
//! S18: the line never has a header but `User-Agent`, and of the query only keys that lanyard
//! knows. Text from a client is escaped, so that it can neither forge a line nor drive a terminal.

use std::{
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest,
    http::{Method, StatusCode, header::USER_AGENT},
};

use crate::{
    http::query::Query,
    metrics::{Answered, Metrics},
    oci::{Digest, Namespace, Repository},
    pull::Trace,
};

/// The longest path and the longest user agent in a line, in characters.
pub(crate) const LONGEST: usize = 512;
const LONGEST_AGENT: usize = 200;

/// The facts of a request for its line. Dropping it writes the line.
pub(crate) struct LogEntry {
    request: HttpRequest,
    metrics: Arc<Metrics>,
    started: Instant,
    kind: &'static str,
    user: Option<String>,
    repo: Option<Repository>,
    digest: Option<Digest>,
    status: Option<StatusCode>,
    trace: Option<Trace>,
    /// The body bytes of the answer, and those handed over.
    expected: u64,
    sent: u64,
    cut: bool,
}

impl LogEntry {
    /// Begins the line of a request whose head has arrived.
    pub(crate) fn new(request: &HttpRequest, metrics: &Arc<Metrics>) -> Self {
        metrics.request_began();
        LogEntry {
            request: request.clone(),
            metrics: Arc::clone(metrics),
            started: Instant::now(),
            kind: "unknown",
            user: None,
            repo: None,
            digest: None,
            status: None,
            trace: None,
            expected: 0,
            sent: 0,
            cut: false,
        }
    }

    /// When the head had arrived.
    pub(crate) fn began(&self) -> Instant {
        self.started
    }

    /// The kind of route, as metrics name it.
    pub(crate) fn kind(&mut self, kind: &'static str) {
        self.kind = kind;
    }

    /// The user, if the client signed in.
    pub(crate) fn by(&mut self, user: Option<&str>) {
        self.user = user.map(|user| escaped(user, LONGEST_AGENT));
    }

    /// The repository that the request means.
    pub(crate) fn about(&mut self, repository: &Repository) {
        self.repo = Some(repository.clone());
    }

    /// The digest that the request names, or that its tag means.
    pub(crate) fn digest(&mut self, digest: &Digest) {
        self.digest = Some(*digest);
    }

    /// The head is decided; `expected` body bytes will follow.
    pub(crate) fn answered(&mut self, status: StatusCode, trace: Option<Trace>, expected: u64) {
        (self.status, self.trace, self.expected) = (Some(status), trace, expected);
    }

    /// `bytes` more were handed over.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// The number of body bytes of the answer.
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    /// Whether the answer is whole with `bytes` more.
    pub(crate) fn ends_with(&self, bytes: u64) -> bool {
        self.sent + bytes >= self.expected
    }

    /// The body failed, and the connection goes with it.
    pub(crate) fn cut(&mut self) {
        self.cut = true;
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.sent >= self.expected
    }

    pub(crate) fn bytes_sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn repo(&self) -> Option<&Repository> {
        self.repo.as_ref()
    }

    fn write(&self, answered: &Answered<'_>) {
        if !tracing::enabled!(target: "access", tracing::Level::INFO) {
            return;
        }
        let uri = self.request.uri();
        let query = uri.query().map(Query::known).filter(|query| !query.is_empty());
        let path = match query {
            Some(query) => escaped(&format!("{}?{query}", uri.path()), LONGEST),
            None => escaped(uri.path(), LONGEST),
        };
        let agent = self.request.headers().get(USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()));
        let client = self.request.peer_addr().map(|peer| peer.ip().to_canonical().to_string());
        tracing::info!(
            target: "access",
            method = self.request.method().as_str(),
            path,
            status = answered.status,
            user = self.user,
            repo = self.repo.as_ref().map(tracing::field::display),
            digest = self.digest.map(tracing::field::display),
            outcome = answered.outcome.map(|outcome| outcome.as_str()),
            bytes = answered.bytes,
            duration_ms = milliseconds(answered.duration),
            upstream = self.trace.as_ref().and_then(|t| t.upstream.as_ref()).map(tracing::field::display),
            upstream_ms = self.trace.as_ref().map(|t| milliseconds(t.upstream_time)),
            client,
            user_agent = agent.map(|agent| escaped(&agent, LONGEST_AGENT)),
            aborted = answered.aborted.then_some(true),
            cut = self.cut.then_some(true),
            "request"
        );
    }
}

impl Drop for LogEntry {
    fn drop(&mut self) {
        let answered = Answered {
            kind: self.kind,
            status: self.status.map(|status| status.as_u16()),
            outcome: self.trace.as_ref().map(|trace| trace.outcome),
            bytes: self.sent,
            duration: self.started.elapsed(),
            aborted: !self.cut && (self.status.is_none() || !self.is_whole()),
            upstream: self.repo.as_ref().and_then(|repo| match &repo.namespace {
                Namespace::Upstream(upstream) => Some(upstream),
                Namespace::Hosted => None,
            }),
            is_pull: self.kind == "manifest"
                && self.status == Some(StatusCode::OK)
                && self.request.method() == Method::GET,
        };
        self.metrics.request_ended(&answered);
        self.write(&answered);
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Printable ASCII as it is and the rest as escapes; at most `longest` characters of the original.
pub(crate) fn escaped(text: &str, longest: usize) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if text.len() <= longest && text.bytes().all(plain) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len().min(longest));
    for c in text.chars().take(longest) {
        if c.is_ascii_graphic() || c == ' ' {
            out.push(c);
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "{}", c.escape_default());
        }
    }
    out
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
