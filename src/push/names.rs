//! Which repositories take a push, and which name a client saw before it pushed (DESIGN.md section 2).

use super::{Push, PushError};
use crate::{
    names::Spelling,
    oci::{Namespace, Repository, RepositoryName},
};

impl Push {
    /// Refuses unless `repo` takes pushes: it is hosted, and not one that the operator keeps (`hosted.reserved`).
    pub fn takes(&self, repo: &Repository) -> Result<(), PushError> {
        hosted(repo)?;
        match self.rules.reserved.iter().find(|pattern| pattern.matches(&repo.name)) {
            None => Ok(()),
            Some(pattern) => Err(PushError::Refused(format!(
                "{} is reserved and takes no push (hosted.reserved has \"{pattern}\"): tag the image with another name, such \
                 as one that begins with your team's, and push that",
                repo.name
            ))),
        }
    }

    /// Refuses a first push by whoever is not this machine itself to a name that the mirror of the
    /// default upstream knows here and that the operator has not claimed: it would change what
    /// every client of the mirror gets (N2).
    pub fn takes_from_others(&self, repo: &Repository) -> Result<(), PushError> {
        if self.names.claims(&repo.name) || self.storage.knows(repo) {
            return Ok(());
        }
        // A blob that was pulled by its digest alone makes a name known, too.
        let known = |namesake: &Repository| self.storage.knows(namesake) || self.storage.holds_anything(namesake);
        match self.namesake(&repo.name).filter(known) {
            None => Ok(()),
            Some(mirrored) => Err(PushError::Refused(format!(
                "{} is mirrored here as {mirrored}: a push would take its place for everybody. Push to another name, or let \
                 the operator add this one to hosted.namespaces",
                repo.name
            ))),
        }
    }

    /// The repository of the same name that unprefixed pulls mean where nothing is hosted: what a client saw before it
    /// pushed.
    pub(super) fn namesake(&self, name: &RepositoryName) -> Option<Repository> {
        let spelling = Spelling { host: None, name: name.clone() };
        self.names
            .resolve(&spelling, None, |_| false)
            .ok()
            .filter(|repo| matches!(repo.namespace, Namespace::Upstream(_)))
    }
}

/// Refuses what is mirrored: it is its upstream's to change.
pub(super) fn hosted(repo: &Repository) -> Result<(), PushError> {
    match &repo.namespace {
        Namespace::Hosted => Ok(()),
        Namespace::Upstream(upstream) => Err(PushError::Refused(format!(
            "{} is a repository of {upstream}, which lanyard only mirrors: push to a name without that registry in it, or to \
             {upstream} itself",
            repo.name
        ))),
    }
}
