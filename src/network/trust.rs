//! The certificates that lanyard trusts (S19): TLS 1.2 or newer, chain and host name checked. No
//! setting switches that off.
//!
//! The trust anchors are the system's. A system without any (a scratch image) gets Mozilla's list.
//! A `ca_file` adds to them (`verifier.rs`). All peers with the same anchors share one
//! `ClientConfig`, so that sessions resume.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{CertificateError, ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{certificate::CertificateFacts, verifier::Verifier};

/// Why there is no configuration for some trust anchors.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file is missing, unreadable, or holds no certificate.
    #[error("ca_file {path}: {source}", path = path.display())]
    CaFile {
        /// The path as configured.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The TLS library refuses its own defaults.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The configurations made so far, by their additional anchors.
#[derive(Default)]
pub(crate) struct Trust {
    base: Option<RootCertStore>,
    configs: BTreeMap<Vec<Vec<u8>>, Arc<ClientConfig>>,
}

impl Trust {
    /// The configuration for a peer. Reads `ca_file` now.
    pub(crate) fn config(&mut self, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TrustError> {
        let mut extra = match ca_file {
            Some(path) => read_anchors(path)?,
            None => Vec::new(),
        };
        extra.sort();
        extra.dedup();
        if let Some(config) = self.configs.get(&extra) {
            return Ok(config.clone());
        }
        let mut roots = self.base.get_or_insert_with(base_roots).clone();
        let mut pinned = Vec::with_capacity(extra.len());
        for anchor in &extra {
            let named =
                |source: io::Error| TrustError::CaFile { path: ca_file.map(PathBuf::from).unwrap_or_default(), source };
            let anchor = CertificateDer::from(anchor.clone());
            let facts = CertificateFacts::read(&anchor)
                .ok_or_else(|| named(io::Error::other("one of its certificates is malformed")))?;
            if facts.is_authority {
                roots.add(anchor.clone()).map_err(|error| named(io::Error::other(error)))?;
            }
            pinned.push((anchor, facts));
        }
        let config = Arc::new(client_config(roots, pinned)?);
        self.configs.insert(extra, config.clone());
        Ok(config)
    }
}

fn client_config(
    roots: RootCertStore,
    pinned: Vec<(CertificateDer<'static>, CertificateFacts)>,
) -> Result<ClientConfig, TrustError> {
    // Name the provider here: other code of the process may have installed another one.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier::new(roots, pinned, Arc::clone(&provider))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn base_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "some of the system's certificates could not be read");
    }
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        tracing::info!("the system has no certificates: Mozilla's list is used");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn read_anchors(path: &Path) -> Result<Vec<Vec<u8>>, TrustError> {
    let named = |source: io::Error| TrustError::CaFile { path: path.to_owned(), source };
    let text = fs::read(path).map_err(named)?;
    let mut anchors = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        anchors.push(certificate.map_err(|error| named(io::Error::other(error)))?.to_vec());
    }
    if anchors.is_empty() {
        return Err(named(io::Error::new(io::ErrorKind::InvalidData, "there is no PEM certificate in it")));
    }
    Ok(anchors)
}

/// A failed handshake in words that tell the operator where to look.
pub(crate) fn explain(error: &io::Error) -> String {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return format!("the TLS handshake failed: {error}");
    };
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired".into(),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another host".into()
            }
            CertificateError::UnknownIssuer => {
                "its certificate is not signed by an authority that is trusted here (see ca_file)".into()
            }
            // webpki's name for a server that shows a certificate with CA:TRUE.
            other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                "its certificate is its own authority, and is trusted only if ca_file holds it".into()
            }
            other => format!("its certificate is not accepted: {other}"),
        },
        other => format!("the TLS handshake failed: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> String {
        rcgen::generate_simple_self_signed(vec!["a.example".into()]).unwrap().cert.pem()
    }

    #[test]
    fn equal_anchors_share_one_config() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (a, b) = (pem(), pem());
        fs::write(path("ab"), format!("{a}{b}")).unwrap();
        fs::write(path("ba"), format!("{b}{a}{a}")).unwrap();
        fs::write(path("a"), a).unwrap();
        let mut trust = Trust::default();
        let ab = trust.config(Some(&path("ab"))).unwrap();
        assert!(Arc::ptr_eq(&ab, &trust.config(Some(&path("ba"))).unwrap()));
        assert!(!Arc::ptr_eq(&ab, &trust.config(Some(&path("a"))).unwrap()));
        assert!(Arc::ptr_eq(&trust.config(None).unwrap(), &trust.config(None).unwrap()));
        assert_eq!(ab.alpn_protocols, [b"http/1.1".to_vec()]);
    }

    #[test]
    fn a_bad_ca_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty.pem");
        fs::write(&path, "nothing here").unwrap();
        for path in [path, dir.path().join("missing.pem")] {
            let error = Trust::default().config(Some(&path)).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }
}
