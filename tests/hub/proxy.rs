//! A forward proxy that knows only CONNECT and counts its tunnels.
//!
//! `Proxy::start().lead("registry.example.test:80", hub.address())` makes a foreign name lead to a
//! stand-in, without DNS.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use socket2::SockRef;

/// One request to the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The request line, as in `CONNECT host:443 HTTP/1.1`.
    pub line: String,
    /// Its header lines.
    pub headers: Vec<(String, String)>,
    /// The status of the answer: 200 is a tunnel.
    pub status: u16,
}

impl Asked {
    /// The host and port of a CONNECT.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// The first header with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        super::record::find_header(&self.headers, name)
    }
}

/// A running proxy. Dropping it closes its listener and its tunnels.
pub struct Proxy {
    inner: Arc<Inner>,
    listener: Arc<TcpListener>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Inner {
    login: Mutex<Option<String>>,
    refusal: Mutex<Option<u16>>,
    leads: Mutex<HashMap<String, SocketAddr>>,
    asked: Mutex<Vec<Asked>>,
    sockets: Mutex<Vec<TcpStream>>,
    bytes_down: AtomicU64,
    stopping: AtomicBool,
}

impl Proxy {
    /// A proxy that opens tunnels for every client to any address.
    pub fn start() -> Proxy {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let address = listener.local_addr().expect("an address");
        let inner = Arc::<Inner>::default();
        let (socket, shared) = (listener.clone(), inner.clone());
        let thread = std::thread::spawn(move || {
            while let Ok((client, _)) = socket.accept() {
                if shared.stopping.load(Ordering::Relaxed) {
                    return;
                }
                let shared = shared.clone();
                std::thread::spawn(move || {
                    let _ = serve(&shared, client);
                });
            }
        });
        Proxy { inner, listener, address, thread: Some(thread) }
    }

    /// Asks for this user and password (407 without).
    pub fn with_login(self, user: &str, password: &str) -> Proxy {
        use base64::Engine;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        *self.inner.login.lock().unwrap() = Some(format!("Basic {pair}"));
        self
    }

    /// Leads tunnels for `target` (host and port) to this address.
    pub fn lead(self, target: &str, address: SocketAddr) -> Proxy {
        self.inner.leads.lock().unwrap().insert(target.into(), address);
        self
    }

    /// Refuses every tunnel with this status from now on; `None` ends that.
    pub fn refuse_with(&self, status: Option<u16>) {
        *self.inner.refusal.lock().unwrap() = status;
    }

    /// Its URL, without user and password.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests to the proxy.
    pub fn asked(&self) -> Vec<Asked> {
        self.inner.asked.lock().unwrap().clone()
    }

    /// How many tunnels were opened.
    pub fn tunnels(&self) -> usize {
        self.asked().iter().filter(|asked| asked.status == 200).count()
    }

    /// Bytes that went from servers to clients.
    pub fn bytes_down(&self) -> u64 {
        self.inner.bytes_down.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.inner.stopping.store(true, Ordering::Relaxed);
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        for socket in self.inner.sockets.lock().unwrap().iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(inner: &Arc<Inner>, mut client: TcpStream) -> io::Result<()> {
    inner.sockets.lock().unwrap().push(client.try_clone()?);
    let mut head = Vec::new();
    // A byte at a time: the bytes after the head belong to the tunnel.
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default().to_string();
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let mut asked = Asked { line, headers, status: 200 };
    let server = connect(inner, &mut asked);
    let status = asked.status;
    inner.asked.lock().unwrap().push(asked);
    let Some(server) = server else {
        let reason = if status == 407 { "Proxy-Authenticate: Basic realm=\"proxy\"\r\n" } else { "" };
        write!(client, "HTTP/1.1 {status} Refused\r\n{reason}Content-Length: 0\r\nConnection: close\r\n\r\n")?;
        return client.shutdown(Shutdown::Write);
    };
    inner.sockets.lock().unwrap().push(server.try_clone()?);
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (up_from, up_to) = (client.try_clone()?, server.try_clone()?);
    let up = std::thread::spawn(move || pump(up_from, up_to, None));
    pump(server, client, Some(&inner.bytes_down));
    let _ = up.join();
    Ok(())
}

/// Decides about a request, and connects.
fn connect(inner: &Inner, asked: &mut Asked) -> Option<TcpStream> {
    let login = inner.login.lock().unwrap().clone();
    let refusal = *inner.refusal.lock().unwrap();
    if !asked.line.starts_with("CONNECT ") {
        asked.status = 405;
    } else if login.is_some() && asked.header("proxy-authorization") != login.as_deref() {
        asked.status = 407;
    } else if let Some(status) = refusal {
        asked.status = status;
    } else {
        let lead = inner.leads.lock().unwrap().get(asked.target()).copied();
        // Without a lead only loopback addresses are served: a test never connects to the internet.
        let address = lead.or_else(|| asked.target().parse().ok().filter(|a: &SocketAddr| a.ip().is_loopback()));
        let server = address.and_then(|address| TcpStream::connect(address).ok());
        if server.is_none() {
            asked.status = 502;
        }
        return server;
    }
    None
}

/// Copies one direction until it ends, and passes the end on.
fn pump(mut from: TcpStream, mut to: TcpStream, count: Option<&AtomicU64>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
        if let Some(count) = count {
            count.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
