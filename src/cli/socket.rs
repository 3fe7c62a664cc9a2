//! One request to the lanyard that runs on a data folder, over its Unix socket: HTTP/1.1 as far as
//! its own server needs it. An answer has a `Content-Length`, or comes in chunks, line by line.
//! Callers: `manage.rs`, `images.rs`, `ls.rs` and `pull/`.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::exit::{FAILED, UNAVAILABLE, fail_with};

/// The most that an answer of a known length may have: a list of every repository is far below it.
const MOST: u64 = 256 << 20;

/// The longest line of an answer, of its head and of its body.
const LONGEST_LINE: usize = 1 << 20;

/// The most lines that a head may have.
const MOST_HEADERS: usize = 100;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// Nobody listens.
    #[error("no lanyard runs on the data folder {}: start it first, or say which folder with --data-dir", .0.display())]
    NotRunning(PathBuf),
    /// This user may not.
    #[error("no permission to open {}: run this as the user that lanyard runs as, or as root", .0.display())]
    Denied(PathBuf),
    /// The path is longer than the kernel's 107 bytes.
    #[error("the path {} is too long for a socket: give data_dir a shorter one", .0.display())]
    TooLong(PathBuf),
    /// The connection broke.
    #[error("the lanyard behind {} did not answer: {source}", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl AskError {
    /// Prints why, and ends the command.
    pub(super) fn exit(&self) -> ExitCode {
        let code = match self {
            AskError::NotRunning(_) | AskError::TooLong(_) => UNAVAILABLE,
            AskError::Denied(_) | AskError::Broken { .. } => FAILED,
        };
        fail_with(code, &format!("lanyard: {self}\n"))
    }
}

/// An answer whose head has come.
pub(super) struct Answer {
    /// Its status.
    pub(super) status: u16,
    body: Body,
    path: PathBuf,
}

/// What is to come of a body.
struct Body {
    bytes: BufReader<UnixStream>,
    left: Left,
}

/// How the end of a body is known.
enum Left {
    /// So many bytes are to come.
    Length(u64),
    /// So many bytes of this chunk are to come. `None`: its head, or that of the next one.
    Chunk(Option<u64>),
    /// Nothing.
    Nothing,
}

/// Asks, and waits for as long as the answer takes. The status and the body.
pub(super) fn ask(data_dir: &Path, method: &str, target: &str) -> Result<(u16, Vec<u8>), AskError> {
    let answer = open(data_dir, method, target, &[])?;
    Ok((answer.status, answer.whole()?))
}

/// Asks with a body, and waits for the head of the answer.
pub(super) fn open(data_dir: &Path, method: &str, target: &str, json: &[u8]) -> Result<Answer, AskError> {
    let path = data_dir.join(crate::admin::SOCKET);
    let socket = UnixStream::connect(&path).map_err(|source| match source.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => AskError::NotRunning(data_dir.to_owned()),
        ErrorKind::PermissionDenied => AskError::Denied(path.clone()),
        ErrorKind::InvalidInput => AskError::TooLong(path.clone()),
        _ => AskError::Broken { path: path.clone(), source },
    })?;
    match exchange(socket, method, target, json) {
        Ok((status, body)) => Ok(Answer { status, body, path }),
        Err(source) => Err(AskError::Broken { path, source }),
    }
}

impl Answer {
    /// The whole body, of at most 256 MiB.
    pub(super) fn whole(mut self) -> Result<Vec<u8>, AskError> {
        let mut body = Vec::new();
        match self.body.by_ref().take(MOST + 1).read_to_end(&mut body) {
            Ok(_) if body.len() as u64 > MOST => Err(self.broken(invalid("an answer that is too long"))),
            Ok(_) => Ok(body),
            Err(source) => Err(self.broken(source)),
        }
    }

    /// The next line of the body, without its end; `None` after the last.
    pub(super) fn line(&mut self) -> Result<Option<String>, AskError> {
        let mut line = Vec::new();
        let read = loop {
            match self.body.byte() {
                Ok(Some(b'\n')) => break Ok(Some(())),
                Ok(Some(_)) if line.len() >= LONGEST_LINE => break Err(invalid("a line that is too long")),
                Ok(Some(byte)) => line.push(byte),
                Ok(None) if line.is_empty() => break Ok(None),
                Ok(None) => break Ok(Some(())),
                Err(source) => break Err(source),
            }
        };
        match read.and_then(|some| some.map(|()| String::from_utf8(line)).transpose().map_err(io::Error::other)) {
            Ok(line) => Ok(line),
            Err(source) => Err(self.broken(source)),
        }
    }

    /// A handle that ends the connection from another thread: this answer then ends early.
    pub(super) fn hang_up(&self) -> io::Result<impl FnOnce() + Send + use<>> {
        let socket = self.body.bytes.get_ref().try_clone()?;
        Ok(move || {
            // It may have ended by itself.
            let _ = socket.shutdown(Shutdown::Both);
        })
    }

    fn broken(&self, source: io::Error) -> AskError {
        AskError::Broken { path: self.path.clone(), source }
    }
}

impl Body {
    /// The next byte; `None` at the end.
    fn byte(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.read(&mut byte)? == 1).then_some(byte[0]))
    }

    /// Reads the head of the next chunk, or of the end.
    fn next_chunk(&mut self) -> io::Result<()> {
        let head = line(&mut self.bytes)?;
        let digits = head.split(';').next().unwrap_or_default().trim();
        let length = u64::from_str_radix(digits, 16).map_err(|_| invalid("a chunk without its length"))?;
        self.left = match length {
            0 => {
                while !line(&mut self.bytes)?.is_empty() {}
                Left::Nothing
            }
            length => Left::Chunk(Some(length)),
        };
        Ok(())
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = match &mut self.left {
                Left::Nothing | Left::Length(0) => return Ok(0),
                Left::Length(left) | Left::Chunk(Some(left @ 1..)) => left,
                Left::Chunk(Some(0)) => {
                    if !line(&mut self.bytes)?.is_empty() {
                        return Err(invalid("a chunk longer than it says"));
                    }
                    self.left = Left::Chunk(None);
                    continue;
                }
                Left::Chunk(None) => {
                    self.next_chunk()?;
                    continue;
                }
            };
            let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
            let read = self.bytes.read(&mut buffer[..most])?;
            if read == 0 && most > 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            *left -= read as u64;
            return Ok(read);
        }
    }
}

fn exchange(mut socket: UnixStream, method: &str, target: &str, json: &[u8]) -> io::Result<(u16, Body)> {
    let length = json.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: lanyard\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    // A server that refuses may close before it has read everything, and its answer says why.
    match socket.write_all(&[head.as_bytes(), json].concat()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut bytes = BufReader::new(socket);
    let first = line(&mut bytes)?;
    let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| invalid("that is no HTTP"))?;
    let mut left = None;
    for _ in 0..MOST_HEADERS {
        let header = line(&mut bytes)?;
        let Some((name, value)) = header.split_once(':') else {
            let left = left.ok_or_else(|| invalid("an answer without its length"))?;
            return Ok((status, Body { bytes, left }));
        };
        if name.eq_ignore_ascii_case("content-length") {
            left = value.trim().parse().ok().filter(|length| *length <= MOST).map(Left::Length);
        }
        if name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked") {
            left = Some(Left::Chunk(None));
        }
    }
    Err(invalid("an answer with too many headers"))
}

/// A line of a head, without its end.
fn line(bytes: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    bytes.take(LONGEST_LINE as u64).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(text) => Ok(text.trim_end_matches('\r').to_owned()),
        None if line.len() >= LONGEST_LINE => Err(invalid("a line that is too long")),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// The status and the lines of an answer, or why there is none.
    fn asked(answer: &str) -> Result<(u16, Vec<String>), String> {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(crate::admin::SOCKET)).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let (mut socket, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let read = socket.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                assert!(request.ends_with("Content-Length: 2\r\n\r\n{}"), "{request:?}");
                socket.write_all(answer.as_bytes()).unwrap();
            });
            let mut answer = open(folder.path(), "POST", "/", b"{}").map_err(|error| error.to_string())?;
            let mut lines = Vec::new();
            while let Some(line) = answer.line().map_err(|error| error.to_string())? {
                lines.push(line);
            }
            Ok((answer.status, lines))
        })
    }

    #[test]
    fn lines_come_with_a_length_or_in_chunks() {
        let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        for (answer, lines) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\na\nbc\nd".to_owned(), &["a", "bc", "d"][..]),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(), &[]),
            (chunked("2\r\na\n\r\n3\r\nbc\n\r\n0\r\n\r\n"), &["a", "bc"]),
            (chunked("1\r\na\r\n2;x=y\r\nb\n\r\nA\r\n123456789\n\r\n0\r\nTrailer: x\r\n\r\n"), &["ab", "123456789"]),
            (chunked("3\r\na\nb\r\n0\r\n\r\n"), &["a", "b"]),
            (chunked("0\r\n\r\n"), &[]),
        ] {
            assert_eq!(
                asked(&answer).unwrap(),
                (200, lines.iter().map(|line| (*line).to_owned()).collect()),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn an_answer_that_ends_early_or_makes_no_sense_is_an_error() {
        let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let long = chunked(&format!("{:x}\r\n{}\r\n0\r\n\r\n", LONGEST_LINE + 1, "x".repeat(LONGEST_LINE + 1)));
        for answer in [
            chunked(""),
            chunked("2\r\na"),
            chunked("2\r\na\n"),
            chunked("2\r\na\n\r\n"),
            chunked("2\r\na\n\r\n0\r\n"),
            chunked("2\r\na\nx\r\n0\r\n\r\n"),
            chunked("x\r\na\n\r\n0\r\n\r\n"),
            chunked("-1\r\na\n\r\n0\r\n\r\n"),
            long,
            "HTTP/1.1 200 OK\r\n\r\na\n".to_owned(),
            format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(MOST_HEADERS)),
        ] {
            assert!(asked(&answer).is_err(), "{:?}", answer.chars().take(100).collect::<String>());
        }
    }
}
