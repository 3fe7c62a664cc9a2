//! One line for each request, written when its answer has ended: the last byte handed to the connection, the body cut, or the
//! client gone. The metrics are counted at the same moment, so that the two agree.
//!
//! S18: the line never holds a header but `User-Agent`, and of the query only keys that lanyard knows; everything a stranger
//! wrote is escaped, so that it can neither forge a line nor drive a terminal.

use std::{
    fmt::Write,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest,
    http::{StatusCode, Version, header::USER_AGENT},
};

use bytes::Bytes;

use crate::{
    http::{
        query::Query,
        transport::{
            framing::Coming,
            loads::Load,
            pipeline::EXPECT,
            plane::Item,
            traffic::{Busy, Traffic},
        },
    },
    metrics::{Answered, Metrics},
    oci::{Digest, Repository},
    pull::{Giving, Trace},
};

/// The longest path and user agent that are written, in characters.
pub(crate) const LONGEST: usize = 512;
const LONGEST_AGENT: usize = 200;

/// What is known of a request so far. Dropping it writes the line.
pub(crate) struct Entry {
    request: HttpRequest,
    metrics: Arc<Metrics>,
    started: Instant,
    kind: &'static str,
    user: Option<String>,
    repo: Option<Repository>,
    digest: Option<Digest>,
    status: Option<StatusCode>,
    trace: Option<Trace>,
    /// Body bytes that belong to the answer, and those handed over.
    expected: u64,
    sent: u64,
    cut: bool,
    /// What the answer holds in memory, if that is more than a few bytes.
    load: Option<Load>,
    /// Tells the connection that it is not idle.
    busy: Option<Busy>,
    /// The blob that the answer brings, for whoever wants to know how much of it went out.
    giving: Option<Box<Giving>>,
    /// All of it has gone out, or is about to, and that was said.
    given: bool,
    /// Its file could not be read to the end.
    unreadable: bool,
}

impl Entry {
    /// A request's head has arrived.
    pub(crate) fn new(request: &HttpRequest, metrics: &Arc<Metrics>) -> Self {
        metrics.request_began();
        let traffic = request.conn_data::<Rc<Traffic>>();
        Entry {
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
            load: None,
            busy: traffic.map(|traffic| {
                let coming = Coming::of(request);
                Busy::new(traffic, coming, coming.has_body() && waits(request))
            }),
            giving: None,
            given: false,
            unreadable: false,
        }
    }

    /// When the head was there.
    pub(crate) fn began(&self) -> Instant {
        self.started
    }

    /// The path has been understood.
    pub(crate) fn kind(&mut self, kind: &'static str) {
        self.kind = kind;
    }

    /// Who asks, if they signed in.
    pub(crate) fn by(&mut self, user: Option<&str>) {
        self.user = user.map(|user| escaped(user, LONGEST_AGENT));
    }

    /// The repository it means.
    pub(crate) fn about(&mut self, repository: &Repository) {
        self.repo = Some(repository.clone());
    }

    /// The content that is asked for, or was found under a tag.
    pub(crate) fn digest(&mut self, digest: &Digest) {
        self.digest = Some(*digest);
    }

    /// The head is decided; `expected` body bytes will follow. True where the connection ends with
    /// them.
    pub(crate) fn answered(&mut self, status: StatusCode, trace: Option<Trace>, expected: u64) -> bool {
        (self.status, self.trace, self.expected) = (Some(status), trace, expected);
        self.busy.as_ref().is_some_and(Busy::answered)
    }

    /// So many bytes more were handed over.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.completes(bytes);
        self.sent += bytes;
    }

    /// Counts bytes that the answer will hold in memory. False: all answers together hold too many.
    pub(crate) fn carries(&mut self, bytes: &Bytes) -> bool {
        if let (None, Some(busy)) = (&self.load, &self.busy) {
            self.load = busy.load(bytes);
            return self.load.is_some();
        }
        true
    }

    /// Whether there is a connection to hand over to.
    pub(crate) fn is_connected(&self) -> bool {
        self.busy.is_some()
    }

    /// So many bytes more are about to go out. A client that has the last of them may ask again
    /// before this entry ends, so whoever wants to know is told before.
    fn completes(&mut self, bytes: u64) {
        if !self.given
            && self.sent + bytes >= self.expected
            && let Some(giving) = &self.giving
        {
            giving.ends(self.expected);
            self.given = true;
        }
    }

    /// Whether the answer's body is a blob, or some of one, and so many bytes are the rest of it.
    pub(crate) fn is_rest_of_blob(&self, bytes: u64) -> bool {
        self.giving.is_some() && self.sent + bytes >= self.expected
    }

    /// The answer's body is a blob, or some of one.
    pub(crate) fn gives(&mut self, giving: Giving) {
        self.giving = Some(Box::new(giving));
    }

    /// The file of the body could not be read.
    pub(crate) fn unreadable(&mut self) {
        self.unreadable = true;
    }

    /// The connection sends this next. False where there is no connection.
    pub(crate) fn hand_over(&mut self, item: Item) -> bool {
        self.completes(item.length());
        self.busy.as_ref().map(|busy| busy.slot().put(item)).is_some()
    }

    /// Ready when they are sent, with how many they were, or with what is wrong with the file.
    pub(crate) fn handed_over(&self) -> Poll<Result<u64, &'static str>> {
        let ended = self.busy.as_ref().map_or(Some(Ok(0)), |busy| busy.slot().ended());
        ended.map_or(Poll::Pending, Poll::Ready)
    }

    /// They are wanted no more. What has left counts.
    pub(crate) fn take_back(&mut self) {
        self.sent += self.busy.as_ref().map_or(0, |busy| busy.slot().withdraw());
    }

    /// The body failed; the connection goes with it. False where there is no connection to tell.
    pub(crate) fn cut(&mut self) -> bool {
        self.cut = true;
        self.busy.as_ref().map(Busy::cut).is_some()
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

    fn write(&self, answered: &Answered) {
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

impl Drop for Entry {
    fn drop(&mut self) {
        let answered = Answered {
            kind: self.kind,
            status: self.status.map(|status| status.as_u16()),
            outcome: self.trace.as_ref().map(|trace| trace.outcome),
            bytes: self.sent,
            duration: self.started.elapsed(),
            aborted: !self.cut && (self.status.is_none() || !self.is_whole()),
        };
        if let Some(giving) = self.giving.take() {
            giving.ended(if self.given { 0 } else { self.sent }, self.unreadable);
        }
        self.metrics.request_ended(&answered);
        self.write(&answered);
    }
}

/// Whether the client holds its body back until it is asked for. HTTP/1.0 knows no such thing.
fn waits(request: &HttpRequest) -> bool {
    request.version() == Version::HTTP_11
        && request.headers().get_all(EXPECT).any(|value| {
            let mut words = value.as_bytes().split(|byte| *byte == b',');
            words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"100-continue"))
        })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Printable ASCII as it is, the rest as escapes, at most `longest` characters of the original.
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
