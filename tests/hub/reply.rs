//! The answer to be sent: honest at first, and then bent by faults.

use super::body::Body;
use super::gate::{Gate, Rate};
use super::wire::Cut;

/// How the end of a body is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Content-Length, true.
    Length,
    /// Content-Length off by this much.
    LengthOff(i64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// Neither; the end of the connection ends the body.
    UntilClose,
    /// Both headers, chunked on the wire.
    Both,
}

/// The fate of the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The next request may come.
    KeepAlive,
    /// The connection is closed properly, and the head told the client so.
    Close,
    /// The connection is closed although the head promised to keep it.
    CloseUnannounced,
}

/// An answer and the way it is delivered.
#[derive(Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// All headers but those of framing.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
    /// The part of `body` that is the answer's, as start and end.
    pub(super) part: (u64, u64),
    pub(super) framing: Framing,
    pub(super) after: After,
    /// No answer is ever sent.
    pub(super) silent: bool,
    /// The connection ends before the answer.
    pub(super) drop: Option<Cut>,
    /// The answer begins only when these open.
    pub(super) hold: Vec<Gate>,
    /// These bytes are sent instead of an answer.
    pub(super) raw: Option<Vec<u8>>,
    /// Informational answers that go first.
    pub(super) interim: Vec<u16>,
    /// Only the informational answers are sent.
    pub(super) interim_only: bool,
    /// Cut within the head, after this many of its bytes.
    pub(super) cut_head: Option<(usize, Cut)>,
    /// Cut after this many bytes of the body.
    pub(super) cut: Option<(u64, Cut)>,
    /// Stop at these places in the body until the gates open.
    pub(super) stalls: Vec<(u64, Gate)>,
    /// Bytes at these places are changed.
    pub(super) flips: Vec<u64>,
    /// The rate of this answer alone.
    pub(super) rate: Option<Rate>,
}

impl Reply {
    /// An answer with a body.
    pub(super) fn new(status: u16, content_type: &str, body: impl Into<Body>) -> Reply {
        let body = body.into();
        Reply {
            status,
            headers: vec![("Content-Type".into(), content_type.into())],
            part: (0, body.len()),
            body,
            framing: Framing::Length,
            after: After::KeepAlive,
            silent: false,
            drop: None,
            hold: Vec::new(),
            raw: None,
            interim: Vec::new(),
            interim_only: false,
            cut_head: None,
            cut: None,
            stalls: Vec::new(),
            flips: Vec::new(),
            rate: None,
        }
    }

    /// An answer in JSON.
    pub(super) fn json(status: u16, value: &serde_json::Value) -> Reply {
        Reply::new(status, "application/json", value.to_string().into_bytes())
    }

    /// One error in the specification's JSON.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Reply {
        Reply::json(status, &serde_json::json!({"errors": [{"code": code, "message": message, "detail": null}]}))
    }

    /// A redirect, with the small HTML body that Go's servers send.
    pub(super) fn redirect(status: u16, location: &str) -> Reply {
        let page = format!("<a href=\"{location}\">Temporary Redirect</a>.\n\n");
        Reply::new(status, "text/html; charset=utf-8", page.into_bytes()).with("Location", location)
    }

    /// The same with one more header.
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Replaces a header, or removes it.
    pub(super) fn set_header(&mut self, name: &str, value: Option<&str>) {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        if let Some(value) = value {
            self.headers.push((name.into(), value.into()));
        }
    }

    /// Replaces the body, keeping the headers.
    pub(super) fn set_body(&mut self, body: impl Into<Body>) {
        self.body = body.into();
        self.part = (0, self.body.len());
    }

    /// The status for the records: 0 if none will be sent.
    pub(super) fn status_sent(&self) -> u16 {
        let mute = self.silent || self.drop.is_some() || self.raw.is_some() || self.interim_only;
        if mute { 0 } else { self.status }
    }

    /// How many body bytes the answer has.
    pub(super) fn len(&self) -> u64 {
        self.part.1 - self.part.0
    }

    /// The head as it goes over the wire.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let length = match self.framing {
            Framing::Length | Framing::Both => Some(self.len()),
            Framing::LengthOff(by) => Some(self.len().saturating_add_signed(by)),
            Framing::Chunked | Framing::UntilClose => None,
        };
        if let Some(length) = length {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        if self.chunked() {
            head.push_str("Transfer-Encoding: chunked\r\n");
        }
        if self.after == After::Close {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Whether the body goes out in chunks.
    pub(super) fn chunked(&self) -> bool {
        matches!(self.framing, Framing::Chunked | Framing::Both)
    }
}

/// The reason phrase of a status.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        103 => "Early Hints",
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
