//! Where a request comes from, and by which address it was asked.
//!
//! A connection from this machine has rights that others have not ([`Principal::Loopback`]). It has
//! them only if it cannot be a stranger's (S32). It is treated as one that comes from elsewhere if:
//!
//! | the request | because |
//! |---|---|
//! | has `Forwarded`, `Via`, `X-Forwarded-…` or `X-Real-IP` | a proxy here speaks for others |
//! | has `Origin`, or a `Sec-Fetch-Site` but `same-origin`, `none` | a page in a browser asks |
//! | has a `User-Agent` of lanyard's own | an upstream redirected lanyard to itself |
//! | has no single `Host` that public DNS cannot point here | a page whose name leads here asks |
//!
//! Public DNS cannot point these hosts here: an address, `localhost` and names below it, a single
//! label, a name below `.local`, this machine's name, a name of the certificate, and the `names` of
//! the configuration.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use actix_web::{
    HttpRequest,
    http::header::{FORWARDED, HOST, HeaderMap, HeaderName, ORIGIN, USER_AGENT, VIA},
};
use ipnet::IpNet;

use crate::{
    access::{ClientAddress, Principal},
    config::Config,
    http::{
        forwarded,
        transport::{connection::Secured, tls::Certificate},
    },
};

/// The names and addresses that are this lanyard's: from the configuration, the machine and the
/// certificate. Shared by all listeners.
pub struct Site {
    names: Vec<String>,
    machine: String,
    proxies: Vec<IpNet>,
    public_url: Option<String>,
    certificate: Option<Arc<Certificate>>,
}

/// Where the other end of a connection is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Locality {
    /// On this machine.
    Here,
    /// On this machine, but the request names a host that public DNS may point here.
    HereByName(String),
    /// On another machine, or speaking for one.
    Elsewhere,
}

impl Site {
    /// `certificate`: the one that lanyard shows, if it speaks TLS.
    pub fn new(config: &Config, certificate: Option<Arc<Certificate>>) -> Site {
        let machine = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        Site {
            names: config.names.clone(),
            machine,
            proxies: config.trusted_proxies.clone(),
            public_url: config.public_url.clone(),
            certificate,
        }
    }

    /// Where the request comes from, by its connection and its headers.
    pub(crate) fn locality(&self, request: &HttpRequest) -> Locality {
        let here = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        let headers = request.headers();
        if !here || speaks_for_another(headers) {
            return Locality::Elsewhere;
        }
        match Host::of(headers) {
            Some(Host::Address) => Locality::Here,
            Some(Host::Name(name)) if self.is_local(&name) => Locality::Here,
            Some(Host::Name(name)) => Locality::HereByName(name),
            None => Locality::HereByName(String::new()),
        }
    }

    /// The same, as a principal.
    pub(crate) fn principal(&self, request: &HttpRequest) -> Principal {
        match self.locality(request) {
            Locality::Here => Principal::Loopback,
            Locality::HereByName(_) | Locality::Elsewhere => Principal::Anonymous,
        }
    }

    /// The address that wrong passwords, and uploads without a user, are counted for.
    pub(crate) fn client(&self, request: &HttpRequest) -> ClientAddress {
        let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        forwarded::client(request.headers(), peer, |address| self.proxies.iter().any(|net| net.contains(&address)))
    }

    /// Scheme and host by which the client asked, for the URLs that it is told. None: no part of
    /// the request names a host.
    pub(crate) fn origin(&self, request: &HttpRequest) -> Option<String> {
        if let Some(url) = &self.public_url {
            return Some(url.clone());
        }
        // A proxy in front that speaks TLS says so. A client that lies about it misleads only
        // itself.
        let (secure, host) = forwarded::asked(request.headers());
        let secure = request.conn_data::<Secured>().is_some() || secure == Some(true);
        let own = || {
            let host = request.headers().get(HOST)?.to_str().ok()?;
            forwarded::is_host(host).then(|| host.to_owned())
        };
        Some(format!("{}://{}", if secure { "https" } else { "http" }, host.or_else(own)?))
    }

    /// Whether public DNS cannot point this name here, or the operator says that it is this
    /// machine's.
    fn is_local(&self, name: &str) -> bool {
        let below = |domain| name.strip_suffix(domain).is_some_and(|label| label.ends_with('.') && label.len() > 1);
        let single = !name.contains('.');
        single
            || below("localhost")
            || below("local")
            || name == self.machine
            || self.names.iter().any(|known| known == name)
            || self.certificate.as_ref().is_some_and(|certificate| certificate.names(name))
    }
}

fn speaks_for_another(headers: &HeaderMap) -> bool {
    let passed_on = |name: &HeaderName| {
        [FORWARDED, VIA, ORIGIN].contains(name)
            || name.as_str() == "x-real-ip"
            || name.as_str().starts_with("x-forwarded-")
    };
    let sites = headers.get_all(HeaderName::from_static("sec-fetch-site"));
    let foreign = |site: &[u8]| !site.eq_ignore_ascii_case(b"same-origin") && !site.eq_ignore_ascii_case(b"none");
    // An upstream may redirect lanyard to itself: that request is made for lanyard's own client.
    let own = headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"lanyard/"));
    own || headers.keys().any(passed_on) || sites.into_iter().any(|site| foreign(site.as_bytes()))
}

/// The host that a request's `Host` names, without its port.
#[derive(PartialEq, Eq, Debug)]
enum Host {
    /// An address.
    Address,
    /// A name, in lower case, without the dot at its end.
    Name(String),
}

impl Host {
    /// None: `Host` is absent, there twice, or malformed.
    fn of(headers: &HeaderMap) -> Option<Host> {
        let mut lines = headers.get_all(HOST);
        let (Some(line), None) = (lines.next(), lines.next()) else { return None };
        Host::read(line.to_str().ok()?)
    }

    fn read(text: &str) -> Option<Host> {
        if let Some((literal, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            // The zone of a link-local address is a name of this machine's own.
            let address = literal.split_once('%').map_or(literal, |(address, _)| address);
            let plain = format!("[{address}]{port}");
            return (address.parse::<Ipv6Addr>().is_ok() && forwarded::is_host(&plain)).then_some(Host::Address);
        }
        if !forwarded::is_host(text) {
            return None;
        }
        let host = text.split_once(':').map_or(text, |(host, _)| host);
        if host.parse::<Ipv4Addr>().is_ok() {
            return Some(Host::Address);
        }
        let host = host.to_ascii_lowercase();
        let name = host.strip_suffix('.').unwrap_or(&host);
        if name.is_empty() || name.split('.').any(str::is_empty) {
            return None;
        }
        // With a dot at its end a single label is a name in the root of public DNS, not one of this
        // network.
        let rooted = name.len() < host.len() && !name.contains('.') && name != "localhost";
        (!rooted).then(|| Host::Name(name.to_owned()))
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
