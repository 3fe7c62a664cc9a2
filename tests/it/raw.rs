//! A client of one request per connection, on a bare socket, which shows the bytes that really
//! came.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Patience of every read; a test that exceeds it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The bytes that came, split into their parts.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status; 0 if there was no head.
    pub(crate) status: u16,
    /// Header lines, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// All bytes after the head until the connection ended.
    pub(crate) rest: Vec<u8>,
    /// Whether the connection ended by a reset.
    pub(crate) reset: bool,
}

impl Answer {
    /// A header's value, or an empty text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.rest).expect("JSON")
    }
}

/// Connects and sends a request which asks for the connection to be closed afterwards.
pub(crate) fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> TcpStream {
    let mut tcp = TcpStream::connect(address).expect("connect");
    tcp.set_read_timeout(Some(PATIENCE)).expect("timeout");
    tcp.write_all(request(method, path, headers, true).as_bytes()).expect("send");
    tcp
}

/// The text of a request.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], close: bool) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: stand-in\r\n");
    if close {
        text.push_str("Connection: close\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text
}

/// Reads until the connection ends.
pub(crate) fn finish(tcp: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    let reset = match tcp.read_to_end(&mut bytes) {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => false,
        Err(error) => panic!("read: {error}"),
    };
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Answer { status: 0, headers: vec![], rest: bytes, reset };
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|word| word.parse().ok()).unwrap_or(0);
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_string()))
        .collect();
    Answer { status, headers, rest: bytes.split_off(end + 4), reset }
}

/// One whole request.
pub(crate) fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    finish(&mut send(address, "GET", path, headers))
}

/// Splits a URL into address and path.
pub(crate) fn split(url: &str) -> (SocketAddr, String) {
    let rest = url.split_once("://").expect("a URL").1;
    let (host, path) = rest.split_once('/').expect("a path");
    (host.parse().expect("an address"), format!("/{path}"))
}
