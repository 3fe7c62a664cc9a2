//! A new connection: address policy (S4), TCP or a proxy's tunnel, then TLS, each with its own time
//! limit.
//!
//! The dialler does the whole way itself for two reasons. actix-tls' connector takes literal
//! addresses past any resolver, and awc hides the reason of a failed handshake. So awc is told
//! `http://host:port` for https targets too (see `client`), and gets a connection that is already
//! secure.

use std::{net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use actix_rt::net::TcpStream;
use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection, rustls_0_23::TlsConnector};
use futures_core::future::LocalBoxFuture;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::Uri;
use tokio::time::{sleep, timeout};

use super::{
    addresses::Reach,
    connection::{Stream, UpstreamConnection, Watch},
    error::FetchError,
    peer::Peer,
};
use crate::network::{Proxy, explain, is_loopback, literal};

/// If an address does not answer for so long, the next one is tried beside it (RFC 8305 section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// The connector of one awc client.
#[derive(Clone)]
pub(super) struct Dialer(Rc<DialerState>);

struct DialerState {
    peer: Arc<Peer>,
    secure: bool,
    watch: Watch,
}

impl Dialer {
    /// A connector for the https or for the http targets of an upstream.
    pub(super) fn new(peer: Arc<Peer>, secure: bool, watch: Watch) -> Self {
        Dialer(Rc::new(DialerState { peer, secure, watch }))
    }
}

impl Service<ConnectInfo<Uri>> for Dialer {
    type Response = Connection<Uri, UpstreamConnection>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::always_ready!();

    fn call(&self, target: ConnectInfo<Uri>) -> Self::Future {
        let state = self.0.clone();
        Box::pin(async move {
            let uri = target.request().clone();
            let (host, port) = (uri.host().unwrap_or_default(), target.port());
            // In a box, a `FetchError` passes through awc unchanged.
            let stream = state.dial(host, port).await.map_err(|error| ConnectError::Resolver(Box::new(error)))?;
            Ok(Connection::new(uri, UpstreamConnection::new(stream, state.watch.clone())))
        })
    }
}

impl DialerState {
    async fn dial(&self, host: &str, port: u16) -> Result<Stream, FetchError> {
        let target = format!("{host}:{port}");
        let limits = &self.peer.timeouts;
        let tcp = match timeout(limits.connect, self.tcp(host, port, &target)).await {
            Ok(connected) => connected?,
            Err(_) => {
                self.peer.resolver.forget(host);
                return Err(FetchError::Timeout { host: target, what: "the connection" });
            }
        };
        if !self.secure {
            return Ok(Stream::Plain(tcp));
        }
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let connector = TlsConnector::service(self.peer.tls.clone());
        match timeout(limits.handshake, connector.call(Connection::new(name, tcp))).await {
            Ok(Ok(connection)) => Ok(Stream::Tls(Box::new(connection.into_parts().0))),
            Ok(Err(error)) => Err(FetchError::Connect { host: target, reason: explain(&error) }),
            Err(_) => Err(FetchError::Timeout { host: target, what: "the TLS handshake" }),
        }
    }

    async fn tcp(&self, host: &str, port: u16, target: &str) -> Result<TcpStream, FetchError> {
        let failed = |reason: String| FetchError::Connect { host: target.to_owned(), reason };
        match self.peer.proxy_for(self.secure, host, port) {
            Some(proxy) => {
                self.permit_proxied(host, target).await?;
                self.through(&proxy, target).await.map_err(|error| failed(error.to_string()))
            }
            None => {
                let addresses = self.permitted(host, target).await?;
                let connected = connect(&addresses, port).await;
                connected.map_err(|error| {
                    self.peer.resolver.forget(host);
                    failed(error.to_string())
                })
            }
        }
    }

    async fn through(&self, proxy: &Proxy, target: &str) -> std::io::Result<TcpStream> {
        // The operator chose the proxy, so it may have any address.
        let addresses = self.peer.resolver.addresses(&proxy.host).await?;
        let mut stream = connect(&addresses, proxy.port).await?;
        proxy.tunnel(&mut stream, target).await?;
        Ok(stream)
    }

    /// The host's addresses that may be dialled.
    async fn permitted(&self, host: &str, target: &str) -> Result<Vec<IpAddr>, FetchError> {
        let addresses = self.peer.resolver.addresses(host).await;
        let mut addresses = addresses.map_err(|error| FetchError::Connect {
            host: target.to_owned(),
            reason: format!("the name cannot be resolved: {error}"),
        })?;
        let reach = self.reach(host).await;
        addresses.retain(|&address| reach.covers(address));
        if addresses.is_empty() { Err(FetchError::Forbidden { host: target.to_owned() }) } else { Ok(addresses) }
    }

    /// Checks a host that the proxy resolves, as far as its name tells.
    async fn permit_proxied(&self, host: &str, target: &str) -> Result<(), FetchError> {
        let addresses = match literal(host) {
            Some(address) => vec![address],
            None if is_loopback(host) => vec![IpAddr::from([127, 0, 0, 1])],
            None => return Ok(()),
        };
        let reach = self.reach(host).await;
        let permitted = addresses.iter().all(|&address| reach.covers(address));
        if permitted { Ok(()) } else { Err(FetchError::Forbidden { host: target.to_owned() }) }
    }

    async fn reach(&self, host: &str) -> Reach {
        let peer = &self.peer;
        if peer.built_in_url {
            return Reach::Public;
        }
        if host.trim_end_matches('.').eq_ignore_ascii_case(&peer.host) {
            return Reach::All;
        }
        // A configured name that cannot be resolved (behind a proxy, say) allows nothing more.
        Reach::beside(&peer.resolver.addresses(&peer.host).await.unwrap_or_default())
    }
}

/// Connects to the first address that answers. The attempts start a quarter of a second apart, or
/// as soon as the one before has failed. If all fail, the last failure is the error.
async fn connect(addresses: &[IpAddr], port: u16) -> std::io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no address");
    loop {
        let another = waiting.next().map(|&address| attempts.push(TcpStream::connect((address, port)))).is_some();
        if !another && attempts.is_empty() {
            return Err(failure);
        }
        tokio::select! {
            Some(result) = attempts.next() => match result {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => failure = error,
            },
            () = sleep(NEXT_ADDRESS), if waiting.len() > 0 => {}
        }
    }
}
