//! The room from outside: scripted servers on loopback sockets, one thread per connection.

mod answers;
mod excess;
mod limits;
mod pinned;
mod proxies;
mod redirects;
mod secure;
mod stopping;
mod throughput;

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use http::{HeaderMap, Method};
use url::Url;

use super::*;
use crate::network::Environment;

/// Longer than any step on a busy machine. No test that passes waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Both ends of a TLS or plain connection.
trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// One accepted connection.
struct Conn {
    stream: Box<dyn Duplex>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Conn {
    /// The next request's head, lower-cased; `None` when the client has closed.
    fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if self.stream.read(&mut byte).ok()? == 0 {
                return None;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        self.heads.lock().unwrap().push(head.clone());
        Some(head)
    }

    /// Sends bytes. Returns whether they could be written.
    fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush()).is_ok()
    }

    /// Answers every request of this connection with the same bytes.
    fn always(&mut self, answer: &str) {
        while self.head().is_some() && self.send(answer) {}
    }

    /// Returns when the client has closed its side; `false` if it has not within the patience.
    fn wait_for_close(&mut self) -> bool {
        let mut sink = [0; 1024];
        loop {
            match self.stream.read(&mut sink) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
    }
}

/// A server that listens until it is dropped.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Runs `script` for each connection, with the connection's number.
    fn start(script: impl Fn(usize, &mut Conn) + Send + Sync + 'static) -> Server {
        Server::wrapped(|tcp| Some(Box::new(tcp)), script)
    }

    /// Answers every request with the same bytes, on connections that stay open.
    fn answering(answer: impl Into<String>) -> Server {
        let answer = answer.into();
        Server::start(move |_, conn| conn.always(&answer))
    }

    /// Runs `script` with a layer around the socket, such as TLS.
    fn wrapped(
        wrap: impl Fn(TcpStream) -> Option<Box<dyn Duplex>> + Send + Sync + 'static,
        script: impl Fn(usize, &mut Conn) + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, heads, stopped) =
            (Arc::<AtomicUsize>::default(), Arc::default(), Arc::<AtomicBool>::default());
        let (count, log, stop) = (connections.clone(), Arc::clone(&heads), stopped.clone());
        let shared = Arc::new((wrap, script));
        let thread = thread::spawn(move || {
            for tcp in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let tcp = tcp.unwrap();
                tcp.set_read_timeout(Some(PATIENCE)).unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (shared, heads) = (shared.clone(), Arc::clone(&log));
                thread::spawn(move || {
                    if let Some(stream) = shared.0(tcp) {
                        shared.1(number, &mut Conn { stream, heads });
                    }
                });
            }
        });
        Server { address, connections, heads, stopped, thread: Some(thread) }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// An answer with a length.
fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A redirect.
fn to(location: impl std::fmt::Display) -> String {
    format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 5\r\n\r\nthere")
}

/// Settings that use neither the environment nor a name server.
fn settings() -> FetcherSettings {
    let lookup = Lookup::from_fn(|host| match host {
        "localhost" | "local.example" => Ok(vec![IpAddr::from([127, 0, 0, 1])]),
        // The first address does not listen.
        "two.example" => Ok(vec![IpAddr::from([127, 0, 0, 2]), IpAddr::from([127, 0, 0, 1])]),
        "metadata.example" => Ok(vec![IpAddr::from([169, 254, 169, 254])]),
        _ => Err(std::io::Error::new(std::io::ErrorKind::NotFound, "not in the table")),
    });
    let timeouts =
        Timeouts { connect: PATIENCE, handshake: PATIENCE, idle: PATIENCE, least_rate: 0, reuse: 4 * PATIENCE };
    FetcherSettings { timeouts, environment: Environment::none(), lookup }
}

fn fetchers() -> Fetchers {
    Fetchers::start_with(1, settings()).unwrap()
}

fn peer_settings(url: Url) -> PeerSettings {
    PeerSettings { url, built_in_url: false, ca_file: None, proxy: None, connections: 16 }
}

fn request(method: Method, url: Url) -> Request {
    Request { method, url, headers: HeaderMap::new(), head_timeout: PATIENCE }
}

fn get(url: Url) -> Request {
    request(Method::GET, url)
}

/// The whole body, or its error.
async fn read(body: &mut ResponseBody) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

/// Sends a request and reads its body.
async fn fetch(fetcher: &Fetcher, request: Request) -> Result<Vec<u8>, FetchError> {
    read(&mut fetcher.send(request).await?.body).await
}

/// Polls a condition that must become true.
async fn eventually(condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "it never came true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
