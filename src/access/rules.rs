//! The rules in force. A request may do what any one rule gives.

use super::principal::Principal;
use crate::{
    config::{Action, Rule, Who},
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

/// Whether `who` of a rule covers the principal. `anonymous` covers every principal.
fn is(principal: &Principal, who: &Who) -> bool {
    match who {
        Who::Anonymous => true,
        Who::Loopback => *principal == Principal::Loopback,
        Who::Users => principal.user().is_some(),
        Who::User(name) => principal.user() == Some(name),
    }
}
