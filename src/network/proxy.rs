//! A tunnel through an HTTP proxy: `CONNECT`, for https and for http targets (RFC 9110 section
//! 9.3.6).
//!
//! Because http targets use a tunnel too, no proxy sees a request, a header or a credential for a
//! target. The proxy resolves names, so lanyard cannot check the address behind a name then, only
//! addresses in numbers.

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

/// The longest head of an answer that is read, in bytes.
const LONGEST_HEAD: usize = 8 * 1024;

/// A proxy, and the credentials for it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Name or address.
    pub(crate) host: String,
    /// 80 if the URL has no port.
    pub(crate) port: u16,
    authorization: Option<String>,
}

impl Proxy {
    /// Reads `http://[user:password@]host[:port]`. `None` for any other form.
    pub(crate) fn of(url: &Url) -> Option<Proxy> {
        if url.scheme() != "http" {
            return None;
        }
        let authorization = (!url.username().is_empty()).then(|| {
            let password = percent_decode_str(url.password().unwrap_or_default());
            let pair: Vec<u8> = percent_decode_str(url.username()).chain([b':']).chain(password).collect();
            format!("Basic {}", STANDARD.encode(pair))
        });
        Some(Proxy { host: url.host_str()?.to_owned(), port: url.port_or_known_default()?, authorization })
    }

    /// Turns a connection to the proxy into one to `target` (host and port). Errors name the proxy
    /// without its password.
    pub(crate) async fn tunnel(&self, stream: &mut TcpStream, target: &str) -> io::Result<()> {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        request.push_str(concat!("User-Agent: lanyard/", env!("CARGO_PKG_VERSION"), "\r\n"));
        if let Some(authorization) = &self.authorization {
            request.push_str("Proxy-Authorization: ");
            request.push_str(authorization);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::with_capacity(512);
        while !head.ends_with(b"\r\n\r\n") {
            // Read one byte at a time: the bytes after the head belong to the target. The head is
            // short and comes once per connection.
            let mut byte = [0];
            if head.len() >= LONGEST_HEAD || stream.read(&mut byte).await? == 0 {
                return Err(self.failure("did not answer CONNECT"));
            }
            head.push(byte[0]);
        }
        match head.split(|&byte| byte == b' ').nth(1) {
            Some(code) if head.starts_with(b"HTTP/1.") && code.len() == 3 && code.starts_with(b"2") => Ok(()),
            Some(b"407") => Err(self.failure("asks for other credentials")),
            Some(b"403") => Err(self.failure("forbids this target")),
            _ => Err(self.failure("could not connect to the target")),
        }
    }

    fn failure(&self, what: &str) -> io::Error {
        io::Error::other(format!("the proxy {}:{} {what}", self.host, self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_userinfo_becomes_basic_authorization() {
        let proxy = Proxy::of(&Url::parse("http://a%40b:p%3Aw%25@proxy.example:3128").unwrap()).unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example", 3128));
        assert_eq!(proxy.authorization, Some(format!("Basic {}", STANDARD.encode("a@b:p:w%"))));
        let plain = Proxy::of(&Url::parse("http://proxy.example").unwrap()).unwrap();
        assert_eq!((plain.port, plain.authorization), (80, None));
        assert!(Proxy::of(&Url::parse("socks5://proxy.example:1080").unwrap()).is_none());
    }
}
