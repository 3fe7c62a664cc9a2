//! The stand-in's TLS, proxy, dead addresses and real images.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::hub::proxy::Proxy;
use crate::hub::silent::{Refusing, Silent};
use crate::hub::{Cut, Entry, Fault, Flaw, Hub, On};
use crate::raw::{finish, request};

/// Sends one request over TLS, trusting this authority. Returns all bytes that came, or the reason
/// of the failure.
fn over_tls(address: SocketAddr, pem: &str, path: &str) -> io::Result<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut tls = StreamOwned::new(session, TcpStream::connect(address)?);
    tls.write_all(request("GET", path, &[], true).as_bytes())?;
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer)?;
    Ok(answer)
}

#[test]
fn tls_is_good_or_flawed_as_asked_for() {
    let hub = Hub::builder().open().tls().start();
    assert!(hub.url().starts_with("https://"));
    assert!(over_tls(hub.address(), hub.ca_pem(), "/v2/").unwrap().starts_with(b"HTTP/1.1 200"));
    for (flaw, word) in
        [(Flaw::Expired, "expired"), (Flaw::WrongHost, "not valid for name"), (Flaw::SelfSigned, "UnknownIssuer")]
    {
        let hub = Hub::builder().open().tls_flawed(flaw).start();
        let error = over_tls(hub.address(), hub.ca_pem(), "/v2/").unwrap_err().to_string();
        assert!(error.contains(word), "{flaw:?}: {error}");
    }
}

#[test]
fn tls_is_cut_without_close_notify() {
    let hub = Hub::builder().open().without_cdn().tls().start();
    let digest = hub.put_blob(vec![7; 1000]);
    let path = format!("/v2/a/b/blobs/{digest}");
    hub.fault(On::blob(&digest), Fault::CutAfter { bytes: 10, how: Cut::Fin });
    let error = over_tls(hub.address(), hub.ca_pem(), &path).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(over_tls(hub.address(), hub.ca_pem(), &path).is_ok());
    let hub = Hub::builder().open().tls().without_close_notify().start();
    assert!(over_tls(hub.address(), hub.ca_pem(), "/v2/").is_err());
}

#[test]
fn the_proxy_counts_tunnels_and_asks_for_its_login() {
    let hub = Hub::builder().open().start();
    let proxy = Proxy::start().with_login("mary", "secret").lead("registry.example.test:80", hub.address());
    let ask = |login: &str, target: &str| {
        let mut tcp = TcpStream::connect(proxy.url().trim_start_matches("http://")).unwrap();
        write!(tcp, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n").unwrap();
        tcp
    };
    let login = "Proxy-Authorization: Basic bWFyeTpzZWNyZXQ=\r\n";
    let refused = finish(&mut ask("", "registry.example.test:80"));
    assert_eq!((refused.status, refused.header("proxy-authenticate")), (407, "Basic realm=\"proxy\""));
    let mut tunnel = ask(login, "registry.example.test:80");
    let mut established = [0; 39];
    tunnel.read_exact(&mut established).unwrap();
    tunnel.write_all(request("GET", "/v2/", &[], true).as_bytes()).unwrap();
    assert_eq!(finish(&mut tunnel).status, 200);
    assert_eq!(finish(&mut ask(login, "elsewhere.example.test:80")).status, 502);
    proxy.refuse_with(Some(403));
    assert_eq!(finish(&mut ask(login, "registry.example.test:80")).status, 403);
    assert_eq!((proxy.tunnels(), proxy.asked().len()), (1, 4));
    assert!(proxy.bytes_down() > 100);
}

#[test]
fn dead_addresses_refuse_or_stay_silent() {
    let silent = Silent::start();
    let error = TcpStream::connect_timeout(&silent.address(), Duration::from_millis(200)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let refusing = Refusing::start();
    let error = TcpStream::connect(refusing.address()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn real_images_are_copied_by_skopeo_and_served_again_from_its_layout() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        crate::faults::left_out("skopeo is not installed (Debian package skopeo)");
        return;
    }
    let hub = Hub::start();
    let platforms = ["linux/amd64", "linux/arm64"];
    let files = vec![Entry::file("etc/motd", "hello\n"), Entry::program("bin/run", "#!/bin/sh\n")];
    let image = hub.image("library/real", "1").files(files).real_layer(100_000).platforms(&platforms).oci().publish();
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    let source = format!("docker://{}/library/real:1", hub.address());
    let run = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--all", "--preserve-digests", "--src-tls-verify=false", &source])
        .arg(format!("oci:{}:1", layout.display()))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(hub.any_blob_gets(), 5, "two configurations, two first layers and one that both share");
    let second = Hub::builder().open().start();
    assert_eq!(second.load_oci_layout(&layout, "library/again", "1").unwrap(), image.digest);
    assert_eq!(second.blob(image.layer(1)), hub.blob(image.layer(1)));
}
