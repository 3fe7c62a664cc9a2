//! Listeners, and one thread per connection.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use rustls::{ServerConnection, StreamOwned};
use socket2::{Domain, SockRef, Socket, Type};

use super::deliver::{Delivery, Next};
use super::record::Origin;
use super::request::{self, Target};
use super::routes;
use super::shared::Shared;
use super::wire::{Cut, Wire};

/// Pending connections that the kernel keeps.
const BACKLOG: i32 = 1024;

/// A listener that can go down and come back without losing its port.
pub(super) struct Listener {
    socket: Arc<TcpListener>,
    up: Arc<(Mutex<bool>, Condvar)>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Listener {
    /// Listens on 127.0.0.1 at this port (0: any free one). Nothing is accepted before
    /// [`Listener::serve`].
    pub(super) fn bind(port: u16) -> io::Result<Listener> {
        let bind = |port: u16| -> io::Result<Socket> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into())?;
            Ok(socket)
        };
        // The kernel takes back a port that it chose itself as soon as the socket stops listening.
        // So one socket finds a free port, and another asks for that number while the first still
        // holds it.
        let finder = bind(port)?;
        let address = finder.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = bind(address.port())?;
        drop(finder);
        socket.listen(BACKLOG)?;
        let up = Arc::new((Mutex::new(true), Condvar::new()));
        Ok(Listener { socket: Arc::new(socket.into()), up, address, thread: None, stop: Arc::default() })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts to accept.
    pub(super) fn serve(&mut self, shared: Arc<Shared>, origin: Origin) {
        let (socket, up, stop) = (self.socket.clone(), self.up.clone(), self.stop.clone());
        self.thread = Some(std::thread::spawn(move || {
            loop {
                match socket.accept() {
                    Ok((tcp, peer)) => spawn_connection(&shared, origin, tcp, peer),
                    // A listener that is shut down wakes up with an error, and then waits for the
                    // next state.
                    Err(_) => {
                        let state = up.0.lock().unwrap();
                        let down = |up: &mut bool| !*up && !stop.load(Ordering::Relaxed);
                        drop(up.1.wait_while(state, down).unwrap());
                    }
                }
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        }));
    }

    /// Refuses connections from now on. The port stays taken: the socket is bound but no longer
    /// listens.
    pub(super) fn go_down(&self) {
        *self.up.0.lock().unwrap() = false;
        let _ = SockRef::from(&*self.socket).shutdown(Shutdown::Both);
    }

    /// Listens again.
    pub(super) fn come_back(&self) -> io::Result<()> {
        SockRef::from(&*self.socket).listen(BACKLOG)?;
        *self.up.0.lock().unwrap() = true;
        self.up.1.notify_all();
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.go_down();
        self.up.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn spawn_connection(shared: &Arc<Shared>, origin: Origin, tcp: TcpStream, peer: SocketAddr) {
    let Ok(id) = shared.connections.enter(&tcp) else { return };
    let guard = Guard { shared: shared.clone(), id };
    // If no thread can be started, the closure is dropped, and with it the connection and the
    // guard.
    let _ = std::thread::Builder::new().stack_size(512 * 1024).spawn(move || {
        let guard = guard;
        let _ = connection(&guard, origin, tcp, peer);
    });
}

/// Takes a connection off the list when its thread ends, also by a panic.
struct Guard {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.connections.leave(self.id);
    }
}

fn connection(guard: &Guard, origin: Origin, tcp: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let shared = &guard.shared;
    tcp.set_nodelay(true)?;
    let mut wire = match &shared.tls {
        _ if shared.deaf.load(Ordering::Relaxed) => Wire::Plain(tcp),
        Some(config) => {
            let session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
            Wire::Tls(Box::new(StreamOwned::new(session, tcp)))
        }
        None => Wire::Plain(tcp),
    };
    if shared.deaf.load(Ordering::Relaxed) {
        super::gate::Gate::shut().pass(|| shared.is_stopping() || wire.abandoned());
        return Ok(());
    }
    let mut left = Vec::new();
    loop {
        let request = match request::read(&mut wire, &mut left, origin, peer) {
            Ok(Some(request)) => request,
            Ok(None) => break,
            // A client that tries https first comes back with http only if it is told so in these
            // words.
            Err(error) if error.kind() == io::ErrorKind::InvalidData && matches!(wire, Wire::Plain(_)) => {
                wire.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
                break;
            }
            Err(error) => return Err(error),
        };
        let close = request.wants_close();
        match answer(shared, &mut wire, &request)? {
            Next::Request if !close => {}
            Next::Request | Next::Close => {
                guard.shared.connections.release(guard.id);
                wire.close(shared.options.rude_tls);
                return Ok(());
            }
            Next::Cut(how) => {
                guard.shared.connections.release(guard.id);
                wire.cut(how);
                return Ok(());
            }
        }
    }
    guard.shared.connections.release(guard.id);
    wire.cut(Cut::Fin);
    Ok(())
}

/// Answers one request, honestly or by the script, and enters it into the journal.
fn answer(shared: &Shared, wire: &mut Wire, request: &request::Request) -> io::Result<Next> {
    let target = Target::of(request.origin, &request.path);
    let mut reply = routes::answer(shared, request, &target);
    let base = match request.origin {
        Origin::Registry => shared.urls.registry.as_str(),
        Origin::Cdn => shared.urls.cdn.as_str(),
        Origin::Token => shared.urls.token.trim_end_matches("/token"),
    };
    let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    let url = format!("{base}{}{query}", request.path);
    let fault = shared.script.strike(request, &target, &mut reply, &url);
    let ticket = shared.journal.enter(request, &target, reply.status_sent(), fault);
    let stopping = || shared.is_stopping();
    let delivery = Delivery { wire, journal: &shared.journal, ticket, rate: &shared.rate, stopping: &stopping };
    let next = delivery.run(&reply, request.method != "HEAD");
    let done = shared.journal.update(ticket, |record| record.finished = Some(std::time::Instant::now()));
    shared.print(done);
    next
}
