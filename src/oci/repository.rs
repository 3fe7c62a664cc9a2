//! A repository and its namespace. `names` decides which repository a request means.

use std::fmt;

use super::{RepositoryName, UpstreamName};

/// Where a repository's content comes from. Equal names in two namespaces are two repositories.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Namespace {
    /// Pushed here; never looked up upstream.
    Hosted,
    /// Mirrored from this upstream; never pushed to.
    Upstream(UpstreamName),
}

/// A repository: its namespace and its name in it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Repository {
    /// Hosted, or the upstream.
    pub namespace: Namespace,
    /// The name within the namespace; for Docker Hub with its `library/`.
    pub name: RepositoryName,
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Namespace::Hosted => self.name.fmt(f),
            Namespace::Upstream(upstream) => write!(f, "{upstream}/{}", self.name),
        }
    }
}
