//! BuildKit inside dockerd. It takes its mirrors from `registry-mirrors` but speaks as containerd
//! does, with `?ns=` and without a ping.

use super::Client;
use super::dockerd::Dockerd;
use super::pulled::{Pulled, strings};

/// A dockerd that is used only to build.
pub(crate) struct BuildKit {
    dockerd: Dockerd,
}

impl BuildKit {
    /// Starts a daemon whose only registry mirror is `mirror`, `http://HOST:PORT`.
    pub(crate) fn start(mirror: &str) -> Self {
        BuildKit::of(Dockerd::start(mirror))
    }

    /// BuildKit inside this daemon.
    pub(crate) fn of(dockerd: Dockerd) -> Self {
        BuildKit { dockerd }
    }
}

impl Client for BuildKit {
    fn pull(&self, name: &str) -> Result<Pulled, String> {
        let folder = self.dockerd.folder_with("build", "Dockerfile", &format!("FROM {name}\nLABEL built=here\n"));
        self.dockerd.docker(&["build", "--quiet", "--network=none", "--pull", "--no-cache", "--tag=built", &folder])?;
        let layers = self.dockerd.docker(&["image", "inspect", "--format={{json .RootFS.Layers}}", "built"])?;
        let layers = serde_json::from_str(&layers).map_err(|error| error.to_string())?;
        // The image that was built is another one; only the layers are the base's.
        Ok(Pulled { tag: None, held: None, unpacked: Some(strings(&layers)) })
    }

    fn hub_asked(&self) -> usize {
        self.dockerd.hub_asked()
    }
}
