//! Who may do what with which repositories: `[[access]]`.

use super::Pattern;
use crate::oci::{Namespace, Repository, UpstreamName};

/// One `[[access]]`: each of `who` may do each of `actions` with each of `repositories`. Rules only ever give; what no rule
/// gives is denied.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// To whom.
    pub who: Vec<Who>,
    /// With what.
    pub repositories: Vec<Place>,
    /// What.
    pub actions: Vec<Action>,
}

/// Whom a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Who {
    /// Everybody, signed in or not.
    Anonymous,
    /// Whoever asks from this machine itself without a user name.
    Loopback,
    /// Everybody who has signed in.
    Users,
    /// This user.
    User(String),
}

/// What can be done with a repository.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Read manifests, blobs, tags and referrers.
    Pull,
    /// Store blobs and manifests, and move tags.
    Push,
    /// Take tags, manifests and blobs away.
    Delete,
    /// Look after lanyard itself.
    Admin,
}

/// Repositories that a rule is about: hosted names, an upstream's names (`docker.io/library/*`), or both where the pattern
/// begins with `**`.
#[derive(Clone, PartialEq, Debug)]
pub struct Place {
    upstream: Option<UpstreamName>,
    names: Pattern,
}

impl Place {
    /// `upstream`: the names are those of this upstream.
    pub(super) fn new(upstream: Option<UpstreamName>, names: Pattern) -> Self {
        Place { upstream, names }
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

impl Rule {
    /// What holds where no `[[access]]` is given: everybody pulls, this machine and users also push and delete.
    pub fn built_in() -> Vec<Rule> {
        let everything = || "**".parse().map(|names| Place::new(None, names)).into_iter().collect();
        vec![
            Rule { who: vec![Who::Anonymous], repositories: everything(), actions: vec![Action::Pull] },
            Rule {
                who: vec![Who::Loopback, Who::Users],
                repositories: everything(),
                actions: vec![Action::Pull, Action::Push, Action::Delete],
            },
        ]
    }
}
