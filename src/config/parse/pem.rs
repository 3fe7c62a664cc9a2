//! Files in PEM: certificates and private keys. The file is read to prove that it can be used;
//! the rooms that use it read it again, because it may change while lanyard runs.

use std::path::PathBuf;

use figment::value::Value;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::text;
use crate::runtime::read_file;

/// A file with at least one certificate.
pub(in crate::config) fn certificates(value: &Value) -> Result<PathBuf, String> {
    let path = PathBuf::from(text(value)?);
    let bytes = read_file(&path).map_err(|error| format!("the file cannot be read: {error}"))?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        certificate.map_err(|_| "the file is not PEM".to_owned())?;
        count += 1;
    }
    if count > 0 { Ok(path) } else { Err("the file holds no PEM certificate".to_owned()) }
}

/// A file with a private key that needs no passphrase.
pub(in crate::config) fn private_key(value: &Value) -> Result<PathBuf, String> {
    let path = PathBuf::from(text(value)?);
    let bytes = read_file(&path).map_err(|error| format!("the file cannot be read: {error}"))?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(_) => Ok(path),
        Err(_) => Err("the file holds no private key in PEM, or one with a passphrase".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn trust_anchors_are_pem_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let key = rcgen::generate_simple_self_signed(["a.lan".to_owned()]).unwrap();
        for (content, good) in [
            (key.cert.pem(), true),
            (key.signing_key.serialize_pem(), false),
            ("hello".to_owned(), false),
            ("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n".to_owned(), false),
        ] {
            fs::write(&path, &content).unwrap();
            assert_eq!(certificates(&Value::from(path.to_str().unwrap())).is_ok(), good, "{content}");
        }
    }
}
