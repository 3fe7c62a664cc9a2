//! The user name and password that lanyard shows an upstream, if there are any.
//!
//! The password's file may change at any time, for example when a cron job writes a new token
//! there. lanyard looks at it at most once a second while it asks the upstream, and reads it at
//! once if the upstream refuses the password. A missing, empty or malformed file changes nothing:
//! the last good password stays, and the log says so once. Only blocking threads touch the disk,
//! one look at a time, and a disk that does not answer delays a request by a second at most.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::{
    config::{self, Credentials},
    oci::UpstreamName,
    runtime::{BlockingPool, FileWatch, Reading},
};

/// How long a look counts, and how long a request waits for one.
const FRESH: Duration = Duration::from_secs(1);

/// User name and password in the forms that requests need. The default is anonymous.
#[derive(Default)]
pub(super) struct Identity {
    /// Tells an identity from the next one.
    pub(super) number: u64,
    /// `Basic …`, marked sensitive: for the token endpoint, and for registries without tokens.
    pub(super) basic: Option<HeaderValue>,
    /// Strings that no message may hold if an upstream echoes them (S18).
    pub(super) secrets: Vec<String>,
}

impl Identity {
    pub(super) fn new(number: u64, credentials: &Credentials) -> Self {
        let encoded = STANDARD.encode(format!("{}:{}", credentials.username, credentials.password));
        // Base64 always fits into a header.
        let basic = HeaderValue::from_str(&format!("Basic {encoded}")).ok().map(|mut basic| {
            basic.set_sensitive(true);
            basic
        });
        Identity { number, basic, secrets: vec![credentials.password.clone(), encoded] }
    }
}

/// The current identity, and the file that may change it.
pub(super) struct Identities {
    file: Option<Arc<PasswordFile>>,
    fixed: Arc<Identity>,
}

struct PasswordFile {
    path: PathBuf,
    upstream: UpstreamName,
    now: Mutex<(Credentials, Arc<Identity>)>,
    /// The log has already said that the file is unusable.
    said: AtomicBool,
    watch: FileWatch,
}

impl Identities {
    /// The identity is that of the configuration until the first look. Looks run on `runtime`'s
    /// blocking threads.
    pub(super) fn new(config: &config::Upstream, runtime: Handle) -> Self {
        let Some(credentials) = &config.credentials else {
            return Identities { file: None, fixed: Arc::default() };
        };
        let fixed = Arc::new(Identity::new(0, credentials));
        let file = config.password_file.clone().map(|path| {
            Arc::new(PasswordFile {
                upstream: config.name.clone(),
                watch: FileWatch::new(&[&path], FRESH, BlockingPool::new(runtime, 1)).unread(),
                now: Mutex::new((credentials.clone(), Arc::clone(&fixed))),
                said: AtomicBool::new(false),
                path,
            })
        });
        Identities { file, fixed }
    }

    /// Whether the upstream has credentials.
    pub(super) fn has_credentials(&self) -> bool {
        self.fixed.basic.is_some()
    }

    /// The identity of the last look.
    pub(super) fn now(&self) -> Arc<Identity> {
        self.file.as_ref().map_or_else(|| Arc::clone(&self.fixed), |file| Arc::clone(&file.now.lock().1))
    }

    /// The identity after a look, if the last look is a second old.
    pub(super) async fn current(&self) -> Arc<Identity> {
        if let Some(file) = &self.file
            && file.watch.is_due()
        {
            file.look(false).await;
        }
        self.now()
    }

    /// Returns another identity after the upstream has refused `used`, if the file now holds one.
    pub(super) async fn instead_of(&self, used: &Identity) -> Option<Arc<Identity>> {
        let file = self.file.as_ref()?;
        if self.now().number == used.number {
            file.look(true).await;
        }
        Some(self.now()).filter(|now| now.number != used.number)
    }
}

impl PasswordFile {
    async fn look(self: &Arc<Self>, refused: bool) {
        let file = Arc::clone(self);
        self.watch.look(refused, move || file.read()).await;
    }

    /// Reads the file. Blocking. A file that cannot be read is read again by the next look.
    fn read(&self) -> Reading {
        // The message leaves out the path: a password can stand there by mistake.
        let there = fs::metadata(&self.path).map_err(|error| format!("the file cannot be read: {error}"));
        match there.and_then(|_| config::read_password(&self.path)) {
            Ok(password) => {
                self.said.store(false, Ordering::Relaxed);
                let mut now = self.now.lock();
                if now.0.password != password {
                    now.0.password = password;
                    now.1 = Arc::new(Identity::new(now.1.number + 1, &now.0));
                    tracing::info!(upstream = %self.upstream, "the password has changed");
                }
                Reading::Known
            }
            Err(what) => {
                if !self.said.swap(true, Ordering::Relaxed) {
                    tracing::warn!(upstream = %self.upstream, "the password stays as it was: {what}");
                }
                Reading::Again
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, path::Path};

    use super::*;

    fn identities(path: &Path) -> Identities {
        let mut config = config::Upstream::new("a.example".parse().unwrap(), "https://a.example".parse().unwrap());
        config.credentials = Some(Credentials { username: "me".into(), password: "first".into() });
        config.password_file = Some(path.to_owned());
        Identities::new(&config, Handle::current())
    }

    fn password(identity: &Arc<Identity>) -> &str {
        &identity.secrets[0]
    }

    async fn after_a_second(identities: &Identities) -> String {
        tokio::time::advance(FRESH).await;
        password(&identities.current().await).to_owned()
    }

    /// The file is written in place, replaced by rename, and swapped behind two links as Kubernetes
    /// does. In between it is missing, empty, half written or no text.
    #[tokio::test(start_paused = true)]
    async fn a_renewed_password_counts_within_seconds_and_a_bad_one_never() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("password"), "first\n").unwrap();
        let identities = identities(&at("password"));
        assert_eq!(after_a_second(&identities).await, "first");
        assert_eq!(identities.now().number, 0, "the same again is no change");
        fs::write(at("password"), "in-place").unwrap();
        assert_eq!(password(&identities.current().await), "first", "a look a second");
        assert_eq!(after_a_second(&identities).await, "in-place");
        fs::write(at("new"), "renamed\r\n").unwrap();
        fs::rename(at("new"), at("password")).unwrap();
        assert_eq!(after_a_second(&identities).await, "renamed");
        for bad in [None, Some(&b""[..]), Some(b"\n"), Some(b"two\nlines\n"), Some(b"\xff\xfe")] {
            match bad {
                None => fs::remove_file(at("password")).unwrap(),
                Some(bytes) => fs::write(at("password"), bytes).unwrap(),
            }
            for _ in 0..3 {
                assert_eq!(after_a_second(&identities).await, "renamed", "{bad:?}");
            }
        }
        fs::remove_file(at("password")).unwrap();
        fs::create_dir(at("password")).unwrap();
        assert_eq!(after_a_second(&identities).await, "renamed", "a folder");
        fs::remove_dir(at("password")).unwrap();
        for (name, content) in [("..1", "linked"), ("..2", "swapped")] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("password"), content).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/password", at("password")).unwrap();
        assert_eq!(after_a_second(&identities).await, "linked");
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        fs::remove_dir_all(at("..1")).unwrap();
        assert_eq!(after_a_second(&identities).await, "swapped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_password_is_read_again_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "first").unwrap();
        let identities = identities(&path);
        let first = identities.current().await;
        assert!(identities.instead_of(&first).await.is_none(), "nothing has changed");
        fs::write(&path, "second").unwrap();
        let second = identities.instead_of(&first).await.unwrap();
        assert_eq!(password(&second), "second");
        assert_eq!(identities.instead_of(&first).await.unwrap().number, second.number, "a late caller gets it too");
        assert!(identities.instead_of(&second).await.is_none());
        let anonymous = Identities { file: None, fixed: Arc::default() };
        assert!(anonymous.instead_of(&Identity::default()).await.is_none() && !anonymous.has_credentials());
    }
}
