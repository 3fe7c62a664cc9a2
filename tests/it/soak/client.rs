//! A client that keeps its connection, and reads exactly one answer at a time.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Patience of every read.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
pub(crate) struct Client(BufReader<TcpStream>);

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    location: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The path of `Location`, with its query.
    pub(crate) fn location(&self) -> &str {
        &self.location[self.location.find("/v2/").expect("a location below /v2/")..]
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.set_nodelay(true).expect("nodelay");
        Client(BufReader::new(stream))
    }

    pub(crate) fn call(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: soak\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.0.get_mut().write_all(&request).expect("send");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        let status: u16 = line.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        let (mut length, mut location) = (0, String::new());
        loop {
            line.clear();
            self.0.read_line(&mut line).expect("a head");
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().expect("a length"),
                "location" => value.clone_into(&mut location),
                _ => {}
            }
        }
        let mut body = vec![0; if method == "HEAD" || status == 204 { 0 } else { length }];
        self.0.read_exact(&mut body).expect("a body");
        Answer { status, location, body }
    }
}
