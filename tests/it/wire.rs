//! A client on a raw socket: it sees exactly the bytes that a server sent, also when they differ
//! from its promise.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// How long a single read may take. The whole time passes only when a server hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// When the first byte of the body arrived.
    pub(crate) first_byte: Option<Instant>,
}

impl Answer {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The outcome word.
    pub(crate) fn outcome(&self) -> &str {
        self.header("x-lanyard-cache").unwrap_or("none")
    }

    /// Whether all bytes came that `Content-Length` promised. A client takes such an answer for the
    /// whole.
    pub(crate) fn looks_complete(&self) -> bool {
        self.header("content-length").and_then(|n| n.parse().ok()) == Some(self.body.len())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {:?}", self.text()))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first code in an error body.
    pub(crate) fn error_code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// A connection, for tests that read at their own pace.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to 127.0.0.1.
    pub(crate) fn open(port: u16) -> Connection {
        Connection::try_open(port).expect("lanyard accepts")
    }

    /// The same where possibly no server listens.
    pub(crate) fn try_open(port: u16) -> io::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Ok(Connection { stream, buffer: Vec::new() })
    }

    /// Waits this long for each piece of an answer from now on.
    pub(crate) fn patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("lanyard reads");
    }

    /// Sends a request without a body.
    pub(crate) fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) {
        self.send(head_of(method, path, headers).as_bytes());
    }

    /// The same on a connection that may have been closed meanwhile.
    pub(crate) fn request_if_open(&mut self, method: &str, path: &str) {
        let _ = self.send_if_open(head_of(method, path, &[]).as_bytes());
    }

    /// Sends bytes as they are, on a connection that may have been closed meanwhile. Returns
    /// whether it accepted them.
    pub(crate) fn send_if_open(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Reads a head: status and headers.
    pub(crate) fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|l| l.split(' ').nth(1)).and_then(|s| s.parse().ok());
        let headers =
            lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_owned(), v.trim().to_owned())).collect();
        Ok((status.ok_or(io::ErrorKind::InvalidData)?, headers))
    }

    /// Reads up to `most` bytes of a body; fewer when the connection ends.
    pub(crate) fn read_body(&mut self, most: usize) -> Vec<u8> {
        let mut body = std::mem::take(&mut self.buffer);
        if body.len() > most {
            self.buffer = body.split_off(most);
        }
        let mut chunk = vec![0; 64 << 10];
        while body.len() < most {
            let want = chunk.len().min(most - body.len());
            match self.read(&mut chunk[..want]) {
                Ok(0) | Err(_) => break,
                Ok(n) => body.extend_from_slice(&chunk[..n]),
            }
        }
        body
    }

    /// Reads a whole answer to `method`.
    pub(crate) fn answer(&mut self, method: &str) -> io::Result<Answer> {
        let (status, headers) = self.head()?;
        let mut answer = Answer { status, headers, body: Vec::new(), first_byte: None };
        let bodyless = method == "HEAD" || matches!(status, 204 | 304);
        let length = answer.header("content-length").and_then(|n| n.parse::<usize>().ok());
        if !bodyless && length != Some(0) {
            answer.body = self.read_body(1);
            answer.first_byte = Some(Instant::now());
            let rest = length.unwrap_or(usize::MAX) - answer.body.len();
            let rest = self.read_body(rest);
            answer.body.extend(rest);
        }
        Ok(answer)
    }

    /// A signal interrupts a read that has a timeout, such as the signal of another test's child
    /// that has ended.
    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 << 10];
        let n = self.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..n]);
        Ok(n)
    }
}

/// One request on a connection of its own.
pub(crate) fn ask(port: u16, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut connection = Connection::open(port);
    let mut with_close = headers.to_vec();
    with_close.push(("Connection", "close"));
    connection.request(method, path, &with_close);
    connection.answer(method).unwrap_or_else(|e| panic!("no answer to {method} {path}: {e}"))
}

/// GET from a server that may be killed meanwhile.
pub(crate) fn try_get(port: u16, path: &str) -> io::Result<Answer> {
    let mut connection = Connection::try_open(port)?;
    connection.stream.write_all(head_of("GET", path, &[("Connection", "close")]).as_bytes())?;
    connection.answer("GET")
}

/// The text of a request up to its body.
fn head_of(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n"
}

/// One request with a body, on a connection of its own.
pub(crate) fn send(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    try_send(port, method, path, headers, body).unwrap_or_else(|e| panic!("no answer to {method} {path}: {e}"))
}

/// The same to a server that may be killed meanwhile.
pub(crate) fn try_send(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut connection = Connection::try_open(port)?;
    let length = body.len().to_string();
    let mut all = headers.to_vec();
    all.extend([("Content-Length", length.as_str()), ("Connection", "close")]);
    // A server that refuses may close before it has read everything.
    let _ = connection.stream.write_all(&[head_of(method, path, &all).as_bytes(), body].concat());
    connection.answer(method)
}

/// One request with a body over any stream. Returns the status of its answer, whose body must be
/// empty.
pub(crate) fn send_over<S: Read + Write + ?Sized>(stream: &mut S, method: &str, path: &str, body: &[u8]) -> u16 {
    let length = body.len().to_string();
    stream.write_all(&[head_of(method, path, &[("Content-Length", &length)]).as_bytes(), body].concat()).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

/// GET.
pub(crate) fn get(port: u16, path: &str) -> Answer {
    ask(port, "GET", path, &[])
}

/// HEAD.
pub(crate) fn head(port: u16, path: &str) -> Answer {
    ask(port, "HEAD", path, &[])
}

/// A blob's path.
pub(crate) fn blob(repo: &str, digest: &str) -> String {
    format!("/v2/{repo}/blobs/{digest}")
}

/// A manifest's path.
pub(crate) fn manifest(repo: &str, reference: &str) -> String {
    format!("/v2/{repo}/manifests/{reference}")
}

/// Waits until `is` returns true. All such waits of the suite have one generous patience.
pub(crate) fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < until, "it never came true that {what}");
        std::thread::yield_now();
    }
}
