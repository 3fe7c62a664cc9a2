//! The URL at which clients reach lanyard, parsed once from `--server`.

use std::{fmt, str::FromStr};

use url::{Host, Url};

/// Scheme, host and port of a lanyard, as clients see it. Every character of it can stand in TOML,
/// JSON, YAML and a shell script as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    url: Url,
}

/// The text is not a server's URL. The message never quotes it: it may hold a password.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ServerError {
    /// It is not `http://…` or `https://…` with a host.
    #[error("must be a URL such as \"https://registry.lan\" or \"http://10.0.0.5:5000\"")]
    NotUrl,
    /// It has a path, but clients ask for `/v2/` at the root of a host.
    #[error("must end after the host and port: clients know registries by host only")]
    MoreThanHost,
    /// It has credentials, which clients keep elsewhere.
    #[error("must not hold a user or a password")]
    Credentials,
}

impl Server {
    /// A lanyard started with no configuration, seen from its own machine.
    pub const DEFAULT: &str = "http://localhost:5000";

    /// Whether the client speaks plain HTTP to it.
    pub fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }

    /// Whether it can be reached from its own machine only.
    pub fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// `host:port` as it stands before an image's name. The port is left out only if it is 443 of
    /// https: without a port clients try https.
    pub fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match (self.url.port_or_known_default(), self.is_plain()) {
            (Some(443), false) | (None, _) => host.to_owned(),
            (Some(port), _) => format!("{host}:{port}"),
        }
    }

    /// For a loopback address: comment lines that say that it is another machine for each client.
    /// Else empty.
    pub(super) fn loopback_note(&self) -> String {
        if !self.is_loopback() {
            return String::new();
        }
        format!(
            "#\n# {self} is lanyard on the client's own machine. For other machines: --server http://ADDRESS:5000\n"
        )
    }
}

/// The URL without a slash at its end.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.url.scheme(), self.authority())
    }
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Err(ServerError::NotUrl);
        }
        let url: Url = text.parse().map_err(|_| ServerError::NotUrl)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ServerError::Credentials);
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() && name.bytes().all(plain) => {}
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => {}
            Some(Host::Domain(_)) | None => return Err(ServerError::NotUrl),
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(ServerError::MoreThanHost);
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) || url.port() == Some(0) {
            return Err(ServerError::NotUrl);
        }
        Ok(Server { url })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_hosts() {
        for (text, shown, authority) in [
            (Server::DEFAULT, "http://localhost:5000", "localhost:5000"),
            ("http://registry.lan/", "http://registry.lan:80", "registry.lan:80"),
            ("https://Registry.lan", "https://registry.lan", "registry.lan"),
            ("https://registry.lan:8443", "https://registry.lan:8443", "registry.lan:8443"),
            ("http://[fd00::1]:5000", "http://[fd00::1]:5000", "[fd00::1]:5000"),
        ] {
            let server: Server = text.parse().unwrap();
            assert_eq!((server.to_string().as_str(), server.authority().as_str()), (shown, authority));
        }
        for (bad, why) in [
            ("", ServerError::NotUrl),
            ("registry.lan:5000", ServerError::NotUrl),
            ("ftp://registry.lan", ServerError::NotUrl),
            ("http://", ServerError::NotUrl),
            ("http://a\"b", ServerError::NotUrl),
            ("http://$(id)", ServerError::NotUrl),
            ("http://a\n.b", ServerError::NotUrl),
            ("http://a:70000", ServerError::NotUrl),
            ("http://a:0", ServerError::NotUrl),
            ("http://a/docker.io", ServerError::MoreThanHost),
            ("http://a?x", ServerError::MoreThanHost),
            ("http://a#x", ServerError::MoreThanHost),
            ("http://me:canary@a", ServerError::Credentials),
        ] {
            assert_eq!(bad.parse::<Server>(), Err(why), "{bad}");
            assert!(!why.to_string().contains("canary"));
        }
    }

    #[test]
    fn loopback_is_this_machine() {
        for (text, is) in [
            ("http://127.0.0.2:1", true),
            ("http://[::1]", true),
            ("https://localhost", true),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().is_loopback(), is, "{text}");
        }
    }
}
