//! Certificates that stand in `ca_file` themselves: trusted for their own names only.

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{secure::tls_server, *};

/// A certificate, its key, and the means to sign others.
struct Made {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
    key: PrivatePkcs8KeyDer<'static>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params
}

fn authority(name: &str) -> CertificateParams {
    with(params(name), |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
}

fn with(mut params: CertificateParams, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    change(&mut params);
    params
}

fn over(mut params: CertificateParams) -> CertificateParams {
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
    params
}

/// Signed by `by`, or by itself.
fn make(params: CertificateParams, by: Option<&Made>) -> Made {
    let key = KeyPair::generate().unwrap();
    let der = PrivatePkcs8KeyDer::from(key.serialize_der());
    let certificate = match by {
        Some(by) => params.signed_by(&key, &by.issuer),
        None => params.self_signed(&key),
    };
    Made { certificate: certificate.unwrap(), issuer: Issuer::new(params, key), key: der }
}

/// Shows a chain, whether or not the key fits.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn shows(chain: &[&Made], key: &Made, version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let signer = provider.key_provider.load_private_key(PrivateKeyDer::from(key.key.clone_key())).unwrap();
    let chain: Vec<CertificateDer<'static>> = chain.iter().map(|made| made.certificate.der().clone()).collect();
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let shown = Arc::new(Shown(Arc::new(CertifiedKey::new(chain, signer))));
    Arc::new(config.with_no_client_auth().with_cert_resolver(shown))
}

/// Connects to `host`. Returns the error, if there is one.
async fn connect(trusted: &[&Made], chain: &[&Made], key: &Made, host: &str) -> Option<String> {
    let mut told = Vec::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, trusted.iter().map(|made| made.certificate.pem()).collect::<String>()).unwrap();
        let (server, _) = tls_server(shows(chain, key, version), |_, conn| conn.always(&ok("safe")));
        let fetchers = fetchers();
        let url = Url::parse(&format!("https://{host}:{}/", server.port())).unwrap();
        let fetcher = fetchers.fetcher(PeerSettings { ca_file: Some(file), ..peer_settings(url.clone()) }).unwrap();
        let error = fetch(&fetcher, get(url)).await.err();
        if error.is_some() {
            assert!(server.heads().is_empty(), "nothing is sent to whom is not trusted");
        }
        told.push(error.map(|error| error.to_string()));
    }
    assert_eq!(told[0].is_some(), told[1].is_some(), "TLS 1.2 and 1.3 differ: {told:?}");
    told.swap_remove(0)
}

async fn accepted(what: &str, trusted: &[&Made], chain: &[&Made]) {
    let error = connect(trusted, chain, chain[0], "local.example").await;
    assert!(error.is_none(), "{what}: {error:?}");
}

async fn refused(what: &str, why: &str, trusted: &[&Made], chain: &[&Made]) {
    let error = connect(trusted, chain, chain[0], "local.example").await;
    assert!(error.as_ref().is_some_and(|error| error.contains(why)), "{what}: {error:?}");
}

const UNTRUSTED: &str = "not signed by an authority";

#[tokio::test]
async fn a_certificate_in_the_file_is_trusted_for_its_own_names() {
    let unsaid = make(with(params("local.example"), |params| params.is_ca = IsCa::NoCa), None);
    let no = make(params("local.example"), None);
    let yes = make(authority("local.example"), None);
    let many = make(CertificateParams::new(vec!["x.example".to_owned(), "local.example".to_owned()]).unwrap(), None);
    for (what, made) in [("nothing said", &unsaid), ("CA:FALSE", &no), ("CA:TRUE", &yes), ("two names", &many)] {
        accepted(what, &[made], &[made]).await;
        accepted(what, &[&make(authority("other"), None), made, &no], &[made]).await;
        // Not by similar ones, and not under another name.
        refused(what, UNTRUSTED, &[&make(params("local.example"), None)], &[&no]).await;
        assert!(connect(&[made], &[made], made, "localhost").await.unwrap().contains("another host"), "{what}");
    }
    let wrong = make(params("other.example"), None);
    refused("another name", "another host", &[&wrong], &[&wrong]).await;
    let address = make(CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap(), None);
    assert_eq!(connect(&[&address], &[&address], &address, "127.0.0.1").await, None);
    refused("an address alone", "another host", &[&address], &[&address]).await;
}

#[tokio::test]
async fn dates_purposes_and_keys_count_for_it_too() {
    for params in [params as fn(&str) -> CertificateParams, authority] {
        let over = make(over(params("local.example")), None);
        refused("over", "expired", &[&over], &[&over]).await;
        let year = rcgen::date_time_ymd(4000, 1, 1);
        let to_come = make(with(params("local.example"), |params| params.not_before = year), None);
        refused("to come", "not valid yet", &[&to_come], &[&to_come]).await;
        let purposes = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client = make(with(params("local.example"), |params| params.extended_key_usages = purposes), None);
        refused("for clients", "not accepted", &[&client], &[&client]).await;
        let (pinned, thief) = (make(params("local.example"), None), make(params("local.example"), None));
        let error = connect(&[&pinned], &[&pinned], &thief, "local.example").await;
        assert!(error.is_some(), "a server without the key is refused");
    }
}

#[tokio::test]
async fn what_a_certificate_that_is_no_authority_has_signed_is_refused() {
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
        for signer_of_pinned in [None, Some(make(authority("somebody"), None))] {
            let pinned = with(params("local.example"), |params| params.is_ca = is_ca);
            let pinned = make(pinned, signer_of_pinned.as_ref());
            accepted("itself", &[&pinned], &[&pinned]).await;
            let signed = make(params("local.example"), Some(&pinned));
            let false_authority = make(authority("local.example"), Some(&pinned));
            let deep = make(params("local.example"), Some(&false_authority));
            let long = [&deep, &false_authority, &pinned];
            for chain in [&[&signed][..], &[&signed, &pinned], &long, &long[..2]] {
                let error = connect(&[&pinned], chain, chain[0], "local.example").await;
                assert!(error.is_some(), "{} links below a leaf are accepted", chain.len());
            }
            refused("signed by a leaf", UNTRUSTED, &[&pinned], &[&signed]).await;
            // An authority beside it changes nothing.
            let other = make(authority("other"), None);
            for chain in [&[&signed][..], &[&signed, &pinned]] {
                assert!(connect(&[&other, &pinned], chain, chain[0], "local.example").await.is_some());
            }
        }
    }
    // Another certificate of the same issuer in the file does not make it trusted.
    let somebody = make(authority("somebody"), None);
    let (one, other) = (make(params("local.example"), Some(&somebody)), make(params("local.example"), Some(&somebody)));
    accepted("itself", &[&one], &[&one, &somebody]).await;
    refused("its sibling", UNTRUSTED, &[&one], &[&other, &somebody]).await;
}

#[tokio::test]
async fn authorities_are_trusted_as_before() {
    let root = make(authority("the root"), None);
    let between = make(authority("between"), Some(&root));
    let leaf = make(params("local.example"), Some(&between));
    let direct = make(params("local.example"), Some(&root));
    accepted("a root and its leaf", &[&root], &[&direct]).await;
    accepted("a chain", &[&root], &[&leaf, &between]).await;
    accepted("a chain with its root", &[&root], &[&leaf, &between, &root]).await;
    refused("a chain with a gap", UNTRUSTED, &[&root], &[&leaf]).await;
    accepted("an intermediate", &[&between], &[&leaf]).await;
    accepted("an intermediate", &[&between], &[&leaf, &between]).await;
    refused("beside an intermediate", UNTRUSTED, &[&between], &[&direct]).await;
    let other = make(authority("other"), None);
    accepted("a bundle", &[&other, &between, &root], &[&leaf, &between]).await;
    accepted("a bundle", &[&other, &root, &direct], &[&direct]).await;
    let wrong = make(params("other.example"), Some(&root));
    refused("another name", "another host", &[&root], &[&wrong]).await;
    refused("over", "expired", &[&root], &[&make(over(params("local.example")), Some(&root))]).await;
    // Its own authority, but not in the file.
    let unknown = make(authority("local.example"), None);
    refused("an authority that shows itself", "ca_file", &[&root], &[&unknown]).await;
}
