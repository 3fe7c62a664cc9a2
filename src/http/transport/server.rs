//! The server: listening sockets and worker threads, built from actix's parts so that every
//! connection is a [`Connection`] with our timeouts, plain or over TLS. Called by
//! `http/listeners.rs`; signals and the order of the stop belong to `app`.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
};

use actix_http::{HttpService, error::DispatchError};
use actix_server::GracefulShutdownSignal;
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::{
    App, FromRequest, Handler, Responder,
    dev::{AppConfig, Server},
    rt::net::TcpStream,
    web,
};

use crate::http::transport::{
    acceptor::ConnectionAcceptor,
    connection::{Connection, ConnectionTimeouts, Secured},
    limits::ServerLimits,
    places::Places,
    plane::SendFile,
    tls::{Certificate, TlsError},
};

/// The kernel's queue of connections before they are accepted: a farm that starts at once must not
/// be refused.
const BACKLOG: i32 = 4096;

/// Why lanyard cannot listen, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}; {advice} with {setting}")]
pub struct BindError {
    what: String,
    advice: &'static str,
    setting: &'static str,
    source: io::Error,
}

/// Takes the port. Connections queue from here on, before any is answered. `setting` is the option
/// that chooses the address, for the error.
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

/// A server around any one handler; tests of the transport bring their own.
pub(crate) fn listen<T, F, Args>(
    listeners: Vec<(TcpListener, web::Data<T>)>,
    certificate: Option<Arc<Certificate>>,
    limits: ServerLimits,
    handler: F,
) -> io::Result<Server>
where
    T: Send + Sync + 'static,
    F: Handler<Args> + Send,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let timeouts = ConnectionTimeouts {
        stall: limits.stall,
        rate: limits.rate,
        idle: limits.keep_alive + limits.head,
        linger: limits.linger,
    };
    let secured = certificate.map(|certificate| Ok((Arc::new(certificate.config()?), certificate))).transpose();
    let secured = secured.map_err(|error: TlsError| io::Error::other(error))?;
    let places = Places::new(limits.descriptors);
    // A connection that is not accepted costs no descriptor.
    let connections = limits.connections.min(places.accepted() / limits.workers.max(1)).max(1);
    let mut builder = Server::build()
        .workers(limits.workers)
        .max_concurrent_connections(connections)
        .shutdown_timeout(limits.drain.as_secs())
        .disable_signals();
    for (listener, data) in listeners {
        let address = listener.local_addr()?;
        let name = format!("registry on {address}");
        let draining = builder.graceful_shutdown_signal();
        let acceptor = ConnectionAcceptor::new(timeouts, limits, Arc::clone(&places), draining.clone());
        let answers = HttpFactory { data, handler: handler.clone(), limits, address, draining };
        builder = match &secured {
            None => builder.listen(name, listener, move || {
                let (http, acceptor) = (answers.service::<TcpStream, Args>(), acceptor.clone());
                fn_service(move |io: TcpStream| {
                    let acceptor = acceptor.clone();
                    async move { acceptor.plain(io).await }
                })
                .and_then(http)
            })?,
            Some((config, certificate)) => {
                let (config, certificate) = (Arc::clone(config), Arc::clone(certificate));
                builder.listen(name, listener, move || {
                    let (http, acceptor) = (answers.service::<TlsStream<TcpStream>, Args>(), acceptor.clone());
                    let (config, certificate) = (Arc::clone(&config), Arc::clone(&certificate));
                    fn_service(move |io: TcpStream| {
                        let (acceptor, config, certificate) =
                            (acceptor.clone(), Arc::clone(&config), Arc::clone(&certificate));
                        async move { acceptor.secured(io, config, &certificate).await }
                    })
                    .and_then(http)
                })?
            }
        };
    }
    Ok(builder.run())
}

/// Makes the HTTP service of one listener.
#[derive(Clone)]
struct HttpFactory<D, F> {
    data: D,
    handler: F,
    limits: ServerLimits,
    address: SocketAddr,
    draining: GracefulShutdownSignal,
}

impl<T: Send + Sync + 'static, F> HttpFactory<web::Data<T>, F> {
    /// The service for connections over streams of one kind.
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
        S: SendFile + 'static,
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
                data.insert::<Rc<_>>(io.state());
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
