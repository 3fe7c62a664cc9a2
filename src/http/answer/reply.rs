//! An answer before actix-web gets it: status, headers, and a body. Its length is known, except for
//! lines that are told as things happen. Handlers make it; `routes.rs` sends it.

use actix_http::ConnectionType;
use actix_web::{
    HttpResponse,
    http::{
        Method, StatusCode,
        header::{
            CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
};
use bytes::Bytes;

use crate::{
    http::answer::{
        access_log::LogEntry,
        body::{BodySource, Pieces, ReplyBody, SHARED},
        delivery::Delivery,
    },
    oci::{Digest, Outcome},
    pull::{FileRange, Piece, Trace},
};

pub(crate) const JSON: &str = "application/json";
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CACHE: HeaderName = HeaderName::from_static("x-lanyard-cache");
/// A browser must not guess the type of an answer, nor run it (S32).
const NO_SNIFF: (HeaderName, HeaderValue) = (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
const INERT: (HeaderName, HeaderValue) =
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// The number of headers that most answers have.
const HEADERS: usize = 6;
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// An answer. Made as for GET; [`Reply::send`] leaves the body out for HEAD and keeps every header.
pub(crate) struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    length: u64,
    source: BodySource,
    /// How the answer came about, for the header, the log and the metrics.
    pub(crate) trace: Option<Trace>,
}

impl Reply {
    /// An answer whose bytes are all here.
    pub(crate) fn bytes(status: StatusCode, content_type: &'static str, bytes: Bytes) -> Self {
        Reply::of_type(status, HeaderValue::from_static(content_type), bytes)
    }

    fn of_type(status: StatusCode, content_type: HeaderValue, bytes: Bytes) -> Self {
        let length = bytes.len() as u64;
        let mut headers = Vec::with_capacity(HEADERS);
        headers.push((CONTENT_TYPE, content_type));
        Reply { status, headers, length, source: BodySource::Bytes(Some(bytes)), trace: None }
    }

    /// A manifest. It keeps upstream's media type if that is a type of data: a browser would show
    /// or run another one.
    pub(crate) fn manifest(media_type: HeaderValue, bytes: Bytes) -> Self {
        Reply::of_type(StatusCode::OK, if is_data(&media_type) { media_type } else { OCTETS }, bytes)
    }

    /// The answer to a HEAD: the length of a body that is not sent.
    pub(crate) fn head(content_type: &'static str, length: u64) -> Self {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(content_type))];
        Reply { status: StatusCode::OK, headers, length, source: BodySource::Nothing, trace: None }
    }

    /// A manifest that is sent from its file.
    pub(crate) fn manifest_from(media_type: HeaderValue, file: FileRange) -> Self {
        let rest = Box::pin(futures_util::stream::empty());
        let mut reply = Reply::stream(StatusCode::OK, JSON, file.length(), Piece::File(file), rest);
        reply.headers = vec![(CONTENT_TYPE, media_type)];
        reply
    }

    /// An answer of `length` bytes in pieces, of which the first is here already.
    pub(crate) fn stream(
        status: StatusCode,
        content_type: &'static str,
        length: u64,
        first: Piece,
        rest: Pieces,
    ) -> Self {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(content_type))];
        Reply { status, headers, length, source: BodySource::Stream { first: Some(first), rest }, trace: None }
    }

    /// An answer of lines that come as things happen; how many, nobody knows.
    pub(crate) fn lines(content_type: &'static str, lines: Pieces) -> Self {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(content_type))];
        Reply { status: StatusCode::OK, headers, length: 0, source: BodySource::Lines(lines), trace: None }
    }

    /// 304: the client has the content.
    pub(crate) fn not_modified() -> Self {
        Reply::empty(StatusCode::NOT_MODIFIED)
    }

    /// An answer without a body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Reply { status, headers: Vec::new(), length: 0, source: BodySource::Bytes(None), trace: None }
    }

    /// One more header.
    pub(crate) fn header(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.push((name, value));
    }

    /// One more header, from text. A text that no header may hold is left out; lanyard formats
    /// none.
    pub(crate) fn text(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.header(name, value);
        }
    }

    /// `Docker-Content-Digest`, and the `ETag` made of the digest.
    pub(crate) fn digest(&mut self, digest: &Digest) {
        let quoted = Bytes::from(digest.quoted());
        let plain = quoted.slice(1..quoted.len() - 1);
        for (name, bytes) in [(DIGEST, plain), (ETAG, quoted)] {
            // Hex, a colon and quotes: any header may hold them.
            if let Ok(value) = HeaderValue::from_maybe_shared(bytes) {
                self.header(name, value);
            }
        }
    }

    /// Counts the bytes that the answer will hold in memory. False: all answers together would hold
    /// too many.
    pub(crate) fn fits_in_memory(&self, delivery: &mut Delivery, method: &Method) -> bool {
        match &self.source {
            BodySource::Bytes(Some(bytes)) if self.length > SHARED && *method != Method::HEAD => {
                delivery.carries(bytes)
            }
            BodySource::Bytes(_) | BodySource::Nothing | BodySource::Stream { .. } | BodySource::Lines(_) => true,
        }
    }

    /// Makes actix-web's answer, whose body owns the log entry. `registry`: the path is below
    /// `/v2/`.
    pub(crate) fn send(
        self,
        method: &Method,
        registry: bool,
        mut entry: LogEntry,
        delivery: Delivery,
    ) -> HttpResponse<ReplyBody> {
        let Reply { status, headers, length, source, trace } = self;
        let head_only = *method == Method::HEAD && status != StatusCode::NOT_MODIFIED;
        let source = if head_only { BodySource::Nothing } else { source };
        let outcome = trace.as_ref().map_or(Outcome::Bypassed, |trace| trace.outcome);
        entry.answered(status, trace, if head_only { 0 } else { length });
        let last = delivery.answered();
        // actix-http would take a pipelined HEAD for a GET and wait for the bytes, and it does not
        // see those that the connection sends: both get a stream without a size, and the length
        // from us.
        let sends = matches!(source, BodySource::Stream { .. }) || length > SHARED;
        let stream = head_only || sends;
        let mut response = HttpResponse::with_body(status, ReplyBody::new(source, length, entry, delivery));
        let out = response.headers_mut();
        out.reserve(headers.len() + 5);
        out.insert(NO_SNIFF.0, NO_SNIFF.1);
        out.insert(INERT.0, INERT.1);
        for (name, value) in headers {
            out.insert(name, value);
        }
        if registry {
            out.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
            out.insert(CACHE, HeaderValue::from_static(outcome.as_str()));
        }
        if stream {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
            response.head_mut().no_chunking(true);
        }
        if last {
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        response
    }
}

/// `application/` and a subtype.
fn is_data(media_type: &HeaderValue) -> bool {
    const DATA: &[u8] = b"application/";
    let bytes = media_type.as_bytes();
    bytes.len() > DATA.len() && bytes[..DATA.len()].eq_ignore_ascii_case(DATA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s32_only_types_of_data_are_told() {
        for (stored, told) in [
            ("application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.index.v1+json"),
            ("Application/JSON", "Application/JSON"),
            (
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
            ),
            ("text/html", "application/octet-stream"),
            ("text/html; x=application/json", "application/octet-stream"),
            ("TEXT/HTML", "application/octet-stream"),
            ("image/svg+xml", "application/octet-stream"),
            ("application/", "application/octet-stream"),
            ("application", "application/octet-stream"),
            ("applications/json", "application/octet-stream"),
            (" application/json", "application/octet-stream"),
            ("multipart/x-mixed-replace", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            let reply = Reply::manifest(HeaderValue::from_str(stored).unwrap(), Bytes::new());
            assert_eq!(reply.headers[0].1, told, "{stored}");
        }
    }
}
