//! The names that take a push (DESIGN.md section 2).
//!
//! [`Push::takes`] and [`Push::takes_from_others`] refuse by name alone, before a body is read.
//! `namesake` is the mirrored repository that a client saw under a name before it pushed there.
//! Called by http, and inside push.

use super::{Push, PushError};
use crate::{
    names::Spelling,
    oci::{Namespace, Repository, RepositoryName},
};

impl Push {
    /// Refuses unless `repo` is hosted and not reserved by the operator (`hosted.reserved`).
    pub fn takes(&self, repo: &Repository) -> Result<(), PushError> {
        hosted(repo)?;
        match self.rules.reserved.iter().find(|pattern| pattern.matches(&repo.name)) {
            None => Ok(()),
            Some(pattern) => Err(PushError::Refused(format!(
                "{} is reserved and takes no push (hosted.reserved has \"{pattern}\"): tag the image with another name, such \
                 as one that begins with your team's name, and push that",
                repo.name
            ))),
        }
    }

    /// Refuses a first push from another machine to a name that the mirror of the default upstream
    /// knows here, unless the operator has claimed the name. Such a push would change the image
    /// that every client of the mirror gets (N2).
    pub fn takes_from_others(&self, repo: &Repository) -> Result<(), PushError> {
        if self.names.claims(&repo.name) || self.storage.knows(repo) {
            return Ok(());
        }
        // A blob that was pulled by its digest alone makes the name known too.
        let known = |namesake: &Repository| self.storage.knows(namesake) || self.storage.holds_anything(namesake);
        match self.namesake(&repo.name).filter(known) {
            None => Ok(()),
            Some(mirrored) => Err(PushError::Refused(format!(
                "{} is mirrored here as {mirrored}: a push would replace it for every client. Push to another name, or let \
                 the operator add this one to hosted.namespaces",
                repo.name
            ))),
        }
    }

    /// The mirrored repository that a pull of the bare name means while nothing is hosted under it:
    /// the client saw this one before it pushed.
    pub(super) fn namesake(&self, name: &RepositoryName) -> Option<Repository> {
        let spelling = Spelling { host: None, name: name.clone() };
        self.names
            .resolve(&spelling, None, |_| false)
            .ok()
            .filter(|repo| matches!(repo.namespace, Namespace::Upstream(_)))
    }
}

/// Refuses a mirrored repository: only its upstream changes it.
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
