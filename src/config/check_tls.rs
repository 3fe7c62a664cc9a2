//! From `[tls]` to the certificate that lanyard shows.

use std::{fs, path::PathBuf};

use figment::value::Value;
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};

use super::{
    Tls,
    check_upstream::has_certificates,
    reader::{Reader, Scope, text},
};

/// Both files, or neither.
pub(super) fn tls(reader: &mut Reader<'_>, table: &mut Scope<'_>) -> Option<Tls> {
    let cert = reader.take(table, "cert", |value| {
        let path = PathBuf::from(text(value)?);
        has_certificates(&path).map(|()| path)
    });
    let key = reader.take(table, "key", key);
    for (present, missing) in [("cert", "key"), ("key", "cert")] {
        if let (Some(value), None) = (table.get(present), table.get(missing)) {
            let path = table.path(present);
            reader.problem(reader.source(value, &path), path, format!("needs tls.{missing} beside it"));
        }
    }
    Some(Tls { cert: cert?, key: key? })
}

fn key(value: &Value) -> Result<PathBuf, String> {
    let path = PathBuf::from(text(value)?);
    let bytes = fs::read(&path).map_err(|error| format!("the file cannot be read: {error}"))?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(_) => Ok(path),
        Err(_) => Err("the file holds no private key in PEM, or one with a passphrase".to_owned()),
    }
}
