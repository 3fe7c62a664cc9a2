//! HEAD

use std::sync::Arc;

use crate::{oci::RepositoryName, upstream::Registry};

/// Where a digest can be had.
#[derive(Clone)]
pub(crate) struct Source {
    /// The registry.
    pub(crate) upstream: Arc<Registry>,
    /// The repository there.
    pub(crate) name: RepositoryName,
}

impl PartialEq for Source {
    fn eq(&self, other: &Source) -> bool {
        self.name == other.name && self.upstream.name() == other.upstream.name()
    }
}

pub(super) fn is_of_registry(source: &Source, other: &Source) -> bool {
    source.upstream.name() == other.upstream.name()
}
