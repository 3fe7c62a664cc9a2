//! How a registry wants to be asked, as its last challenge said: Basic, or Bearer with realm,
//! service and the shape of the scope. `auth` uses it to sign in before the first 401. `answering`
//! and `auth` change it, and forget it if it no longer works.

use std::sync::Mutex;

use url::Url;

use super::lock;

/// How a registry wants to be asked.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Known {
    /// By user name and password.
    Basic,
    /// By a token.
    Bearer {
        /// The token endpoint; it was checked (S1).
        realm: Url,
        /// From the challenge.
        service: Option<String>,
        /// From the challenge.
        shape: Shape,
    },
}

impl Known {
    /// Whether it tells how other repositories are asked for as well.
    pub(super) fn is_general(&self) -> bool {
        match self {
            Known::Basic => true,
            Known::Bearer { shape, .. } => match shape {
                Shape::Around(..) => true,
                // That of a single repository, and not of the one that was asked for.
                Shape::Fixed(scope) => !scope.starts_with("repository:"),
            },
        }
    }
}

/// How scopes follow from repository names.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Shape {
    /// The same for all, such as `aws` at public.ecr.aws.
    Fixed(String),
    /// The name between two strings, such as `repository:` and `:pull`.
    Around(String, String),
}

impl Shape {
    /// The token specification's own: `repository:NAME:pull`.
    pub(super) fn usual() -> Self {
        Shape::Around("repository:".into(), ":pull".into())
    }

    /// The shape of a scope that was asked for this repository.
    pub(super) fn of(scope: &str, repository: &str) -> Self {
        let found = scope.match_indices(repository).find_map(|(at, name)| {
            let (before, after) = (&scope[..at], &scope[at + name.len()..]);
            let whole = before.ends_with([':', '/']) && after.starts_with(':');
            whole.then(|| Shape::Around(before.into(), after.into()))
        });
        found.unwrap_or_else(|| Shape::Fixed(scope.into()))
    }

    /// The scope for a repository.
    pub(super) fn scope(&self, repository: &str) -> String {
        match self {
            Shape::Fixed(scope) => scope.clone(),
            Shape::Around(before, after) => format!("{before}{repository}{after}"),
        }
    }
}

/// Remembers it for all requests.
#[derive(Default)]
pub(super) struct Memory(Mutex<Option<Known>>);

impl Memory {
    pub(super) fn get(&self) -> Option<Known> {
        lock(&self.0).clone()
    }

    pub(super) fn remember(&self, known: Known) {
        *lock(&self.0) = Some(known);
    }

    /// Forgets `known`, unless something else has been learned meanwhile.
    pub(super) fn forget(&self, known: &Known) {
        let mut now = lock(&self.0);
        if now.as_ref() == Some(known) {
            *now = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_how_scopes_are_made() {
        let around = |scope: &str, name: &str| match Shape::of(scope, name) {
            Shape::Around(before, after) => Some((before, after)),
            Shape::Fixed(_) => None,
        };
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(around("repository:library/x:pull", "library/x"), pair("repository:", ":pull"));
        assert_eq!(around("repository:a:pull", "a"), pair("repository:", ":pull"));
        assert_eq!(around("repository:virtual/library/x:pull", "library/x"), pair("repository:virtual/", ":pull"));
        assert_eq!(around("repository:project/x:pull", "project/x"), pair("repository:", ":pull"));
        assert_eq!(around("aws", "library/x"), None);
        assert_eq!(around("aws", "a"), None);
        assert_eq!(Shape::of("repository:a:pull", "a").scope("b/c"), Shape::usual().scope("b/c"));
    }

    #[test]
    fn what_was_learned_meanwhile_is_not_forgotten() {
        let memory = Memory::default();
        let bearer =
            |realm: &str| Known::Bearer { realm: realm.parse().unwrap(), service: None, shape: Shape::usual() };
        memory.remember(bearer("https://a.example/"));
        memory.forget(&Known::Basic);
        assert_eq!(memory.get(), Some(bearer("https://a.example/")));
        memory.forget(&bearer("https://a.example/"));
        assert_eq!(memory.get(), None);
    }
}
