//! The listening socket and the worker threads, built by hand from actix's parts so that every connection is a
//! [`Connection`] with our patience, plain or over TLS. Signals and the order of shutdown belong to `app`.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix_http::{HttpService, error::DispatchError};
use actix_server::GracefulShutdownSignal;
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::{
    App, FromRequest, Handler, HttpRequest, Responder,
    dev::{AppConfig, Server, ServerHandle},
    rt::net::TcpStream,
    web,
};

use crate::http::{
    Face, routes,
    transport::{
        connection::{Connection, Patience, Secured},
        door::Door,
        places::Places,
        plane::Wire,
        tls::{Certificate, TlsError},
    },
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
    /// How long a pull may wait for upstream before its head is sent; past it the answer is 504.
    pub answer: Duration,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long an answer may wait for its reader in all, unless the reader keeps `rate`.
    pub stall: Duration,
    /// Bytes per second that a reader must take.
    pub rate: u64,
    /// How long a connection that is being closed may take, with a request body that nobody reads coming in.
    pub linger: Duration,
    /// Connections per worker, where there are descriptors for them; more wait in the kernel's
    /// queue.
    pub connections: usize,
    /// Descriptors that the process may have; connections share them (`places.rs`).
    pub descriptors: usize,
    /// How long answers under way may take after a stop was asked for.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            workers: std::thread::available_parallelism().map_or(2, usize::from),
            keep_alive: Duration::from_secs(75),
            head: Duration::from_secs(30),
            answer: Duration::from_secs(25),
            handshake: Duration::from_secs(10),
            stall: Duration::from_secs(60),
            rate: 10 << 10,
            linger: Duration::from_secs(5),
            connections: 25_600,
            descriptors: descriptors(),
            drain: Duration::from_secs(300),
        }
    }
}

/// How many descriptors the process may have.
fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
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

/// Serves each face at its listener, all with the same workers, and over TLS where there is a certificate. The future runs until
/// the handle stops it; nothing is served before it is polled.
pub fn run(
    faces: Vec<(TcpListener, Face)>,
    certificate: Option<Arc<Certificate>>,
    limits: Limits,
) -> io::Result<(Server, ServerHandle)> {
    let faces = faces.into_iter().map(|(listener, face)| (listener, web::Data::new(face))).collect();
    let serve = move |request: HttpRequest, face: web::Data<Face>, body: web::Payload| {
        routes::serve(request, face, body, limits.answer)
    };
    let server = listen(faces, certificate, limits, serve)?;
    let handle = server.handle();
    Ok((server, handle))
}

/// The server around any one handler; tests of the transport bring their own.
pub(crate) fn listen<T, F, Args>(
    faces: Vec<(TcpListener, web::Data<T>)>,
    certificate: Option<Arc<Certificate>>,
    limits: Limits,
    handler: F,
) -> io::Result<Server>
where
    T: Send + Sync + 'static,
    F: Handler<Args> + Send,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let patience = Patience {
        stall: limits.stall,
        rate: limits.rate,
        idle: limits.keep_alive + limits.head,
        linger: limits.linger,
    };
    let secured = certificate.map(|certificate| Ok((Arc::new(certificate.config()?), certificate))).transpose();
    let secured = secured.map_err(|error: TlsError| io::Error::other(error))?;
    let places = Places::new(limits.descriptors);
    // What is not accepted costs no descriptor.
    let connections = limits.connections.min(places.accepted() / limits.workers.max(1)).max(1);
    let mut builder = Server::build()
        .workers(limits.workers)
        .max_concurrent_connections(connections)
        .shutdown_timeout(limits.drain.as_secs())
        .disable_signals();
    for (listener, data) in faces {
        let address = listener.local_addr()?;
        let name = format!("registry on {address}");
        let draining = builder.graceful_shutdown_signal();
        let door = Door::new(patience, limits, Arc::clone(&places), draining.clone());
        let answers = Answers { data, handler: handler.clone(), limits, address, draining };
        builder = match &secured {
            None => builder.listen(name, listener, move || {
                let (http, door) = (answers.service::<TcpStream, Args>(), door.clone());
                fn_service(move |io: TcpStream| {
                    let door = door.clone();
                    async move { door.plain(io).await }
                })
                .and_then(http)
            })?,
            Some((config, certificate)) => {
                let (config, certificate) = (Arc::clone(config), Arc::clone(certificate));
                builder.listen(name, listener, move || {
                    let (http, door) = (answers.service::<TlsStream<TcpStream>, Args>(), door.clone());
                    let (config, certificate) = (Arc::clone(&config), Arc::clone(&certificate));
                    fn_service(move |io: TcpStream| {
                        let (door, config, certificate) = (door.clone(), Arc::clone(&config), Arc::clone(&certificate));
                        async move { door.secured(io, config, &certificate).await }
                    })
                    .and_then(http)
                })?
            }
        };
    }
    Ok(builder.run())
}

/// What answers the requests of one listener.
#[derive(Clone)]
struct Answers<D, F> {
    data: D,
    handler: F,
    limits: Limits,
    address: SocketAddr,
    draining: GracefulShutdownSignal,
}

impl<T: Send + Sync + 'static, F> Answers<web::Data<T>, F> {
    /// For connections over streams of one kind.
    fn service<S, Args>(
        &self,
    ) -> impl ServiceFactory<
        (Connection<S>, Option<SocketAddr>),
        Config = (),
        Response = (),
        Error = DispatchError,
        InitError = (),
    > + use<S, T, F, Args>
    where
        S: Wire + 'static,
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let app = App::new()
            .app_data(self.data.clone())
            .default_service(web::to(self.handler.clone()))
            .into_factory()
            .map_err(|error: actix_web::Error| error.error_response());
        let draining = self.draining.clone();
        HttpService::build()
            .graceful_shutdown_signal(move || {
                let draining = draining.clone();
                async move { draining.notified().await }
            })
            .keep_alive(self.limits.keep_alive)
            .client_request_timeout(self.limits.head)
            .client_disconnect_timeout(self.limits.linger)
            .h1_allow_half_closed(false)
            .local_addr(self.address)
            .on_connect_ext(|io: &Connection<S>, data: &mut actix_web::dev::Extensions| {
                data.insert::<Rc<_>>(io.traffic());
                if S::SECURED {
                    data.insert(Secured);
                }
            })
            .h1(map_config(app, |_| AppConfig::default()))
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
