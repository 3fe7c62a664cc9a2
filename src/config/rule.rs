//! The parts of a rule of access: clients, repositories, actions. `keys.rs` has the rule itself,
//! `access` decides by the rules.

use super::pattern::Pattern;
use crate::oci::{Namespace, Repository, UpstreamName};

/// The clients that a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Who {
    /// Every client, signed in or not.
    Anonymous,
    /// A client on this machine itself without a user name.
    Loopback,
    /// Every user who has signed in.
    Users,
    /// This user.
    User(String),
}

/// An action on a repository.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Read manifests, blobs, tags and referrers.
    Pull,
    /// Store blobs and manifests, and move tags.
    Push,
    /// Delete tags, manifests and blobs.
    Delete,
    /// Administer lanyard itself.
    Admin,
}

/// The repositories that a rule is about: hosted names, an upstream's names
/// (`docker.io/library/*`), or both if the pattern begins with `**`.
#[derive(Clone, PartialEq, Debug)]
pub struct RepositoryPattern {
    upstream: Option<UpstreamName>,
    names: Pattern,
}

impl RepositoryPattern {
    /// The names of this upstream, or of hosted repositories.
    pub(super) fn new(upstream: Option<UpstreamName>, names: Pattern) -> Self {
        RepositoryPattern { upstream, names }
    }

    /// Whether the repository is one of them.
    pub fn holds(&self, repository: &Repository) -> bool {
        let named = match (&self.upstream, &repository.namespace) {
            (Some(own), Namespace::Upstream(other)) => own == other,
            (Some(_), Namespace::Hosted) => false,
            (None, Namespace::Hosted) => true,
            // `**` is any number of parts, the upstream's name among them.
            (None, Namespace::Upstream(_)) => self.names.first_segment() == "**",
        };
        named && self.names.matches(&repository.name)
    }
}
