//! One request to the lanyard that runs on a data folder, over its Unix socket: HTTP/1.1 as far as
//! its own server needs it, which answers with a `Content-Length` always.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

/// The most that an answer may have, head and body each: a list of every repository is far below
/// it.
const MOST: u64 = 256 << 20;

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

/// Asks, and waits for as long as the answer takes. The status and the body.
pub(super) fn ask(data_dir: &Path, method: &str, target: &str) -> Result<(u16, Vec<u8>), AskError> {
    let path = data_dir.join(crate::admin::SOCKET);
    let socket = UnixStream::connect(&path).map_err(|source| match source.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => AskError::NotRunning(data_dir.to_owned()),
        ErrorKind::PermissionDenied => AskError::Denied(path.clone()),
        ErrorKind::InvalidInput => AskError::TooLong(path.clone()),
        _ => AskError::Broken { path: path.clone(), source },
    })?;
    exchange(socket, method, target).map_err(|source| AskError::Broken { path, source })
}

fn exchange(mut socket: UnixStream, method: &str, target: &str) -> io::Result<(u16, Vec<u8>)> {
    write!(socket, "{method} {target} HTTP/1.1\r\nHost: lanyard\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = BufReader::new(socket.take(2 * MOST));
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "that is no HTTP"))?;
    let mut length = None;
    loop {
        line.clear();
        answer.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse().ok(),
            Some(_) => {}
            None => break,
        }
    }
    let length = length.filter(|length| *length <= MOST);
    let length = length.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "an answer without its length"))?;
    let mut body = Vec::new();
    answer.take(length).read_to_end(&mut body)?;
    if body.len() as u64 == length { Ok((status, body)) } else { Err(ErrorKind::UnexpectedEof.into()) }
}
