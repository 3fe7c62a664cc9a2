//! A password that changes in its file while lanyard runs.

use std::{fs, sync::Mutex};

use futures_util::future::join_all;

use super::*;
use crate::upstream::script::status;

/// A registry that takes only this password, by Basic or through its token server. Its tokens are
/// good for the password that they were got with.
fn registry(by_token: bool, right: Arc<Mutex<String>>) -> impl Fn(&Request) -> Act + Send + Sync + 'static {
    move |r| {
        let (shown, right) = (authorization(r), right.lock().unwrap().clone());
        match r.url.path() {
            "/token" if shown == Some(basic(&right)) => status(200).body(format!(r#"{{"token":"{right}"}}"#)).reply(),
            "/token" => status(401).reply(),
            _ if by_token && shown == Some(format!("Bearer {right}")) => status(200).body(image()).reply(),
            _ if by_token => {
                status(401).header("www-authenticate", r#"Bearer realm="https://registry.example/token""#).reply()
            }
            _ if shown == Some(basic(&right)) => status(200).body(image()).reply(),
            _ => status(401).header("www-authenticate", r#"Basic realm="r""#).reply(),
        }
    }
}

struct World {
    upstream: Arc<Registry>,
    script: Arc<Script>,
    right: Arc<Mutex<String>>,
    folder: tempfile::TempDir,
}

impl World {
    fn new(by_token: bool) -> World {
        let (folder, right) = (tempfile::tempdir().unwrap(), Arc::new(Mutex::new("CANARY-1".to_owned())));
        let mut config = signed_in("CANARY-1");
        config.password_file = Some(folder.path().join("password"));
        fs::write(folder.path().join("password"), "CANARY-1\n").unwrap();
        let (upstream, script) = upstream_of(config, Mode::Auto, registry(by_token, Arc::clone(&right)));
        World { upstream, script, right, folder }
    }

    /// The registry takes another password from now on.
    fn expire(&self, password: &str) {
        password.clone_into(&mut self.right.lock().unwrap());
    }

    fn renew(&self, password: &str) {
        fs::write(self.folder.path().join("password"), password).unwrap();
    }

    async fn pull(&self) -> Result<(), UpstreamError> {
        pull(&self.upstream, "library/x").await
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_password_is_read_again_at_once() {
    for by_token in [true, false] {
        let world = World::new(by_token);
        world.pull().await.unwrap();
        // The clock stands still: only the refusal makes lanyard look.
        world.expire("CANARY-2");
        world.renew("CANARY-2");
        world.pull().await.unwrap();
        world.expire("CANARY-3");
        let before = world.script.asked().len();
        for _ in 0..3 {
            let error = world.pull().await.unwrap_err();
            assert!(matches!(error, UpstreamError::Denied { .. }), "{error:?}");
            assert!(!format!("{error:?} {error}").contains("CANARY"));
        }
        let cost = world.script.asked().len() - before;
        assert!(cost <= 12, "by token: {by_token}: {cost} requests for 3");
        world.renew("CANARY-3");
        tokio::time::sleep(Duration::from_secs(2)).await;
        for result in join_all((0..50).map(|_| world.pull())).await {
            result.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewed_password_counts_before_the_old_one_is_refused() {
    for by_token in [true, false] {
        let world = World::new(by_token);
        world.pull().await.unwrap();
        world.renew("CANARY-2");
        tokio::time::sleep(Duration::from_secs(2)).await;
        // The registry now takes both. lanyard shows the new one.
        world.expire("CANARY-2");
        let before = world.script.requests().len();
        world.pull().await.unwrap();
        let shown: Vec<_> = world.script.requests()[before..].iter().map(authorization).collect();
        let expected = match by_token {
            true => vec![Some(basic("CANARY-2")), Some("Bearer CANARY-2".to_owned())],
            false => vec![Some(basic("CANARY-2"))],
        };
        assert_eq!(shown, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_missing_for_a_moment_changes_nothing() {
    for by_token in [true, false] {
        let world = World::new(by_token);
        for content in [None, Some(""), Some("two\nlines\n")] {
            match content {
                None => fs::remove_file(world.folder.path().join("password")).unwrap(),
                Some(content) => world.renew(content),
            }
            tokio::time::sleep(Duration::from_secs(100)).await;
            world.pull().await.unwrap();
        }
    }
}
