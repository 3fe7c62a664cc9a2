//! A reader that accepts only well-formed answers: each with a status line, headers, and a body of
//! exactly its length.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// An answer as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

/// Reads one answer after the other.
pub(crate) struct Reader<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(crate) fn new(stream: S) -> Self {
        Reader { stream, buffer: Vec::new() }
    }

    /// Reads more bytes; false at any end of the connection.
    async fn more(&mut self) -> bool {
        let mut space = [0; 16 << 10];
        let read = self.stream.read(&mut space).await.unwrap_or(0);
        self.buffer.extend_from_slice(&space[..read]);
        read > 0
    }

    /// All bytes up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// The next answer, interim ones included; `None` if the connection ends before its first byte.
    pub(crate) async fn answer(&mut self, method: &str) -> Result<Option<Answer>, String> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let started = !self.buffer.is_empty();
            if started && !b"HTTP/1.".starts_with(&self.buffer[..self.buffer.len().min(7)]) {
                return Err(format!("no answer begins like this: {:?}", String::from_utf8_lossy(&self.buffer)));
            }
            if !self.more().await {
                return if started { Err("it ends within a head".to_owned()) } else { Ok(None) };
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let mut answer = parse(&head)?;
        if method == "HEAD" || matches!(answer.status, 100..=199 | 204 | 304) {
            return Ok(Some(answer));
        }
        let length = answer.header("content-length").ok_or("an answer without a length")?;
        let length: usize = length.parse().map_err(|_| format!("a length of {length}"))?;
        while self.buffer.len() < length {
            if !self.more().await {
                return Err(format!("{} of {length} bytes came", self.buffer.len()));
            }
        }
        answer.body = self.buffer.drain(..length).collect();
        Ok(Some(answer))
    }
}

fn parse(head: &[u8]) -> Result<Answer, String> {
    let text = std::str::from_utf8(head).map_err(|_| "a head that is no text")?;
    let malformed = || format!("a malformed head: {text:?}");
    let mut lines = text.strip_suffix("\r\n\r\n").ok_or_else(malformed)?.split("\r\n");
    let (version, rest) = lines.next().and_then(|line| line.split_once(' ')).ok_or_else(malformed)?;
    let status = rest.get(..3).and_then(|status| status.parse().ok()).ok_or_else(malformed)?;
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err(malformed());
    }
    let header = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        is_name.then(|| (name.to_ascii_lowercase(), value.to_owned()))
    };
    let headers: Option<Vec<_>> = lines.map(header).collect();
    let answer = Answer { status, headers: headers.ok_or_else(malformed)?, body: Vec::new() };
    let count = |name: &str| answer.headers.iter().filter(|(key, _)| key == name).count();
    if count("content-length") > 1 || count("transfer-encoding") > 0 {
        return Err(malformed());
    }
    Ok(answer)
}
