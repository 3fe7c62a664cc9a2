//! The certificate that lanyard shows, and its replacement while connections go on.
//!
//! The files are looked at when a client connects, at most every few seconds. A changed certificate
//! counts for new connections; the others keep theirs. Files that cannot be read, or do not belong
//! together, change nothing, and the log says once what is wrong. TLS 1.2 and 1.3, HTTP/1.1 only;
//! aws-lc-rs does the arithmetic.

use std::{io, path::Path, sync::Arc, time::Duration};

use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert, ServerSessionMemoryCache},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};

use crate::{
    config::Tls,
    runtime::{BlockingPool, FileWatch, Reading, read_file},
};

/// How long a look at the files counts.
const FRESH: Duration = Duration::from_secs(5);

/// The number of sessions that can be resumed.
const SESSIONS: usize = 8_192;

/// Why there is no certificate to show, in one line. It never quotes a file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{0} cannot be read: {1}")]
    Io(String, io::Error),
    /// A file is malformed.
    #[error("{0} is malformed: {1}")]
    Pem(String, rustls_pki_types::pem::Error),
    /// The two files do not belong together, or cannot be used.
    #[error("the certificate cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
}

/// See the module.
#[derive(Debug)]
pub struct Certificate {
    files: Tls,
    provider: Arc<CryptoProvider>,
    shown: RwLock<Arc<CertifiedKey>>,
    watch: FileWatch,
}

impl Certificate {
    /// Reads the files for the first time. They are read again on `pool`.
    ///
    /// # Errors
    /// A file cannot be read, or the two are not a certificate and its key.
    pub fn open(files: &Tls, pool: BlockingPool) -> Result<Arc<Certificate>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let watch = FileWatch::new(&[&files.cert, &files.key], FRESH, pool);
        let shown = RwLock::new(Arc::new(read(files, &provider)?));
        Ok(Arc::new(Certificate { files: files.clone(), provider, shown, watch }))
    }

    /// The configuration that secures connections with it.
    pub(crate) fn config(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut config =
            builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        Ok(config)
    }

    /// Whether the current certificate is valid for this host name.
    pub(crate) fn names(&self, host: &str) -> bool {
        let shown = Arc::clone(&self.shown.read());
        let (Some(first), Ok(host)) = (shown.cert.first(), ServerName::try_from(host)) else { return false };
        let parsed = ParsedCertificate::try_from(first);
        parsed.is_ok_and(|parsed| verify_server_name(&parsed, &host).is_ok())
    }

    /// Reads the files again if they have changed and the last look is some seconds old. Takes a
    /// second at most.
    pub(crate) async fn refresh(self: &Arc<Self>) {
        if self.watch.is_due() {
            self.look().await;
        }
    }

    async fn look(self: &Arc<Self>) {
        let certificate = Arc::clone(self);
        self.watch.look(false, move || certificate.read_again()).await;
    }

    /// Blocking. Files that could not be read are read again at the next look; malformed ones when
    /// they have changed.
    fn read_again(&self) -> Reading {
        match read(&self.files, &self.provider) {
            Ok(shown) => {
                tracing::info!(file = %self.files.cert.display(), "the certificate has changed");
                *self.shown.write() = Arc::new(shown);
                Reading::Known
            }
            Err(error) => {
                tracing::warn!("the certificate stays as it was: {error}");
                if matches!(error, TlsError::Io(..)) { Reading::Again } else { Reading::Known }
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown.read()))
    }
}

fn read(files: &Tls, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let name = |path: &Path| path.display().to_string();
    let bytes = |path: &Path| read_file(path).map_err(|error| TlsError::Io(name(path), error));
    let malformed = |path: &Path| {
        let name = name(path);
        move |error| TlsError::Pem(name, error)
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(&files.cert)?).collect();
    let key = PrivateKeyDer::from_pem_slice(&bytes(&files.key)?).map_err(malformed(&files.key))?;
    let chain = chain.map_err(malformed(&files.cert))?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(folder: &Path, made: &rcgen::CertifiedKey<rcgen::KeyPair>, with: &str) {
        fs::write(folder.join("cert"), made.cert.pem()).unwrap();
        fs::write(folder.join("key"), with).unwrap();
    }

    #[tokio::test]
    async fn what_is_wrong_changes_nothing_and_what_is_right_does() {
        let folder = tempfile::tempdir().unwrap();
        let files = Tls { cert: folder.path().join("cert"), key: folder.path().join("key") };
        let pool = || BlockingPool::new(tokio::runtime::Handle::current(), 1);
        let made = || rcgen::generate_simple_self_signed(["registry.lan".to_owned()]).unwrap();
        let (first, second) = (made(), made());
        assert!(matches!(Certificate::open(&files, pool()), Err(TlsError::Io(..))));
        write(folder.path(), &first, "canary");
        assert!(!Certificate::open(&files, pool()).unwrap_err().to_string().contains("canary"));
        write(folder.path(), &first, &second.signing_key.serialize_pem());
        assert!(matches!(Certificate::open(&files, pool()), Err(TlsError::Rustls(_))), "they do not belong together");
        write(folder.path(), &first, &first.signing_key.serialize_pem());
        let certificate = Certificate::open(&files, pool()).unwrap();
        let shown = || certificate.shown.read().cert[0].clone();
        assert_eq!(shown(), *first.cert.der());
        write(folder.path(), &second, "canary");
        certificate.look().await;
        assert_eq!(shown(), *first.cert.der(), "half a change is none");
        write(folder.path(), &second, &second.signing_key.serialize_pem());
        certificate.look().await;
        assert_eq!(shown(), *second.cert.der());
    }
}
