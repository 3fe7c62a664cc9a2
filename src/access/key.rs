//! Keys of 32 random bytes.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use aws_lc_rs::hmac;

pub(super) const LENGTH: usize = 32;

pub(super) struct Key([u8; LENGTH]);

impl Key {
    /// A key that nobody has seen and that ends with the process.
    pub(super) fn fresh() -> Key {
        Key(rand::random())
    }

    /// The key in this file, which is made where it is missing and is readable to its owner only. It is kept so that a token
    /// outlives a restart: a client in the middle of a push goes on with the one it has. A file that cannot be used costs
    /// that, and no more.
    pub(super) fn kept(path: &Path) -> Key {
        match read(path) {
            Ok(Some(key)) => return key,
            Ok(None) => {}
            Err(error) => tracing::warn!(file = %path.display(), "the key of tokens cannot be read: {error}"),
        }
        let key = Key::fresh();
        if let Err(error) = key.keep(path) {
            tracing::warn!(file = %path.display(), "the key of tokens cannot be kept, so a restart ends them: {error}");
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

/// None: there is no file, or it holds no key.
fn read(path: &Path) -> io::Result<Option<Key>> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes.try_into().ok().map(Key)),
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
        let first = Key::kept(&path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Key::kept(&path).0, first.0);
        fs::write(&path, "short").unwrap();
        let second = Key::kept(&path);
        assert_ne!(second.0, first.0);
        assert_eq!(Key::kept(&path).0, second.0);
        assert_ne!(Key::kept(&folder.path().join("no/such/folder")).0, second.0);
    }
}
