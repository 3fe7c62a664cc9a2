//! The data plane through the real binary, plain and over TLS: exact bytes under load, and a
//! certificate that is replaced.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::CertificateDer};

use crate::{
    hub::digest_of,
    lanyard::Lanyard,
    wire::{blob, eventually, send_over},
};

const REPO: &str = "team/app";
const PATIENCE: Duration = Duration::from_secs(60);

/// A client's connection, plain or secured.
trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// The way in which a test connects.
#[derive(Clone)]
struct Way {
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

impl Way {
    fn connect(&self) -> Box<dyn Wire> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match &self.tls {
            None => Box::new(stream),
            Some(config) => Box::new(StreamOwned::new(client(config), stream)),
        }
    }
}

fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap()
}

/// Writes a certificate for `localhost` into the folder. Returns the configuration of a client that
/// trusts only it.
fn certificate(folder: &Path) -> Arc<ClientConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(made.cert.der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    // A resumed session shows no certificate.
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

fn secured(folder: &Path) -> String {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    format!("mode = \"offline\"\n[tls]\ncert = {cert:?}\nkey = {key:?}\n")
}

/// Reads an answer: its status, and as much of the body as arrives.
fn answer(stream: &mut dyn Wire, head_only: bool) -> io::Result<(u16, u64, Vec<u8>)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length =
        head.split("content-length: ").nth(1).map_or(0, |rest| rest.split('\r').next().unwrap().parse().unwrap());
    let mut body = vec![0; if head_only { 0 } else { usize::try_from(length).unwrap() }];
    stream.read_exact(&mut body)?;
    Ok((status, length, body))
}

/// Sizes around pages, windows and the size of one read.
const SIZES: [usize; 7] = [1, 4_095, 4_097, 262_145, 300_000, 4 << 20, (9 << 20) + 1];

fn contents() -> Vec<Vec<u8>> {
    let noise = |size: usize| (0..size as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    SIZES.iter().map(|size| noise(*size)).collect()
}

/// Requests of every kind from eight clients at once.
fn mixed(way: &Way, all: &[Vec<u8>], requests: usize) {
    let paths: Vec<_> = all.iter().map(|bytes| blob(REPO, &digest_of(bytes))).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let (next, paths) = (&next, &paths);
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(seed);
                let mut stream = way.connect();
                while next.fetch_add(1, Ordering::Relaxed) < requests {
                    let which = rng.random_range(0..all.len());
                    one(way, &mut stream, &mut rng, &paths[which], &all[which]);
                }
            });
        }
    });
}

/// Whether a body is the bytes from `at` on, and then the byte at `single`; where both ranges name
/// the same bytes, it is one range.
fn is_two_ranges(body: &[u8], bytes: &[u8], at: usize, single: usize) -> bool {
    if single == at {
        return *body == bytes[at..];
    }
    let kind = "Content-Type: application/octet-stream";
    let head = |first: usize, last: usize| {
        format!("\r\n{kind}\r\nContent-Range: bytes {first}-{last}/{}\r\n\r\n", bytes.len()).into_bytes()
    };
    let line = body.split(|byte| *byte == b'\r').next().unwrap();
    let (first, second) = (head(at, bytes.len() - 1), head(single, single));
    let parts: [&[u8]; 10] =
        [line, &first, &bytes[at..], b"\r\n", line, &second, &bytes[single..=single], b"\r\n", line, b"--\r\n"];
    line.starts_with(b"--") && body == parts.concat()
}

fn one(way: &Way, stream: &mut Box<dyn Wire>, rng: &mut StdRng, path: &str, bytes: &[u8]) {
    let size = bytes.len();
    let ask = |method: &str, more: &str| format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    let (first, last) = {
        let (a, b) = (rng.random_range(0..size), rng.random_range(0..size));
        (a.min(b), a.max(b))
    };
    let range = format!("Range: bytes={first}-{last}\r\n");
    match rng.random_range(0..7) {
        0 => {
            stream.write_all(ask("GET", "").as_bytes()).unwrap();
            let (status, _, body) = answer(stream, false).unwrap();
            assert!(status == 200 && body == bytes, "{path}");
        }
        1 => {
            stream.write_all(ask("GET", &range).as_bytes()).unwrap();
            let (status, _, body) = answer(stream, false).unwrap();
            assert!(status == 206 && body == bytes[first..=last], "{path} {range}");
        }
        2 => {
            stream.write_all(ask("HEAD", "").as_bytes()).unwrap();
            assert_eq!(answer(stream, true).unwrap(), (200, size as u64, Vec::new()));
        }
        // Pipelined.
        3 => {
            let three = ask("GET", &range) + &ask("HEAD", "") + &ask("GET", "");
            stream.write_all(three.as_bytes()).unwrap();
            assert!(answer(stream, false).unwrap().2 == bytes[first..=last], "{path} {range}");
            assert_eq!(answer(stream, true).unwrap().1, size as u64);
            assert!(answer(stream, false).unwrap().2 == bytes, "{path}");
        }
        // Aborted.
        4 => {
            stream.write_all(ask("GET", "").as_bytes()).unwrap();
            let mut some = vec![0; rng.random_range(0..100)];
            let _ = stream.read_exact(&mut some);
            *stream = way.connect();
        }
        5 => {
            let range = format!("Range: bytes={last}-,{first}-{first}\r\n");
            stream.write_all(ask("GET", &range).as_bytes()).unwrap();
            let (status, _, body) = answer(stream, false).unwrap();
            assert!(status == 206 && is_two_ranges(&body, bytes, last, first), "{path} {range}");
        }
        // Slow: a piece at a time, on a connection of its own.
        _ => {
            let mut slow = way.connect();
            slow.write_all(ask("GET", "Connection: close\r\n").as_bytes()).unwrap();
            let mut whole = Vec::new();
            let mut piece = vec![0; 1 + size / 7];
            loop {
                let read = slow.read(&mut piece).unwrap();
                if read == 0 {
                    break;
                }
                whole.extend_from_slice(&piece[..read]);
                std::thread::yield_now();
            }
            assert!(whole.ends_with(bytes), "{path}");
        }
    }
}

#[test]
fn a_thousand_mixed_requests_bring_the_exact_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let trust = certificate(folder.path());
    for (config, tls) in [("mode = \"offline\"\n".to_owned(), None), (secured(folder.path()), Some(trust))] {
        let lanyard = Lanyard::start(&config);
        let way = Way { port: lanyard.port(), tls };
        let all = contents();
        for bytes in &all {
            let path = format!("/v2/{REPO}/blobs/uploads/?digest={}", digest_of(bytes));
            assert_eq!(send_over(&mut *way.connect(), "POST", &path, bytes), 201);
        }
        mixed(&way, &all, 1_000);
        assert!(!lanyard.logs().contains("panicked at"), "a panic");
    }
}

/// New files are used for new connections; open connections continue.
#[test]
fn a_certificate_is_replaced_without_dropping_connections() {
    let folder = tempfile::tempdir().unwrap();
    let first = certificate(folder.path());
    let lanyard = Lanyard::start(&secured(folder.path()));
    let old = Way { port: lanyard.port(), tls: Some(first) };
    let mut kept = old.connect();
    let ping = |stream: &mut dyn Wire| -> io::Result<u16> {
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        answer(stream, false).map(|(status, ..)| status)
    };
    assert_eq!(ping(&mut *kept).unwrap(), 200);
    fs::write(folder.path().join("cert.pem"), "half a change").unwrap();
    let new = Way { port: lanyard.port(), tls: Some(certificate(folder.path())) };
    assert_eq!(
        ping(&mut *old.connect()).ok().or(ping(&mut *new.connect()).ok()),
        Some(200),
        "one of them always works"
    );
    eventually("the new certificate is shown", || ping(&mut *new.connect()).is_ok());
    assert!(ping(&mut *old.connect()).is_err(), "the old one is not shown any more");
    assert_eq!(ping(&mut *kept).unwrap(), 200, "a connection outlives its certificate");
}

/// A client whose download has begun gets all of it when lanyard is told to stop, plain or over
/// TLS, and the connection ends in order.
#[test]
fn a_download_under_way_is_brought_to_its_end_by_a_stop() {
    // More bytes than the sockets hold.
    let bytes: Vec<u8> = (0..48 << 20_u32).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let folder = tempfile::tempdir().unwrap();
    let trust = certificate(folder.path());
    for (config, tls) in [("mode = \"offline\"\n".to_owned(), None), (secured(folder.path()), Some(trust))] {
        let mut lanyard = Lanyard::start(&config);
        let way = Way { port: lanyard.port(), tls };
        let path = format!("/v2/{REPO}/blobs/uploads/?digest={}", digest_of(&bytes));
        assert_eq!(send_over(&mut *way.connect(), "POST", &path, &bytes), 201);
        let mut stream = way.connect();
        let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", blob(REPO, &digest_of(&bytes)));
        stream.write_all(request.as_bytes()).unwrap();
        let (status, length, _) = answer(&mut *stream, true).unwrap();
        assert_eq!((status, length), (200, bytes.len() as u64));
        let host = lanyard.host();
        std::thread::scope(|scope| {
            let stopping = scope.spawn(|| lanyard.stop());
            eventually("nobody new is let in", || TcpStream::connect(&host).is_err());
            assert!(!stopping.is_finished(), "the download is waited for");
            let mut body = Vec::new();
            stream.read_to_end(&mut body).unwrap();
            assert!(body == bytes, "{} of {} bytes", body.len(), bytes.len());
            drop(stream);
            assert!(stopping.join().unwrap().success());
        });
    }
}

/// TLS ends with close_notify, which tells the end of an answer from a cut. A connection that does
/// not speak TLS is closed.
#[test]
fn tls_closes_in_order_and_lets_go_of_what_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let trust = certificate(folder.path());
    let lanyard = Lanyard::start(&secured(folder.path()));
    let stream = TcpStream::connect(lanyard.host()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(client(&trust), stream);
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut said = Vec::new();
    // Without close_notify this is the error UnexpectedEof.
    stream.read_to_end(&mut said).unwrap();
    assert!(said.ends_with(b"{}"));
    let mut plain = TcpStream::connect(lanyard.host()).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let _ = plain.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
}
