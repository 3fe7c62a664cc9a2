//! Which repositories are hosted here.

use super::{MayPull, Push, PushError};
use crate::oci::{Namespace, Repository, RepositoryName};

impl Push {
    /// Hosted repositories that the client may pull, in bytewise order: those after `last`, at most `n`; and whether others
    /// follow.
    pub async fn catalog(
        &self,
        last: Option<String>,
        n: usize,
        may_pull: MayPull,
    ) -> Result<(Vec<RepositoryName>, bool), PushError> {
        let names = self.on_disk(|storage| storage.catalog.repositories(&Namespace::Hosted)).await?;
        let start = last.map_or(0, |last| names.partition_point(|name| name.as_str() <= last.as_str()));
        let mut page = Vec::new();
        for name in names.into_iter().skip(start) {
            let repo = Repository { namespace: Namespace::Hosted, name };
            if !may_pull(&repo) {
                continue;
            }
            if page.len() == n {
                return Ok((page, n > 0));
            }
            page.push(repo.name);
        }
        Ok((page, false))
    }
}
