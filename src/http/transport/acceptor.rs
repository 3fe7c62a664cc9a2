//! Accepts a connection before its first request is read: it gets a place among all others, its
//! client sends something, and over TLS the handshake succeeds.
//!
//! A silent client costs a descriptor and a task. Handshakes share nothing, so the next one begins
//! at once, however many are unfinished (S20). `places.rs` bounds their number.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use actix_http::error::DispatchError;
use actix_server::GracefulShutdownSignal;
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::rt::net::TcpStream;
use rustls::{ServerConfig, server::Acceptor};
use tokio_rustls::LazyConfigAcceptor;

use crate::http::transport::{
    connection::{Connection, ConnectionTimeouts},
    limits::ServerLimits,
    places::{Place, Places},
    plane::READ,
    tls::Certificate,
};

/// See the module. Cheap to clone: each worker thread has its own.
#[derive(Clone)]
pub(crate) struct ConnectionAcceptor {
    timeouts: ConnectionTimeouts,
    /// How long a client may be silent.
    silence: Duration,
    handshake: Duration,
    places: Arc<Places>,
    draining: GracefulShutdownSignal,
}

/// An accepted connection and its peer.
type Entered<S> = Result<(Connection<S>, Option<SocketAddr>), DispatchError>;

impl ConnectionAcceptor {
    pub(crate) fn new(
        timeouts: ConnectionTimeouts,
        limits: ServerLimits,
        places: Arc<Places>,
        draining: GracefulShutdownSignal,
    ) -> Self {
        ConnectionAcceptor { timeouts, silence: limits.head, handshake: limits.handshake, places, draining }
    }

    /// Accepts a plain connection.
    pub(crate) async fn plain(&self, io: TcpStream) -> Entered<TcpStream> {
        let (io, peer, place) = self.speaking(io).await?;
        Ok((Connection::new(io, self.timeouts, Some(place)), peer))
    }

    /// Accepts a connection whose client proves that it speaks TLS.
    pub(crate) async fn secured(
        &self,
        io: TcpStream,
        config: Arc<ServerConfig>,
        certificate: &Arc<Certificate>,
    ) -> Entered<TlsStream<TcpStream>> {
        let (io, peer, place) = self.speaking(io).await?;
        let handshake = async {
            // Until the client's hello is whole, no other state is kept for it.
            let hello = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
            certificate.refresh().await;
            hello.into_stream(config).await
        };
        let mut io = self.in_time(&place, self.handshake, handshake).await?;
        // As many bytes as the plane reads at once.
        io.get_mut().1.set_buffer_limit(Some(READ));
        Ok((Connection::new(io.into(), self.timeouts, Some(place)), peer))
    }

    /// A connection with a place, whose client has sent something. Its socket sends heads and small
    /// answers at once, and notices a vanished peer while there is nothing to write. A socket that
    /// refuses these options works all the same.
    async fn speaking(&self, io: TcpStream) -> Result<(TcpStream, Option<SocketAddr>, Place), DispatchError> {
        let _ = io.set_nodelay(true);
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&io, self.timeouts.milliseconds());
        let peer = io.peer_addr().ok();
        let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        let place = self.places.enter(address).ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        self.in_time(&place, self.silence, io.readable()).await?;
        Ok((io, peer, place))
    }

    /// Waits for a client that has not asked for anything yet. Ends after `most`, and when lanyard
    /// stops or the place is needed for another connection.
    async fn in_time<T>(
        &self,
        place: &Place,
        most: Duration,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        tokio::select! {
            biased;
            done = work => done,
            () = place.gone() => Err(io::ErrorKind::ConnectionAborted.into()),
            () = self.draining.notified() => Err(io::ErrorKind::ConnectionAborted.into()),
            () = tokio::time::sleep(most) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}
