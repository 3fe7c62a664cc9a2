//! Secret keys of 32 random bytes: for tokens, and for remembered passwords.
//!
//! A key lives as long as the process, or in a file that only its owner can read.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use aws_lc_rs::hmac;

pub(super) const LENGTH: usize = 32;

/// A secret key. It has no `Debug`, so no log shows it.
pub(super) struct SecretKey([u8; LENGTH]);

impl SecretKey {
    /// A new random key, which ends with the process.
    pub(super) fn fresh() -> SecretKey {
        SecretKey(rand::random())
    }

    /// The key in the file at `path`. A missing file is made, readable to its owner only.
    ///
    /// The key is kept so that a token outlives a restart: a client in the middle of a push goes on
    /// with the token that it has. If the file cannot be used, a restart ends the tokens, and
    /// nothing else fails.
    pub(super) fn kept(path: &Path) -> SecretKey {
        match read(path) {
            Ok(Some(key)) => return key,
            Ok(None) => {}
            Err(error) => tracing::warn!(file = %path.display(), "cannot read the key that signs tokens: {error}"),
        }
        let key = SecretKey::fresh();
        if let Err(error) = key.keep(path) {
            tracing::warn!(file = %path.display(), "cannot keep the key that signs tokens, so a restart ends them: {error}");
        }
        key
    }

    pub(super) fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }

    fn keep(&self, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("key.new");
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&self.0)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    }
}

/// `None`: the file is missing or holds no key.
fn read(path: &Path) -> io::Result<Option<SecretKey>> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes.try_into().ok().map(SecretKey)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_kept_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.key");
        let first = SecretKey::kept(&path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SecretKey::kept(&path).0, first.0);
        fs::write(&path, "short").unwrap();
        let second = SecretKey::kept(&path);
        assert_ne!(second.0, first.0);
        assert_eq!(SecretKey::kept(&path).0, second.0);
        assert_ne!(SecretKey::kept(&folder.path().join("no/such/folder")).0, second.0);
    }
}
