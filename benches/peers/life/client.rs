//! A client that compares every body with its digest. Unlike the clients of the other cases it
//! outlives errors, which are counted.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use lanyard::oci::{Algorithm, Digest, Hasher};

use super::upstream::REPOSITORY;
use crate::measuring::ACCEPT;

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a request for a blob came to.
pub(crate) enum Got {
    /// The whole body, and its digest is right. `first`: the time to the first byte of the body.
    Right { bytes: u64, first: Duration },
    /// Another status than 200, or the connection broke.
    Error,
    /// A body of the announced length with another digest.
    Wrong,
}

/// A connection that is opened again after an error.
pub(crate) struct Client {
    port: u16,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn new(port: u16) -> Client {
        Client { port, stream: None, buffer: vec![0; 256 << 10] }
    }

    /// The path of a blob, which all servers understand; `ns=` is for lanyard.
    pub(crate) fn path(digest: &Digest) -> String {
        format!("/v2/{REPOSITORY}/blobs/{digest}?ns={}", super::folder::NAMESPACE)
    }

    /// Gets a blob.
    pub(crate) fn get(&mut self, digest: &Digest) -> Got {
        self.exchange(digest).unwrap_or_else(|_| {
            self.stream = None;
            Got::Error
        })
    }

    fn exchange(&mut self, digest: &Digest) -> io::Result<Got> {
        let asked = Instant::now();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(("127.0.0.1", self.port))?,
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let path = Client::path(digest);
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{ACCEPT}\r\n\r\n").as_bytes())?;
        let mut filled = 0;
        let end = loop {
            filled += self.more(&mut stream, filled)?;
            if let Some(end) = self.buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length: u64 = header("content-length:").and_then(|length| length.parse().ok()).ok_or_else(broken)?;
        let closes = header("connection:") == Some("close");
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let (mut came, mut from) = (0, end);
        let mut first = (filled > end).then(|| asked.elapsed());
        while came < length {
            if filled == from {
                (filled, from) = (self.more(&mut stream, 0)?, 0);
            }
            first.get_or_insert_with(|| asked.elapsed());
            hasher.update(&self.buffer[from..filled]);
            came += (filled - from) as u64;
            from = filled;
        }
        if !closes {
            self.stream = Some(stream);
        }
        Ok(match (head.starts_with("http/1.1 200"), came == length && hasher.finish() == *digest) {
            (false, _) => Got::Error,
            (true, true) => Got::Right { bytes: came, first: first.unwrap_or_default() },
            (true, false) => Got::Wrong,
        })
    }

    /// Reads into the buffer behind what is there.
    fn more(&mut self, stream: &mut TcpStream, filled: usize) -> io::Result<usize> {
        match stream.read(&mut self.buffer[filled..])? {
            0 => Err(broken()),
            read => Ok(read),
        }
    }
}

fn broken() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

/// What many requests came to.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) bytes: u64,
    pub(crate) errors: u64,
    pub(crate) wrong: u64,
    /// Times to the first byte of a body, in milliseconds.
    pub(crate) first: Vec<f64>,
}

impl Tally {
    pub(crate) fn add(&mut self, got: &Got) {
        match got {
            Got::Right { bytes, first } => {
                self.bytes += bytes;
                self.first.push(first.as_secs_f64() * 1e3);
            }
            Got::Error => self.errors += 1,
            Got::Wrong => self.wrong += 1,
        }
    }

    pub(crate) fn join(&mut self, other: Tally) {
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.wrong += other.wrong;
        self.first.extend(other.first);
    }
}

/// Gets blobs in their order with so many clients, each of which takes the next one.
pub(crate) fn get_all<'a>(port: u16, blobs: impl Iterator<Item = &'a Digest> + Send, clients: usize) -> Tally {
    let next = parking_lot::Mutex::new(blobs);
    let work = || {
        let (mut client, mut tally) = (Client::new(port), Tally::default());
        loop {
            // The lock ends with this statement.
            let Some(digest) = next.lock().next() else { return tally };
            tally.add(&client.get(digest));
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        let mut sum = Tally::default();
        all.into_iter().for_each(|one| sum.join(one.join().unwrap()));
        sum
    })
}
