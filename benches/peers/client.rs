//! Clients that cost next to nothing: the kernel throws away the bytes that they receive.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    sync::Arc,
};

use rustix::net::{RecvFlags, recv};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::{
    content::{Blob, Content},
    measuring::{self, ACCEPT},
};

/// Gets a path `times` times on one connection. Returns the number of bytes of all bodies.
pub(crate) fn get(port: u16, path: &str, times: usize) -> u64 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut nowhere = nowhere();
    let mut received = 0;
    for _ in 0..times {
        stream.write_all(request_for("GET", path).as_bytes()).unwrap();
        let length = length_in(&head_of(&mut stream));
        discard(&stream, &mut nowhere, length);
        received += length;
    }
    received
}

/// The same over TLS. The first exchange, a HEAD, is decrypted and gives the length of an answer.
/// Of the answers that follow only the headers of the TLS records are read, since a client that
/// decrypts on one processor is slower than the servers.
pub(crate) fn get_tls(port: u16, path: &str, times: usize, config: &Arc<ClientConfig>) -> u64 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut connection = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
    let head = {
        let mut secured = rustls::Stream::new(&mut connection, &mut stream);
        secured.write_all(request_for("HEAD", path).as_bytes()).unwrap();
        read_head(&mut secured)
    };
    let length = length_in(&head);
    let mut nowhere = nowhere();
    for _ in 0..times {
        connection.writer().write_all(request_for("GET", path).as_bytes()).unwrap();
        connection.write_tls(&mut stream).unwrap();
        let (answer, mut came) = (head.len() as u64 + length, 0);
        while came < answer {
            let mut record = [0; 5];
            stream.read_exact(&mut record).unwrap();
            let sealed = u64::from(u16::from_be_bytes([record[3], record[4]]));
            discard(&stream, &mut nowhere, sealed);
            // RFC 8446 section 5.2: a record has one byte for its content type, and sixteen that
            // authenticate it.
            came += sealed - 17;
        }
        assert_eq!(came, answer, "HEAD and GET have different heads");
    }
    length * times as u64
}

/// TLS 1.3 with AES-128-GCM, trusting this certificate.
pub(crate) fn tls(cert: &Path) -> Arc<ClientConfig> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cert).unwrap()).unwrap();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let builder =
        ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

fn request_for(method: &str, path: &str) -> String {
    // In one write: separate pieces would wait for each other's acknowledgement.
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{ACCEPT}\r\n\r\n")
}

/// Reads the head of an answer; the body stays in the socket.
fn head_of(stream: &mut TcpStream) -> String {
    let mut space = [0; 4096];
    loop {
        let seen = stream.peek(&mut space).unwrap();
        assert!(seen > 0, "the connection was cut in the head");
        if let Some(end) = space[..seen].windows(4).position(|four| four == b"\r\n\r\n") {
            stream.read_exact(&mut space[..end + 4]).unwrap();
            return String::from_utf8_lossy(&space[..end + 4]).to_ascii_lowercase();
        }
    }
}

/// The same for a stream that cannot be peeked into.
fn read_head(stream: &mut impl io::Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "the connection was cut in the head");
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).to_ascii_lowercase()
}

fn length_in(head: &str) -> u64 {
    assert!(head.starts_with("http/1.1 200"), "{head}");
    head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse().ok()).unwrap()
}

/// A buffer that is never written, so it costs no memory.
fn nowhere() -> Vec<u8> {
    vec![0; 4 << 20]
}

/// Has the kernel drop the next `left` bytes of the stream.
fn discard(stream: &TcpStream, nowhere: &mut [u8], mut left: u64) {
    while left > 0 {
        // With MSG_TRUNC a TCP socket copies nothing, whatever length the buffer is said to have.
        // This buffer has its true length.
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(nowhere.len());
        let (_, received) = recv(stream, &mut nowhere[..most], RecvFlags::TRUNC).unwrap();
        assert!(received > 0, "the connection was cut");
        left -= received as u64;
    }
}

/// Uploads a file as docker does: POST, one PATCH, PUT.
pub(crate) fn push(port: u16, file: &Path, blob: &Blob) {
    let begun = request(port, "POST", "/v2/bench/image/blobs/uploads/", "", 0, None);
    let place = location(&begun);
    let patched = request(port, "PATCH", &place, "application/octet-stream", blob.size, Some(file));
    let place = location(&patched);
    let join = if place.contains('?') { '&' } else { '?' };
    let path = format!("{place}{join}digest={}", blob.digest);
    let put = request(port, "PUT", &path, "", 0, None);
    assert!(put.starts_with("HTTP/1.1 201"), "{put}");
}

/// PUT of bytes. Returns the status.
pub(crate) fn put(port: u16, path: &str, media_type: &str, bytes: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = head("PUT", path, media_type, bytes.len() as u64);
    stream.write_all(&[head.as_bytes(), bytes].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

fn head(method: &str, path: &str, media_type: &str, length: u64) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n"
    )
}

fn request(port: u16, method: &str, path: &str, media_type: &str, length: u64, body: Option<&Path>) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(head(method, path, media_type, length).as_bytes()).unwrap();
    if let Some(file) = body {
        io::copy(&mut File::open(file).unwrap(), &mut stream).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn location(answer: &str) -> String {
    let line = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("location:"));
    let place = line.unwrap_or_else(|| panic!("no place in {answer}")).split_once(':').unwrap().1.trim();
    place[place.find("/v2/").unwrap()..].to_owned()
}

/// Holds this many streams of a path open, each after reading a little, and calls `look` meanwhile.
/// Returns the largest figure that `look` gave.
pub(crate) fn hold(port: u16, path: &str, streams: usize, tls: bool, content: &Content, look: impl Fn() -> f64) -> f64 {
    let config = tls.then(|| self::tls(&content.cert()));
    let mut held: Vec<Box<dyn io::Read>> = Vec::new();
    for _ in 0..streams {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        match &config {
            None => {
                stream.write_all(request_for("GET", path).as_bytes()).unwrap();
                length_in(&head_of(&mut stream));
                held.push(Box::new(stream));
            }
            Some(config) => {
                let connection = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
                let mut stream = StreamOwned::new(connection, stream);
                stream.write_all(request_for("GET", path).as_bytes()).unwrap();
                length_in(&read_head(&mut stream));
                held.push(Box::new(stream));
            }
        }
    }
    let mut buffer = vec![0; 1 << 20];
    let mut most: f64 = 0.0;
    for _ in 0..5 {
        for stream in &mut held {
            assert!(stream.read(&mut buffer).unwrap() > 0);
        }
        measuring::settle();
        most = most.max(look());
    }
    most
}
