//! What the rules of tags keep, for the kept set (T2): `pull` has the rules and `retention` the
//! set, and neither room knows the other. `mod.rs` puts it between them.

use std::sync::Arc;

use crate::{
    oci::{Reference, Repository},
    pull::TagRules,
    retention::TagKeeper,
    storage::TagHistory,
};

/// The rules, as the kept set asks them.
pub(super) struct RulesKeep(pub(super) Arc<TagRules>);

impl TagKeeper for RulesKeep {
    fn version(&self) -> u64 {
        self.0.generation()
    }

    fn concerns(&self, repository: &Repository) -> bool {
        self.0.keep_in(repository)
    }

    fn frozen(&self, repository: &Repository, histories: &[TagHistory]) -> Vec<Reference> {
        self.0.frozen(repository, histories)
    }

    fn last(&self, repository: &Repository, histories: &[TagHistory]) -> Vec<Reference> {
        self.0.last(repository, histories)
    }
}
