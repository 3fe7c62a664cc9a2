//! The certificates of servers that are accepted: those that lead to a trust anchor, and those that
//! stand in `ca_file` themselves.
//!
//! A certificate in `ca_file` that is an authority (`CA:TRUE`) is an anchor. Each certificate
//! there, an authority or not, is also accepted from a server as it is: for its names, within its
//! dates, and if it may stand for a server. One that is no authority is accepted for nothing else:
//! certificates that its key has signed are refused. In every case the handshake's signature proves
//! that the server has the key.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::certificate::{CertificateFacts, Life};

/// The verifier for one set of anchors.
#[derive(Debug)]
pub(super) struct Verifier {
    chains: Arc<WebPkiServerVerifier>,
    pinned: Vec<(CertificateDer<'static>, CertificateFacts)>,
}

impl Verifier {
    /// `pinned` are the certificates of `ca_file`. Those that are authorities stand in `roots` too.
    pub(super) fn new(
        roots: RootCertStore,
        pinned: Vec<(CertificateDer<'static>, CertificateFacts)>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let chains = chains.map_err(|error| Error::General(error.to_string()))?;
        Ok(Verifier { chains, pinned })
    }
}

fn verify_pinned(
    certificate: &CertificateDer<'_>,
    facts: &CertificateFacts,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    match facts.life(now) {
        Life::ToCome => return Err(CertificateError::NotValidYet.into()),
        Life::Over => return Err(CertificateError::Expired.into()),
        Life::Now => {}
    }
    if !facts.is_for_servers {
        return Err(CertificateError::InvalidPurpose.into());
    }
    // The parser refuses a certificate with an unknown critical extension.
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
    Ok(ServerCertVerified::assertion())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.pinned.iter().find(|(pinned, _)| pinned == end_entity) {
            Some((pinned, facts)) => verify_pinned(pinned, facts, server_name, now),
            None => self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
