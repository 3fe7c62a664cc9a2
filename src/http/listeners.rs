//! The listeners, each with its services, around the one table of routes: those of the registry,
//! and the Unix socket of the administration.

use std::{io, net::TcpListener, sync::Arc};

use actix_web::{
    HttpRequest,
    dev::{Server, ServerHandle},
    web,
};

use crate::http::{
    routes,
    services::Services,
    transport::{
        limits::ServerLimits,
        server,
        tls::Certificate,
        unix::{AdminSocket, SocketFile},
    },
};

/// Serves every listener with its services, all by the same workers, and over TLS where there is a
/// certificate. The future runs until the handle stops it; no request is answered before it is
/// polled.
///
/// # Errors
/// A socket cannot be used, or the certificate cannot.
pub fn run(
    listeners: Vec<(TcpListener, Services)>,
    certificate: Option<Arc<Certificate>>,
    limits: ServerLimits,
) -> io::Result<(Server, ServerHandle)> {
    let listeners = listeners.into_iter().map(|(listener, services)| (listener, web::Data::new(services))).collect();
    let serve = move |request: HttpRequest, services: web::Data<Services>, body: web::Payload| {
        routes::serve(request, services, body, limits.answer)
    };
    let server = server::listen(listeners, certificate, limits, serve)?;
    let handle = server.handle();
    Ok((server, handle))
}

/// Serves the administration's socket; `services` have the role [`ListenerRole::Admin`]. As
/// [`run`], and the caller keeps the file for as long as clients are to find the socket.
///
/// # Errors
/// The socket cannot be used.
///
/// [`ListenerRole::Admin`]: crate::http::ListenerRole::Admin
pub fn run_admin(socket: AdminSocket, services: Services) -> io::Result<(Server, ServerHandle, SocketFile)> {
    let patience = ServerLimits::default().answer;
    let serve = move |request: HttpRequest, services: web::Data<Services>, body: web::Payload| {
        routes::serve(request, services, body, patience)
    };
    socket.listen(web::Data::new(services), serve)
}
