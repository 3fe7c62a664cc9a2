//! `lanyard setup`: what to write into a client's configuration so that it pulls through lanyard.
//!
//! Each client has one file here, with what is true of that client said in the text it prints. The facts were seen
//! on the wire: which client takes plain HTTP and how, which sends `ns=` and which needs a path prefix, and which
//! falls back to the registry without a word when lanyard does not answer.

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

/// What is printed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setup {
    /// For the reader; goes to standard error. Only for a format without comments.
    pub notes: String,
    /// The configuration; goes to standard output. Its first lines say where it belongs and what to run then.
    pub text: String,
}

impl Client {
    /// The configuration that makes this client pull everything built in through this lanyard.
    pub fn setup(self, server: &Server) -> Setup {
        match self {
            Client::Docker => docker::setup(server),
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

/// Comment lines that say so where a server's address means another machine to every client.
fn loopback_note(server: &Server) -> String {
    if !server.is_loopback() {
        return String::new();
    }
    format!("#\n# {server} is lanyard on the client's own machine. For other machines: --server http://ADDRESS:5000\n")
}

/// Each line with this before it; empty lines stay empty.
fn indented(text: &str, by: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{by}{line}\n") }).collect()
}

#[cfg(test)]
mod tests;
