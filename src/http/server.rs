//! The listening socket and the worker threads, built by hand from actix's parts so that every connection is a
//! [`Connection`] with our patience. Signals and the order of shutdown belong to `app`.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    time::Duration,
};

use actix_http::HttpService;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::{
    App, FromRequest, Handler, Responder,
    dev::{AppConfig, Server, ServerHandle},
    rt::net::TcpStream,
    web,
};

use super::{
    Face,
    connection::{Connection, Patience},
    routes,
};

/// The kernel's queue of connections that nobody has accepted yet: a farm that starts at once must not be refused.
const BACKLOG: i32 = 4096;

/// How long clients may take, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Worker threads.
    pub workers: usize,
    /// How long a connection is kept for the next request.
    pub keep_alive: Duration,
    /// How long the head of a request may take; past it the answer is 408.
    pub head: Duration,
    /// How long an answer may wait for its reader in all, unless the reader keeps `rate`.
    pub stall: Duration,
    /// Bytes per second that a reader must take.
    pub rate: u64,
    /// How long a connection that is being closed may take, with a request body that nobody reads coming in.
    pub linger: Duration,
    /// Connections per worker; more wait in the kernel's queue.
    pub connections: usize,
    /// How long answers under way may take after a stop was asked for.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            workers: std::thread::available_parallelism().map_or(2, usize::from),
            keep_alive: Duration::from_secs(75),
            head: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            rate: 10 << 10,
            linger: Duration::from_secs(5),
            connections: 25_600,
            drain: Duration::from_secs(300),
        }
    }
}

/// Why lanyard cannot listen, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}; {advice} with {setting}")]
pub struct BindError {
    what: String,
    advice: &'static str,
    setting: &'static str,
    source: io::Error,
}

/// Takes the port. Connections queue from here on, before anything answers them. `setting` is what chooses the address.
///
/// # Errors
/// The address cannot be had; why, and what to do.
pub fn bind(address: SocketAddr, setting: &'static str) -> Result<TcpListener, BindError> {
    let (ip, port) = (address.ip(), address.port());
    let listener = TcpListener::bind(address).map_err(|source| {
        let (what, advice) = match source.kind() {
            io::ErrorKind::AddrInUse => {
                (format!("port {port} on {ip} is taken by another program"), "stop it or choose another")
            }
            io::ErrorKind::PermissionDenied if port < 1024 => {
                (format!("port {port} needs privileges that lanyard does not have"), "choose one above 1023")
            }
            io::ErrorKind::AddrNotAvailable => {
                (format!("{ip} is not an address of this machine"), "use 0.0.0.0 for all of them or another")
            }
            _ => (format!("cannot listen on {address}: {source}"), "choose another address"),
        };
        BindError { what, advice, setting, source }
    })?;
    // Listening again only makes the queue longer.
    let _ = rustix::net::listen(&listener, BACKLOG);
    Ok(listener)
}

/// Serves each face at its listener, all with the same workers. The future runs until the handle stops it; nothing is served
/// before it is polled.
pub fn run(faces: Vec<(TcpListener, Face)>, limits: Limits) -> io::Result<(Server, ServerHandle)> {
    let faces = faces.into_iter().map(|(listener, face)| (listener, web::Data::new(face))).collect();
    let server = listen(faces, limits, routes::serve)?;
    let handle = server.handle();
    Ok((server, handle))
}

/// The server around any one handler; tests of the transport bring their own.
pub(super) fn listen<T, F, Args>(faces: Vec<(TcpListener, web::Data<T>)>, limits: Limits, handler: F) -> io::Result<Server>
where
    T: Send + Sync + 'static,
    F: Handler<Args> + Send,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let patience = Patience { stall: limits.stall, rate: limits.rate, idle: limits.keep_alive + limits.head };
    let mut builder = Server::build()
        .workers(limits.workers)
        .max_concurrent_connections(limits.connections)
        .shutdown_timeout(limits.drain.as_secs())
        .disable_signals();
    for (listener, data) in faces {
        let address = listener.local_addr()?;
        let draining = builder.graceful_shutdown_signal();
        let handler = handler.clone();
        builder = builder.listen(format!("registry on {address}"), listener, move || {
            let draining = draining.clone();
            let app = App::new()
                .app_data(data.clone())
                .default_service(web::to(handler.clone()))
                .into_factory()
                .map_err(|error: actix_web::Error| error.error_response());
            let http = HttpService::build()
                .graceful_shutdown_signal(move || {
                    let draining = draining.clone();
                    async move { draining.notified().await }
                })
                .keep_alive(limits.keep_alive)
                .client_request_timeout(limits.head)
                .client_disconnect_timeout(limits.linger)
                .h1_allow_half_closed(false)
                .local_addr(address)
                .on_connect_ext(|io: &Connection<TcpStream>, data: &mut actix_web::dev::Extensions| {
                    data.insert::<Rc<_>>(io.traffic());
                })
                .h1(map_config(app, |_| AppConfig::default()));
            fn_service(move |io: TcpStream| async move {
                // Heads and small answers leave at once, and a peer that vanished is noticed while there is nothing to write. A
                // socket that refuses works all the same.
                let _ = io.set_nodelay(true);
                #[cfg(target_os = "linux")]
                let _ = rustix::net::sockopt::set_tcp_user_timeout(&io, patience.milliseconds());
                let peer = io.peer_addr().ok();
                Ok((Connection::new(io, patience), peer))
            })
            .and_then(http)
        })?;
    }
    Ok(builder.run())
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
