//! Which repository a push goes to, and which names take none (DESIGN.md section 2).

use super::{Push, PushError};
use crate::{
    names::Spelling,
    oci::{Namespace, Repository, RepositoryName},
};

impl Push {
    /// The hosted repository behind a request that pushes. A name with `ns=` or an upstream's prefix, and one that the
    /// operator keeps (`hosted.reserved`), is [`PushError::Refused`].
    pub fn target(&self, spelling: &Spelling, ns: Option<&str>) -> Result<Repository, PushError> {
        let repo = self.hosted(spelling, ns)?;
        match self.rules.reserved.iter().find(|pattern| pattern.matches(&repo.name)) {
            None => Ok(repo),
            Some(pattern) => Err(PushError::Refused(format!(
                "{} is reserved and takes no push (hosted.reserved has \"{pattern}\"): tag the image with another name, such \
                 as one that begins with your team's, and push that",
                repo.name
            ))),
        }
    }

    /// The hosted repository behind a request that takes something away, or looks.
    pub fn hosted(&self, spelling: &Spelling, ns: Option<&str>) -> Result<Repository, PushError> {
        match self.names.mirrored(spelling, ns).map_err(PushError::Name)? {
            None => Ok(Repository { namespace: Namespace::Hosted, name: spelling.name.clone() }),
            Some(upstream) => Err(PushError::Refused(format!(
                "{} is a repository of {upstream}, which lanyard only mirrors: push to a name without that registry in it, \
                 or to {upstream} itself",
                spelling.name
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
