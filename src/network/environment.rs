//! The proxy variables of the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`,
//! in either case. They are read once, when the process starts.

use std::net::IpAddr;

use ipnet::IpNet;
use url::Url;

use super::literal;

/// The proxies of the environment, and their exceptions.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    http: Option<Url>,
    https: Option<Url>,
    direct: Vec<Exception>,
}

/// One entry of `NO_PROXY`.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Exception {
    /// `*`
    Everything,
    /// A network or a single address, with or without a port.
    Network(IpNet, Option<u16>),
    /// A host name and everything below it, with or without a port.
    Suffix(String, Option<u16>),
}

impl Environment {
    /// Reads the variables of this process.
    pub fn read() -> Self {
        Environment::from_variables(|name| std::env::var(name).ok())
    }

    /// An environment without proxies.
    pub fn none() -> Self {
        Environment::default()
    }

    /// Reads variables from any source. The lower-case spelling wins. An empty variable counts as
    /// absent, so that the other spelling is read, as in Go's programs. With `REQUEST_METHOD`, as
    /// for CGI programs, `HTTP_PROXY` may be the header `Proxy` of a client's request and is
    /// ignored.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let said = |name: &str| {
            let value = variable(name)?.trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let cgi = said("REQUEST_METHOD").is_some();
        let get = |name: &str| {
            said(name).or_else(|| {
                let upper = name.to_ascii_uppercase();
                let value = said(&upper)?;
                if cgi && upper == "HTTP_PROXY" {
                    tracing::warn!(variable = upper, "not used: with REQUEST_METHOD set it may come from a client");
                    return None;
                }
                Some(value)
            })
        };
        let proxy = |name: &str| get(name).or_else(|| get("all_proxy")).and_then(|value| parse_proxy(name, &value));
        let direct = get("no_proxy").unwrap_or_default();
        let direct = direct.split([',', ' ', '\t']).filter(|e| !e.is_empty()).filter_map(Exception::parse).collect();
        Environment { http: proxy("http_proxy"), https: proxy("https_proxy"), direct }
    }

    /// The proxy for a target, if it has one. Loopback has none.
    pub(crate) fn proxy_for(&self, https: bool, host: &str, port: u16) -> Option<&Url> {
        let proxy = if https { self.https.as_ref() } else { self.http.as_ref() }?;
        let direct = is_loopback(host) || self.direct.iter().any(|exception| exception.matches(host, port));
        (!direct).then_some(proxy)
    }
}

/// Whether a host is this machine by its spelling alone.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = host.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost")
        || name.len() > 10 && name.to_ascii_lowercase().ends_with(".localhost")
        || literal(host).is_some_and(|address| address.to_canonical().is_loopback())
}

/// Reads a proxy's address. Without a scheme it counts as `http://`, as in other programs. An
/// unusable value is logged by the variable's name only, because it may hold a password.
fn parse_proxy(name: &str, value: &str) -> Option<Url> {
    let spelled = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    match Url::parse(&spelled) {
        Ok(url) if url.scheme() == "http" && url.host_str().is_some() => Some(url),
        Ok(_) | Err(_) => {
            tracing::warn!(variable = name, "not used: only proxies of the form http://host:port are supported");
            None
        }
    }
}

impl Exception {
    fn parse(entry: &str) -> Option<Exception> {
        if entry == "*" {
            return Some(Exception::Everything);
        }
        if let Ok(network) = entry.parse::<IpNet>() {
            return Some(Exception::Network(network, None));
        }
        if let Some(address) = literal(entry) {
            return Some(Exception::Network(address.into(), None));
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        if let Some(address) = literal(host) {
            return Some(Exception::Network(address.into(), port));
        }
        let suffix = host.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase();
        (!suffix.is_empty()).then_some(Exception::Suffix(suffix, port))
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        let same_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match self {
            Exception::Everything => true,
            Exception::Network(network, wanted) => {
                same_port(wanted)
                    && literal(host).map(|a: IpAddr| a.to_canonical()).is_some_and(|address| network.contains(&address))
            }
            Exception::Suffix(suffix, wanted) => {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                let below = |rest: &str| rest.is_empty() || rest.ends_with('.');
                same_port(wanted) && host.strip_suffix(suffix.as_str()).is_some_and(below)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::from_variables(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn the_scheme_chooses_the_variable_and_lower_case_wins() {
        let env = environment(&[("HTTPS_PROXY", "http://upper:1"), ("https_proxy", "lower:2"), ("ALL_PROXY", "all:3")]);
        let port = |https| env.proxy_for(https, "a.example", 443).and_then(Url::port);
        assert_eq!((port(true), port(false)), (Some(2), Some(3)));
        assert!(environment(&[("HTTPS_PROXY", "")]).proxy_for(true, "a.example", 443).is_none());
        assert!(environment(&[("HTTPS_PROXY", "socks5://s:1")]).proxy_for(true, "a.example", 443).is_none());
        assert!(Environment::none().proxy_for(true, "a.example", 443).is_none());
    }

    #[test]
    fn an_empty_variable_hides_nothing() {
        for (variables, http, https) in [
            (&[("http_proxy", ""), ("HTTP_PROXY", "h:1")][..], Some(1), None),
            (&[("https_proxy", " \t"), ("HTTPS_PROXY", "h:1")], None, Some(1)),
            (&[("http_proxy", ""), ("HTTP_PROXY", ""), ("ALL_PROXY", "a:3")], Some(3), Some(3)),
            (&[("all_proxy", ""), ("ALL_PROXY", "a:3")], Some(3), Some(3)),
            (&[("http_proxy", "h:2"), ("HTTP_PROXY", "h:1")], Some(2), None),
            (&[("http_proxy", ""), ("HTTPS_PROXY", "")], None, None),
            (&[("HTTP_PROXY", "h:1"), ("no_proxy", ""), ("NO_PROXY", "a.example")], None, None),
            (&[("HTTP_PROXY", "h:1"), ("no_proxy", "b.example"), ("NO_PROXY", "a.example")], Some(1), None),
            (&[("HTTP_PROXY", "h:1"), ("REQUEST_METHOD", "GET")], None, None),
            (&[("HTTP_PROXY", "h:1"), ("REQUEST_METHOD", "")], Some(1), None),
            (&[("http_proxy", "h:2"), ("HTTP_PROXY", "h:1"), ("REQUEST_METHOD", "GET")], Some(2), None),
            (&[("HTTP_PROXY", "h:1"), ("HTTPS_PROXY", "s:4"), ("REQUEST_METHOD", "GET")], None, Some(4)),
            (&[("HTTP_PROXY", "h:1"), ("ALL_PROXY", "a:3"), ("REQUEST_METHOD", "GET")], Some(3), Some(3)),
        ] {
            let env = environment(variables);
            let port = |https| env.proxy_for(https, "a.example", 443).and_then(Url::port);
            assert_eq!((port(false), port(true)), (http, https), "{variables:?}");
        }
    }

    #[test]
    fn no_proxy_knows_hosts_suffixes_networks_ports_and_everything() {
        let no_proxy =
            "one.example, .two.example,*.three.example 10.0.0.0/8,192.168.1.1,[fd00::1]:5000,four.example:8443";
        let env = environment(&[("http_proxy", "p:1"), ("no_proxy", no_proxy)]);
        let direct = |host, port| env.proxy_for(false, host, port).is_none();
        for (host, port) in [
            ("one.example", 80),
            ("a.one.example", 80),
            ("ONE.example.", 80),
            ("x.two.example", 80),
            ("x.three.example", 80),
            ("10.1.2.3", 80),
            ("192.168.1.1", 80),
            ("[fd00::1]", 5000),
            ("four.example", 8443),
        ] {
            assert!(direct(host, port), "{host}:{port}");
        }
        for (host, port) in [
            ("notone.example", 80),
            ("one.example.org", 80),
            ("11.1.2.3", 80),
            ("[fd00::1]", 80),
            ("four.example", 443),
        ] {
            assert!(!direct(host, port), "{host}:{port}");
        }
        let none = environment(&[("http_proxy", "p:1"), ("NO_PROXY", "*")]);
        assert!(none.proxy_for(false, "a.example", 80).is_none());
    }

    #[test]
    fn loopback_is_never_proxied() {
        let env = environment(&[("all_proxy", "p:1")]);
        for host in ["localhost", "registry.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "LOCALHOST."] {
            assert!(env.proxy_for(false, host, 5000).is_none(), "{host}");
        }
        assert!(env.proxy_for(false, "10.0.0.1", 5000).is_some());
        assert!(env.proxy_for(false, "localhost.example", 5000).is_some());
    }
}
