//! The list of hosted repositories (`/v2/_catalog`).
//!
//! A client sees only the repositories that it may pull. A page is filled however many others lie
//! between them, and each name is listed once. Called by http.

use super::{MayPull, Push, PushError};
use crate::{
    oci::{Namespace, Repository, RepositoryName},
    storage::StorageError,
};

/// Each next listing asks for this many times as many names as the last one.
const GROWTH: usize = 16;

impl Push {
    /// The hosted repositories that the client may pull, in bytewise order: at most `n` of those
    /// after `last`. Also says whether more follow.
    pub async fn catalog(
        &self,
        last: Option<String>,
        n: usize,
        may_pull: MayPull,
    ) -> Result<(Vec<RepositoryName>, bool), PushError> {
        let visible = |name: &RepositoryName| may_pull(&hosted(name.clone()));
        let storage = &self.storage;
        let page =
            page(last, n, visible, async |last, limit| storage.repositories(&Namespace::Hosted, last, limit).await);
        Ok(page.await?)
    }
}

/// At most `n` visible names after `last`, and whether more follow. `followers(name, limit)` lists
/// the first `limit` names after `name`. Without the index each call lists a whole folder. So where
/// invisible names leave the page short, the next call asks for more: a few calls in all, and each
/// name once.
async fn page(
    mut last: Option<String>,
    n: usize,
    visible: impl Fn(&RepositoryName) -> bool,
    mut followers: impl AsyncFnMut(Option<String>, usize) -> Result<Vec<RepositoryName>, StorageError>,
) -> Result<(Vec<RepositoryName>, bool), StorageError> {
    let mut page = Vec::new();
    let mut limit = n.saturating_add(1);
    while page.len() <= n {
        let found = followers(last.clone(), limit).await?;
        let ended = found.len() < limit;
        last = found.last().map(RepositoryName::to_string).or(last);
        page.extend(found.into_iter().filter(&visible));
        if ended {
            break;
        }
        limit = limit.saturating_mul(GROWTH);
    }
    let more = n > 0 && page.len() > n;
    page.truncate(n);
    Ok((page, more))
}

fn hosted(name: RepositoryName) -> Repository {
    Repository { namespace: Namespace::Hosted, name }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// A page of `names`, with the number of listings and the number of names that they gave.
    fn ask(names: &[RepositoryName], last: Option<&str>, n: usize, visible: &str) -> (Vec<String>, bool, usize, usize) {
        let (mut asked, mut told) = (0, 0);
        let followers = async |last: Option<String>, limit: usize| {
            let after = |name: &&RepositoryName| last.as_deref().is_none_or(|last| name.as_str() > last);
            let found: Vec<_> = names.iter().filter(after).take(limit).cloned().collect();
            (asked, told) = (asked + 1, told + found.len());
            Ok(found)
        };
        let visible = |name: &RepositoryName| name.as_str().starts_with(visible);
        let (page, more) = page(last.map(str::to_owned), n, visible, followers).now_or_never().unwrap().unwrap();
        (page.iter().map(RepositoryName::to_string).collect(), more, asked, told)
    }

    #[test]
    fn ten_thousand_that_are_not_visible_are_listed_a_few_times_only() {
        let mut names: Vec<RepositoryName> = (0..10_000).map(|n| format!("m/private{n:05}").parse().unwrap()).collect();
        names.extend(["a", "n", "z/1", "z/2", "z/3"].map(|name| name.parse().unwrap()));
        names.sort_unstable();
        for n in [1, 2, 100, 1000] {
            let (page, more, asked, told) = ask(&names, Some("b"), n, "z");
            assert_eq!(page, ["z/1", "z/2", "z/3"][..n.min(3)], "n={n}");
            assert_eq!(more, n < 3);
            assert!(asked <= 5 && told <= names.len(), "n={n}: asked {asked} times for {told} names");
        }
        assert_eq!(ask(&names, None, 2, ""), (vec!["a".to_owned(), "m/private00000".to_owned()], true, 1, 3));
        assert_eq!(ask(&names, Some("z/2"), 5, "").0, ["z/3"]);
        assert_eq!(ask(&names, Some("N/o name"), 1, "a").0, ["a"]);
        assert_eq!(ask(&names, None, 0, ""), (vec![], false, 1, 1));
        assert_eq!(ask(&names, None, usize::MAX, "").0.len(), names.len());
    }
}
