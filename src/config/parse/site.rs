//! Values about the place of lanyard in the network: its addresses, its names, its URL, and the
//! proxies in front of it.

use std::net::{IpAddr, SocketAddr};

use figment::value::Value;
use ipnet::IpNet;
use url::Url;

use super::text;

/// An address and a port to listen on.
pub(in crate::config) fn address(value: &Value) -> Result<SocketAddr, String> {
    let text = text(value)?;
    text.parse().map_err(|_| {
        format!("{text:?} is not an address and port such as \"0.0.0.0:5000\", \"127.0.0.1:5000\" or \"[::]:5000\"")
    })
}

/// A host name as it is compared: in lower case, without the dot at its end.
pub(in crate::config) fn host_name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        let part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        !label.is_empty() && label.len() <= 63 && label.bytes().all(part)
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(name);
    }
    Err(format!("{text:?} is not a host name alone, such as \"registry.example.com\": no scheme, port, path or *"))
}

/// A URL of nothing but scheme, host and port.
pub(in crate::config) fn public_url(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    let wrong =
        || format!("{text:?} is not a URL such as \"https://registry.example.com\": scheme, host and port alone");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.path() == "/";
    // A challenge to sign in has the URL between quotes.
    let part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    let host = url.host_str().is_some_and(|host| !host.is_empty() && host.bytes().all(part));
    if !plain || !host || !matches!(url.scheme(), "http" | "https") {
        return Err(wrong());
    }
    Ok(url.origin().ascii_serialization())
}

/// An address, or a network of them.
pub(in crate::config) fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    address.or_else(|_| text.parse::<IpNet>().map(|net| net.trunc())).map_err(|_| {
        format!("{text:?} is not an address or a network such as \"10.0.0.5\", \"10.0.0.0/24\" or \"fd00::/8\"")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_alone() {
        for (text, expected) in [
            ("registry.lan", "registry.lan"),
            ("Registry.LAN.", "registry.lan"),
            ("a_b-1", "a_b-1"),
            ("10.0.0.5", "10.0.0.5"),
        ] {
            assert_eq!(host_name(text).as_deref(), Ok(expected));
        }
        for text in ["", ".", "a..b", "https://x", "x:5000", "x/y", "*.lan", "a b", "user@x", "[::1]", "\u{e4}.lan"] {
            assert!(host_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_public_url_is_scheme_host_and_port() {
        let read = |text: &str| public_url(&Value::from(text));
        for (text, expected) in [
            ("https://registry.example.com", "https://registry.example.com"),
            ("https://Registry.example.com/", "https://registry.example.com"),
            ("https://registry.example.com:443", "https://registry.example.com"),
            ("http://registry.lan:8080", "http://registry.lan:8080"),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected));
        }
        for text in [
            "",
            "registry.example.com",
            "registry.example.com:443",
            "ftp://x",
            "https://x/v2",
            "https://x/?a",
            "https://x#a",
            "https://user@x",
            "https://u:p@x",
            "https://",
            "https://a\"b",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_are_addresses_too() {
        let holds = |text: &str, address: &str| network(text).unwrap().contains(&address.parse::<IpAddr>().unwrap());
        assert!(holds("10.0.0.5", "10.0.0.5") && !holds("10.0.0.5", "10.0.0.6"));
        assert!(holds("10.0.0.5/24", "10.0.0.9") && !holds("10.0.0.5/24", "10.0.1.9"));
        assert!(holds("::ffff:10.0.0.5", "10.0.0.5") && holds("::1", "::1") && holds("fd00::/8", "fd12::1"));
        for text in ["", "x", "10.0.0", "10.0.0.0/33", "10.0.0.1:80", "proxy.lan", "*"] {
            assert!(network(text).is_err(), "{text}");
        }
    }
}
