//! Addresses on loopback that are dead, each in its own way.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// An address where a connect is never answered, as if the host were switched off: the listener's
/// queue is full, so the kernel drops every further SYN.
pub struct Silent {
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

impl Silent {
    /// Fills a queue. Panics if the kernel does not let it fill.
    pub fn start() -> Silent {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        listener.listen(0).expect("listen");
        let address = listener.local_addr().expect("an address").as_socket().expect("IPv4");
        let mut queued = Vec::new();
        loop {
            match TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
                Ok(connection) => queued.push(connection),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
                Err(error) => panic!("a full queue should not answer at all: {error}"),
            }
            assert!(queued.len() < 64, "this kernel's queue does not fill");
        }
        Silent { address, _listener: listener, _queued: queued }
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// An address that refuses every connect while this value lives: bound, but not listening.
pub struct Refusing {
    address: SocketAddr,
    _socket: Socket,
}

impl Refusing {
    /// Takes a port.
    pub fn start() -> Refusing {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        let address = socket.local_addr().expect("an address").as_socket().expect("IPv4");
        Refusing { address, _socket: socket }
    }

    /// The URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
