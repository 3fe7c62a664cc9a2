//! TLS: which certificates are trusted (S19), that sessions resume, and that https does not become
//! http (S3).

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;

/// An authority of our own, written to a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "the test's authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, dir }
    }

    fn file(&self) -> std::path::PathBuf {
        Path::join(self.dir.path(), "ca.pem")
    }

    /// A server's configuration with a certificate for `name`, from this authority or signed by
    /// itself.
    fn server(&self, name: &str, expired: bool, self_signed: bool) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate =
            if self_signed { params.self_signed(&key) } else { params.signed_by(&key, &self.issuer) }.unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// A handshake's kind and protocol.
pub(super) type Handshakes = Arc<Mutex<Vec<(Option<HandshakeKind>, Option<Vec<u8>>)>>>;

pub(super) fn tls_server(
    config: Arc<ServerConfig>,
    script: impl Fn(usize, &mut Conn) + Send + Sync + 'static,
) -> (Server, Handshakes) {
    let handshakes = Handshakes::default();
    let log = handshakes.clone();
    let wrap = move |mut tcp: TcpStream| -> Option<Box<dyn Duplex>> {
        let mut connection = ServerConnection::new(config.clone()).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp).ok()?;
        }
        log.lock().unwrap().push((connection.handshake_kind(), connection.alpn_protocol().map(<[u8]>::to_vec)));
        Some(Box::new(Polite(StreamOwned::new(connection, tcp))))
    };
    (Server::wrapped(wrap, script), handshakes)
}

/// Ends TLS properly: the end that looks most like a complete body.
struct Polite(StreamOwned<ServerConnection, TcpStream>);

impl Read for Polite {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Polite {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.write(buf)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Drop for Polite {
    fn drop(&mut self) {
        self.0.conn.send_close_notify();
        let _ = self.0.flush();
    }
}

fn https(server: &Server, path: &str) -> Url {
    Url::parse(&format!("https://local.example:{}{path}", server.port())).unwrap()
}

#[tokio::test]
async fn a_ca_file_is_trusted_and_http_1_1_is_spoken() {
    let authority = Authority::new();
    let (server, handshakes) =
        tls_server(authority.server("local.example", false, false), |_, conn| conn.always(&ok("safe")));
    let fetchers = fetchers();
    let url = https(&server, "/");
    let fetcher =
        fetchers.fetcher(PeerSettings { ca_file: Some(authority.file()), ..peer_settings(url.clone()) }).unwrap();
    for _ in 0..2 {
        assert_eq!(fetch(&fetcher, get(url.clone())).await.unwrap(), b"safe");
    }
    assert_eq!(server.connections(), 1);
    assert_eq!(handshakes.lock().unwrap()[0].1.as_deref(), Some(&b"http/1.1"[..]));
    let host = format!("host: local.example:{}", server.port());
    assert!(server.heads()[0].to_ascii_lowercase().contains(&host));
}

#[tokio::test]
async fn s19_expired_wrong_host_and_self_signed_are_refused() {
    let authority = Authority::new();
    for (name, expired, self_signed, reason) in [
        ("local.example", true, false, "expired"),
        ("other.example", false, false, "another host"),
        ("local.example", false, true, "not signed by an authority"),
    ] {
        let (server, _) = tls_server(authority.server(name, expired, self_signed), |_, conn| conn.always(&ok("evil")));
        let fetchers = fetchers();
        let url = https(&server, "/");
        let fetcher =
            fetchers.fetcher(PeerSettings { ca_file: Some(authority.file()), ..peer_settings(url.clone()) }).unwrap();
        let error = fetch(&fetcher, get(url)).await.unwrap_err();
        assert!(matches!(&error, FetchError::Connect { reason: r, .. } if r.contains(reason)), "{error}");
        assert!(server.heads().is_empty());
    }
}

#[tokio::test]
async fn s19_an_authority_of_one_upstream_is_none_of_another() {
    let authority = Authority::new();
    let (server, _) = tls_server(authority.server("local.example", false, false), |_, conn| conn.always(&ok("x")));
    let fetchers = fetchers();
    let url = https(&server, "/");
    let trusting =
        fetchers.fetcher(PeerSettings { ca_file: Some(authority.file()), ..peer_settings(url.clone()) }).unwrap();
    let other = fetchers.fetcher(peer_settings(url.clone())).unwrap();
    assert_eq!(fetch(&trusting, get(url.clone())).await.unwrap(), b"x");
    assert!(matches!(fetch(&other, get(url)).await, Err(FetchError::Connect { .. })));
}

#[tokio::test]
async fn sessions_resume_across_connections_threads_and_upstreams() {
    let authority = Authority::new();
    let (server, handshakes) = tls_server(authority.server("local.example", false, false), |_, conn| {
        conn.head();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
        conn.wait_for_close();
    });
    let fetchers = fetchers();
    let url = https(&server, "/");
    for _ in 0..2 {
        let fetcher =
            fetchers.fetcher(PeerSettings { ca_file: Some(authority.file()), ..peer_settings(url.clone()) }).unwrap();
        assert_eq!(fetch(&fetcher, get(url.clone())).await.unwrap(), b"x");
    }
    let kinds: Vec<_> = handshakes.lock().unwrap().iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
}

#[tokio::test]
async fn s3_https_is_not_redirected_to_http() {
    let plain = Server::answering(ok("evil"));
    let location = plain.url("/").to_string();
    let authority = Authority::new();
    let (server, _) =
        tls_server(authority.server("local.example", false, false), move |_, conn| conn.always(&to(&location)));
    let fetchers = fetchers();
    let url = https(&server, "/");
    let fetcher =
        fetchers.fetcher(PeerSettings { ca_file: Some(authority.file()), ..peer_settings(url.clone()) }).unwrap();
    let error = fetch(&fetcher, get(url)).await.unwrap_err();
    assert!(matches!(error, FetchError::Redirect { .. }), "{error}");
    assert_eq!(plain.connections(), 0);
}

#[tokio::test]
async fn a_chunked_body_cut_short_is_broken_even_with_a_proper_goodbye() {
    let authority = Authority::new();
    let (server, _) = tls_server(authority.server("local.example", false, false), |_, conn| {
        conn.head();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    });
    let fetchers = fetchers();
    let url = https(&server, "/");
    let fetcher =
        fetchers.fetcher(PeerSettings { ca_file: Some(authority.file()), ..peer_settings(url.clone()) }).unwrap();
    assert!(matches!(fetch(&fetcher, get(url)).await, Err(FetchError::Broken { .. })));
}

#[tokio::test]
async fn a_silent_handshake_times_out() {
    let server = Server::start(|_, conn| assert!(conn.wait_for_close()));
    let mut settings = settings();
    settings.timeouts.handshake = Duration::from_millis(200);
    let fetchers = Fetchers::start_with(1, settings).unwrap();
    let url = https(&server, "/");
    let error = fetch(&fetchers.fetcher(peer_settings(url.clone())).unwrap(), get(url)).await.unwrap_err();
    assert!(matches!(error, FetchError::Timeout { what: "the TLS handshake", .. }), "{error}");
}
