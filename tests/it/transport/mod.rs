//! The effects of a connection on the registry, and on other clients: pipelines, handshakes, bodies
//! and answers that never end.

mod held;
mod late;
mod memory;
mod pipelines;
mod reader;

use std::{fs, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::{faults::left_out, lanyard::Lanyard};

use self::reader::{Answer, Reader};

/// A client's stream, plain or secured.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A lanyard without upstreams, and the way in which its clients connect.
struct Served {
    lanyard: Lanyard,
    tls: Option<Arc<ClientConfig>>,
    _files: tempfile::TempDir,
}

impl Served {
    /// Starts one, lets `prepare` fill it over plain HTTP, and secures it if `secured`.
    fn start<T>(more: &str, secured: bool, prepare: impl FnOnce(&Lanyard) -> T) -> (Served, T) {
        Served::start_through(&[], more, secured, prepare)
    }

    /// The same through a program that becomes the server.
    fn start_through<T>(
        through: &[&str],
        more: &str,
        secured: bool,
        prepare: impl FnOnce(&Lanyard) -> T,
    ) -> (Served, T) {
        let files = tempfile::tempdir().unwrap();
        let config = format!("mode = \"offline\"\n{more}");
        let mut lanyard = Lanyard::prepare(&config);
        lanyard.through(through);
        lanyard.restart();
        let prepared = prepare(&lanyard);
        let tls = secured.then(|| {
            let tls = certificate(files.path());
            let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
            lanyard.reconfigure(&format!("{config}\n[tls]\ncert = {cert:?}\nkey = {key:?}\n"));
            lanyard.restart();
            tls
        });
        (Served { lanyard, tls, _files: files }, prepared)
    }

    async fn connect(&self) -> Box<dyn Stream> {
        self.try_connect().await.unwrap()
    }

    async fn try_connect(&self) -> std::io::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect(("127.0.0.1", self.lanyard.port())).await?;
        tcp.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = "localhost".try_into().unwrap();
                Box::new(TlsConnector::from(Arc::clone(config)).connect(name, tcp).await?)
            }
        })
    }
}

/// Writes a certificate for `localhost` into the folder. Returns the configuration of a client that
/// trusts only it.
fn certificate(folder: &Path) -> Arc<ClientConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(made.cert.der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A runtime for clients.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Whether this process, and so the servers that it starts, may have this many descriptors. Says so
/// if not.
fn descriptors(count: u64) -> bool {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum.or(Some(1 << 20));
    let enough =
        setrlimit(Resource::Nofile, limit).is_ok() && getrlimit(Resource::Nofile).current.is_none_or(|n| n >= count);
    if !enough {
        left_out("so many connections need more descriptors than this user may have");
    }
    enough
}

/// One request without a body on a connection of its own.
async fn ask(served: &Served, method: &str, path: &str) -> Result<Answer, String> {
    let mut stream = served.try_connect().await.map_err(|error| error.to_string())?;
    let text = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n\r\n", served.lanyard.host());
    stream.write_all(text.as_bytes()).await.map_err(|error| error.to_string())?;
    Reader::new(stream).answer(method).await?.ok_or_else(|| "no answer".to_owned())
}

/// How many requests are in progress, this one included.
fn in_flight(served: &Served, runtime: &tokio::runtime::Runtime) -> usize {
    let metrics = runtime.block_on(ask(served, "GET", "/metrics")).unwrap();
    let text = String::from_utf8(metrics.body).unwrap();
    let line = text.lines().find(|line| line.starts_with("lanyard_requests_in_flight")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
