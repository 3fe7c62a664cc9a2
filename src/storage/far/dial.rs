//! Connections to an object store: direct, or in a tunnel through a proxy. TLS lies over it, and is
//! the connector's.
//!
//! The addresses at which a cloud issues credentials to its machines are always direct: they are
//! link-local, and no proxy reaches them.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::Uri;
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::GaiResolver},
    rt::TokioIo,
};
use tokio::{net::TcpStream, time::timeout};
use tower_service::Service;
use url::Url;

use crate::network::{Environment, Proxy, literal};

/// A connection, with its tunnel, is there within this time.
const CONNECTS: Duration = Duration::from_secs(5);

/// Google's name for its link-local address.
const GOOGLE_METADATA: &str = "metadata.google.internal";

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    tcp: HttpConnector<GaiResolver>,
    proxy: Option<Url>,
    environment: Environment,
}

impl Dialer {
    /// With a `proxy` for all targets, or those of the environment.
    pub(super) fn new(proxy: Option<Url>, environment: Environment) -> Dialer {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECTS));
        Dialer { tcp, proxy, environment }
    }

    fn proxy_for(&self, https: bool, host: &str, port: u16) -> Option<Proxy> {
        let link_local = match literal(host) {
            Some(std::net::IpAddr::V4(address)) => address.is_link_local(),
            Some(std::net::IpAddr::V6(address)) => address.is_unicast_link_local(),
            None => host == GOOGLE_METADATA,
        };
        if link_local {
            return None;
        }
        let proxy = self.proxy.as_ref().or_else(|| self.environment.proxy_for(https, host, port))?;
        Proxy::of(proxy)
    }

    async fn dial(mut self, target: Uri) -> io::Result<TokioIo<TcpStream>> {
        let https = target.scheme_str() == Some("https");
        let host = target.host().ok_or_else(|| io::Error::other("the URL has no host"))?.to_owned();
        let port = target.port_u16().unwrap_or(if https { 443 } else { 80 });
        let Some(proxy) = self.proxy_for(https, &host, port) else {
            return self.tcp.call(target).await.map_err(|error| reason(&error));
        };
        let to_proxy = format!("http://{}:{}", proxy.host, proxy.port).parse().map_err(io::Error::other)?;
        let connected = self.tcp.call(to_proxy).await;
        let mut stream = connected
            .map_err(|error| io::Error::other(format!("the proxy {}:{}: {}", proxy.host, proxy.port, reason(&error))))?
            .into_inner();
        proxy.tunnel(&mut stream, &format!("{host}:{port}")).await?;
        Ok(TokioIo::new(stream))
    }
}

/// The system's reason, without the crate's words around it.
fn reason(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let innermost = super::error::chain(error).last().map_or_else(String::new, ToString::to_string);
    io::Error::other(innermost)
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move {
            let late =
                || io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {} s", CONNECTS.as_secs()));
            timeout(CONNECTS, dialer.dial(target)).await.unwrap_or_else(|_| Err(late()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_a_machine_are_asked_for_directly() {
        let proxy: Url = "http://proxy.lan:3128".parse().unwrap();
        let environment = Environment::from_variables(|name| (name == "http_proxy").then(|| proxy.to_string()));
        for dialer in [Dialer::new(Some(proxy.clone()), Environment::none()), Dialer::new(None, environment)] {
            for host in ["169.254.169.254", "169.254.170.2", "metadata.google.internal", "[fe80::1]"] {
                assert!(dialer.proxy_for(false, host, 80).is_none(), "{host}");
            }
            assert!(dialer.proxy_for(false, "minio.lan", 9000).is_some());
        }
    }
}
