//! Reads a request off the socket, and parses its target.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Instant;

use super::record::{Origin, find_header};
use super::wire::Wire;

/// Longest head that is read, and longest body (a token request's form).
const LIMIT: usize = 64 * 1024;

/// One parsed request.
pub struct Request {
    /// The listener it came to.
    pub origin: Origin,
    /// The client's address.
    pub peer: SocketAddr,
    /// The method as sent.
    pub method: String,
    /// The path as sent, without query.
    pub path: String,
    /// The query as sent.
    pub query: String,
    /// The header lines in their order.
    pub headers: Vec<(String, String)>,
    /// The body, for POST.
    pub body: Vec<u8>,
    /// When the head had been read.
    pub arrived: Instant,
}

impl Request {
    /// The first header with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }

    /// Every value of a key in the query, decoded.
    pub fn query_all(&self, key: &str) -> Vec<String> {
        form_values(self.query.as_bytes(), key)
    }

    /// The first value of a key in the query, decoded.
    pub fn query_one(&self, key: &str) -> Option<String> {
        self.query_all(key).into_iter().next()
    }

    /// Every value of a key in the form that was posted, decoded.
    pub fn form_all(&self, key: &str) -> Vec<String> {
        form_values(&self.body, key)
    }

    /// The user and password of Basic authentication.
    pub fn basic(&self) -> Option<(String, String)> {
        use base64::Engine;
        let value = self.header("authorization")?.strip_prefix("Basic ")?;
        let plain = base64::engine::general_purpose::STANDARD.decode(value).ok()?;
        let plain = String::from_utf8(plain).ok()?;
        plain.split_once(':').map(|(user, password)| (user.to_string(), password.to_string()))
    }

    /// Whether the client wants the connection closed after the answer.
    pub(super) fn wants_close(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

fn form_values(form: &[u8], key: &str) -> Vec<String> {
    url::form_urlencoded::parse(form).filter(|(k, _)| k == key).map(|(_, v)| v.into_owned()).collect()
}

/// The target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `/v2/`
    Ping,
    /// `/token`, or any path on the token listener.
    Token,
    /// A manifest by tag or digest.
    Manifest {
        /// The repository's name.
        repo: String,
        /// Tag or digest.
        reference: String,
    },
    /// A blob, at the registry or (then without a repository) at the CDN.
    Blob {
        /// The repository's name; empty at the CDN.
        repo: String,
        /// The digest.
        digest: String,
    },
    /// The list of tags.
    Tags {
        /// The repository's name.
        repo: String,
    },
    /// The referrers of a manifest.
    Referrers {
        /// The repository's name.
        repo: String,
        /// The subject's digest.
        digest: String,
    },
    /// Anything else.
    Unknown,
}

impl Target {
    /// Reads the target out of a path.
    pub(super) fn of(origin: Origin, path: &str) -> Target {
        match origin {
            Origin::Token => Target::Token,
            Origin::Cdn => Target::at_cdn(path),
            Origin::Registry if path == "/token" => Target::Token,
            Origin::Registry => Target::at_registry(path).unwrap_or(Target::Unknown),
        }
    }

    fn at_cdn(path: &str) -> Target {
        let mut parts = path.rsplit('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("data"), Some(hex), Some(_), Some("sha256")) => {
                Target::Blob { repo: String::new(), digest: format!("sha256:{hex}") }
            }
            _ => Target::Unknown,
        }
    }

    fn at_registry(path: &str) -> Option<Target> {
        let rest = path.strip_prefix("/v2/")?;
        if rest.is_empty() {
            return Some(Target::Ping);
        }
        if let Some(repo) = rest.strip_suffix("/tags/list") {
            return Some(Target::Tags { repo: repo.into() });
        }
        let (rest, last) = rest.rsplit_once('/')?;
        let last = last.replace("%3A", ":").replace("%3a", ":");
        let (repo, kind) = rest.rsplit_once('/')?;
        let repo = repo.to_string();
        match kind {
            "manifests" => Some(Target::Manifest { repo, reference: last }),
            "blobs" => Some(Target::Blob { repo, digest: last }),
            "referrers" => Some(Target::Referrers { repo, digest: last }),
            _ => None,
        }
    }

    /// The repository, if the target is in one.
    pub fn repo(&self) -> Option<&str> {
        match self {
            Target::Manifest { repo, .. } | Target::Tags { repo } | Target::Referrers { repo, .. } => Some(repo),
            Target::Blob { repo, .. } => (!repo.is_empty()).then_some(repo),
            Target::Ping | Target::Token | Target::Unknown => None,
        }
    }

    /// The digest, if the target is a blob.
    pub fn blob(&self) -> Option<&str> {
        match self {
            Target::Blob { digest, .. } => Some(digest),
            Target::Manifest { .. }
            | Target::Tags { .. }
            | Target::Referrers { .. }
            | Target::Ping
            | Target::Token
            | Target::Unknown => None,
        }
    }
}

/// Reads the next request. `None` when the client has closed the connection between two requests,
/// `InvalidData` when the bytes are no HTTP. `left` holds bytes that were read beyond the previous
/// request.
pub(super) fn read(
    wire: &mut Wire,
    left: &mut Vec<u8>,
    origin: Origin,
    peer: SocketAddr,
) -> io::Result<Option<Request>> {
    let end = loop {
        if let Some(at) = left.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        // The first byte of a TLS handshake, from a client that tries https first.
        if left.first() == Some(&0x16) || left.len() > LIMIT {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if !more(wire, left)? {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&left[..end]).into_owned();
    left.drain(..end);
    let arrived = Instant::now();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let method = words.next().unwrap_or_default().to_string();
    let uri = words.next().unwrap_or_default();
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_string(), value.trim().to_string()))
        .collect();
    let length: usize = find_header(&headers, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    if length > LIMIT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    while left.len() < length {
        if !more(wire, left)? {
            return Ok(None);
        }
    }
    let body = left.drain(..length).collect();
    Ok(Some(Request { origin, peer, method, path: path.into(), query: query.into(), headers, body, arrived }))
}

fn more(wire: &mut Wire, left: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 8192];
    let count = wire.read(&mut buffer)?;
    left.extend_from_slice(&buffer[..count]);
    Ok(count > 0)
}
