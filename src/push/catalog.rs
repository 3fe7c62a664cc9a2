//! Which repositories are hosted here.

use super::{MayPull, Push, PushError};
use crate::{
    oci::{Namespace, Repository, RepositoryName},
    storage::{Storage, StorageError},
};

impl Push {
    /// Hosted repositories that the client may pull, in bytewise order: those after `last`, at most `n`; and whether others
    /// follow.
    pub async fn catalog(
        &self,
        last: Option<String>,
        n: usize,
        may_pull: MayPull,
    ) -> Result<(Vec<RepositoryName>, bool), PushError> {
        self.on_disk(move |storage| {
            let (mut page, mut last) = (Vec::new(), Last::of(last));
            // Those that the client may not pull leave gaps, which are filled from behind.
            loop {
                let wanted = n + 1 - page.len();
                let found = last.followers(storage, wanted)?;
                let ended = found.len() < wanted;
                last = found.last().cloned().map_or(last, Last::Name);
                page.extend(found.into_iter().filter(|name| may_pull(&hosted(name.clone()))));
                if ended || page.len() > n {
                    break;
                }
            }
            let more = n > 0 && page.len() > n;
            page.truncate(n);
            Ok((page, more))
        })
        .await
    }
}

/// Where a page begins.
enum Last {
    Beginning,
    Name(RepositoryName),
    /// Something that is no name, and sorts somewhere all the same.
    Text(String),
}

impl Last {
    fn of(text: Option<String>) -> Last {
        match text {
            None => Last::Beginning,
            Some(text) => text.parse().map_or(Last::Text(text), Last::Name),
        }
    }

    fn followers(&self, storage: &Storage, limit: usize) -> Result<Vec<RepositoryName>, StorageError> {
        match self {
            Last::Beginning => storage.catalog.repositories_after(&Namespace::Hosted, None, limit),
            Last::Name(last) => storage.catalog.repositories_after(&Namespace::Hosted, Some(last), limit),
            Last::Text(last) => {
                let mut all = storage.catalog.repositories(&Namespace::Hosted)?;
                all.retain(|name| name.as_str() > last.as_str());
                all.truncate(limit);
                Ok(all)
            }
        }
    }
}

fn hosted(name: RepositoryName) -> Repository {
    Repository { namespace: Namespace::Hosted, name }
}
