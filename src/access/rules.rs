//! The rules in force: the union of what each of them gives.

use super::{Action, Principal};
use crate::{
    config::{Rule, Who},
    oci::Repository,
};

pub(super) struct Rules(pub(super) Vec<Rule>);

impl Rules {
    /// Whether any rule gives this.
    pub(super) fn allow(&self, principal: &Principal, action: Action, repository: &Repository) -> bool {
        let gives = |rule: &Rule| {
            rule.actions.contains(&action)
                && rule.who.iter().any(|who| is(principal, who))
                && rule.repositories.iter().any(|place| place.holds(repository))
        };
        *principal == Principal::Operator || self.0.iter().any(gives)
    }
}

/// What everybody may do, those may too who have said who they are.
fn is(principal: &Principal, who: &Who) -> bool {
    match who {
        Who::Anonymous => true,
        Who::Loopback => *principal == Principal::Loopback,
        Who::Users => principal.user().is_some(),
        Who::User(name) => principal.user() == Some(name),
    }
}
