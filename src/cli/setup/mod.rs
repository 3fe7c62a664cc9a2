//! `lanyard setup`: the text for a client's configuration that makes it pull through lanyard.
//!
//! Each client has one file here. The text that it prints carries what is true of that client:
//! which takes plain HTTP and how, which sends `ns=` and which needs a path prefix, and which falls
//! back to the registry without a word when lanyard does not answer. These facts were seen on the
//! wire.

mod buildkit;
mod containerd;
mod docker;
mod kubernetes;
mod podman;
mod server;

pub use server::{Server, ServerError};

/// A client that lanyard can be set up in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Client {
    /// Docker Engine: daemon.json, as JSON
    Docker,
    /// containerd, nerdctl: a shell script that writes a hosts.toml for each registry
    Containerd,
    /// Podman, Buildah, Skopeo and CRI-O: a drop-in for registries.conf, as TOML
    Podman,
    /// BuildKit and `docker buildx`: buildkitd.toml, as TOML
    Buildkit,
    /// Kubernetes nodes: a DaemonSet that writes containerd's hosts.toml, as YAML; and k3s
    Kubernetes,
}

/// The text to print.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setup {
    /// Notes for the reader, on standard error. Empty unless the format has no comments.
    pub notes: String,
    /// The configuration, on standard output. Its first comments say where it belongs and what to
    /// run then.
    pub text: String,
}

impl Client {
    /// The configuration that makes this client pull from all built-in upstreams through `server`.
    pub fn setup(self, server: &Server) -> Setup {
        match self {
            Client::Docker => Setup { notes: docker::notes(server), text: docker::text(server) },
            Client::Containerd => commented(containerd::text(server)),
            Client::Podman => commented(podman::text(server)),
            Client::Buildkit => commented(buildkit::text(server)),
            Client::Kubernetes => commented(kubernetes::text(server)),
        }
    }
}

fn commented(text: String) -> Setup {
    Setup { notes: String::new(), text }
}

#[cfg(test)]
mod tests;
