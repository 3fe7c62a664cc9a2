//! `lanyard healthcheck`: one request to the running lanyard, for a container's health check.
//!
//! Promises:
//! - The exit code is 0 or 1, one line says why, and it takes no longer than [`PATIENCE`].
//! - The request goes to `listen` of the configuration. An unspecified address (`0.0.0.0`, `[::]`)
//!   is asked at loopback.
//! - Over TLS the server must show the very certificate of `tls.cert`, whatever names it has.
//!
//! States of the answer: ready, not ready, not lanyard's, none.

use std::{
    fmt,
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};

use super::{
    config_args::ConfigArgs,
    exit::{FAILED, fail_with, print},
};
use crate::config::Config;

/// How long all of it may take. Give a container's health check a longer timeout.
const PATIENCE: Duration = Duration::from_secs(3);

/// The most bytes of an answer that are read.
const MOST: u64 = 64 * 1024;

/// `lanyard healthcheck`
#[derive(Args, Debug)]
pub(super) struct Healthcheck {
    /// Only ask whether the process answers, not whether it is ready for clients
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// lanyard is not healthy, or cannot be asked.
#[derive(Debug, thiserror::Error)]
enum Unhealthy {
    #[error("the configuration has {0}; `lanyard config check` tells more")]
    Configuration(String),
    #[error("listen has port 0, so the port is not known here: give it with --listen")]
    AnyPort,
    #[error("tls.cert: {0}")]
    Certificate(#[from] rustls_pki_types::pem::Error),
    #[error("TLS cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error("nothing answers at {0}: {1}")]
    Silent(SocketAddr, io::Error),
    #[error("{0} answers {1}")]
    NotReady(SocketAddr, u16),
    #[error("what answers at {0} is not lanyard")]
    Stranger(SocketAddr),
}

/// The path of the request, and the body of a good answer.
#[derive(Clone, Copy)]
struct HealthRequest {
    target: &'static str,
    yes: &'static str,
}

impl Healthcheck {
    pub(super) fn run(self) -> ExitCode {
        let (target, yes) = if self.live { ("/livez", "ok") } else { ("/readyz", "ready") };
        match check(self.config, HealthRequest { target, yes }) {
            Ok(address) => print(&format!("{address} is {}\n", if self.live { "alive" } else { "ready" })),
            Err(error) => fail_with(FAILED, &format!("lanyard: {error}\n")),
        }
    }
}

fn check(config: ConfigArgs, request: HealthRequest) -> Result<SocketAddr, Unhealthy> {
    let config = config.load().map_err(|problems| {
        let noun = if problems.len() == 1 { "problem" } else { "problems" };
        Unhealthy::Configuration(format!("{} {noun}", problems.len()))
    })?;
    ask(&config.config, request)
}

/// Asks at the first address, and at the second if the first is silent. Returns the address whose
/// answer is good.
fn ask(config: &Config, request: HealthRequest) -> Result<SocketAddr, Unhealthy> {
    if config.listen.port() == 0 {
        return Err(Unhealthy::AnyPort);
    }
    let tls = config.tls.as_ref().map(|tls| pinned(&tls.cert)).transpose()?;
    let until = Instant::now() + PATIENCE;
    let (mut address, second) = addresses(config.listen);
    let mut answer = exchange(address, tls.clone(), request.target, until);
    if let (Err(_), Some(second)) = (&answer, second) {
        address = second;
        answer = exchange(address, tls, request.target, until);
    }
    let answer = answer.map_err(|error| Unhealthy::Silent(address, plain(error)))?;
    judged(address, &answer, request)
}

/// The addresses at which a server with this `listen` can be reached from its own machine. `[::]`
/// has two: it takes IPv4 too, also on a machine without IPv6 addresses.
fn addresses(listen: SocketAddr) -> (SocketAddr, Option<SocketAddr>) {
    let loopback = |ip: IpAddr| SocketAddr::new(ip, listen.port());
    let (v4, v6) = (loopback(Ipv4Addr::LOCALHOST.into()), loopback(Ipv6Addr::LOCALHOST.into()));
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (v4, None),
        IpAddr::V6(ip) if ip.is_unspecified() => (v6, Some(v4)),
        IpAddr::V4(_) | IpAddr::V6(_) => (listen, None),
    }
}

/// The address, if the answer has status 200 and the body that only lanyard sends.
fn judged(address: SocketAddr, answer: &[u8], request: HealthRequest) -> Result<SocketAddr, Unhealthy> {
    let answer = String::from_utf8_lossy(answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(Unhealthy::Stranger(address))?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    match status.ok_or(Unhealthy::Stranger(address))? {
        200 if body.trim_end() == request.yes => Ok(address),
        200 => Err(Unhealthy::Stranger(address)),
        status => Err(Unhealthy::NotReady(address, status)),
    }
}

/// The configuration of TLS; `None` for plain HTTP.
type PinnedTls = Option<Arc<ClientConfig>>;

/// Sends one request on a connection of its own. Returns all bytes of the answer.
fn exchange(address: SocketAddr, tls: PinnedTls, target: &str, until: Instant) -> io::Result<Vec<u8>> {
    let stream = TcpStream::connect_timeout(&address, left(until)?)?;
    let stream = Timed { stream, until };
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let Some(tls) = tls else { return said(stream, &request) };
    let name = ServerName::IpAddress(address.ip().into());
    let connection = ClientConnection::new(tls, name).map_err(io::Error::other)?;
    said(StreamOwned::new(connection, stream), &request)
}

/// Everything until the server closes. A close without the end of TLS (`close_notify`) ends an
/// answer too.
fn said(mut stream: impl Read + Write, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.take(MOST).read_to_end(&mut answer) {
        Err(error) if answer.is_empty() || error.kind() != ErrorKind::UnexpectedEof => Err(error),
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(_) | Err(_) => Ok(answer),
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Gives one message to a timeout, whichever call it ended.
fn plain(error: io::Error) -> io::Error {
    if error.kind() != ErrorKind::WouldBlock && error.kind() != ErrorKind::TimedOut {
        return error;
    }
    io::Error::new(ErrorKind::TimedOut, format!("no answer within {}", humantime::format_duration(PATIENCE)))
}

/// A socket whose reads and writes all end at `until`, however slowly the peer sends.
struct Timed {
    stream: TcpStream,
    until: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.until)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// TLS that accepts the first certificate of this file and no other.
fn pinned(cert: &Path) -> Result<Arc<ClientConfig>, Unhealthy> {
    let cert = CertificateDer::from_pem_file(cert)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Pinned { cert, provider: Arc::clone(&provider) });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
}

/// Trusts one certificate: that of the configuration. Names are not compared: the server is asked
/// by its address.
struct Pinned {
    cert: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pinned")
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match shown.as_ref() == self.cert.as_ref() {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
