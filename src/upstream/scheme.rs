//! How a registry wants to be asked, from its last challenge: Basic, or Bearer with realm, service
//! and the rule of its scopes.
//!
//! `auth` uses it to bring credentials before the first 401. `answering` and `auth` change it, and
//! forget it when it no longer works.

use parking_lot::Mutex;
use url::Url;

/// How a registry wants to be asked.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum AuthScheme {
    /// With user name and password.
    Basic,
    /// With a token.
    Bearer {
        /// The token endpoint, checked (S1).
        realm: Url,
        /// The challenge's `service`.
        service: Option<String>,
        /// How its scopes are made.
        rule: ScopeRule,
    },
}

impl AuthScheme {
    /// Whether it also tells how to ask for other repositories.
    pub(super) fn is_general(&self) -> bool {
        match self {
            AuthScheme::Basic => true,
            AuthScheme::Bearer { rule, .. } => match rule {
                ScopeRule::Around(..) => true,
                // The scope of a single repository that is not the one asked for.
                ScopeRule::Fixed(scope) => !scope.starts_with("repository:"),
            },
        }
    }
}

/// How scopes are made from repository names.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum ScopeRule {
    /// One scope for all repositories, such as `aws` at public.ecr.aws.
    Fixed(String),
    /// The repository's name between two strings, such as `repository:` and `:pull`.
    Around(String, String),
}

impl ScopeRule {
    /// The rule of the token specification: `repository:NAME:pull`.
    pub(super) fn usual() -> Self {
        ScopeRule::Around("repository:".into(), ":pull".into())
    }

    /// The rule behind a scope that the registry asked for this repository.
    pub(super) fn of(scope: &str, repository: &str) -> Self {
        let found = scope.match_indices(repository).find_map(|(at, name)| {
            let (before, after) = (&scope[..at], &scope[at + name.len()..]);
            let whole = before.ends_with([':', '/']) && after.starts_with(':');
            whole.then(|| ScopeRule::Around(before.into(), after.into()))
        });
        found.unwrap_or_else(|| ScopeRule::Fixed(scope.into()))
    }

    /// The scope for a repository.
    pub(super) fn scope(&self, repository: &str) -> String {
        match self {
            ScopeRule::Fixed(scope) => scope.clone(),
            ScopeRule::Around(before, after) => format!("{before}{repository}{after}"),
        }
    }
}

/// The scheme that all requests to one registry share.
#[derive(Default)]
pub(super) struct LearnedScheme(Mutex<Option<AuthScheme>>);

impl LearnedScheme {
    pub(super) fn get(&self) -> Option<AuthScheme> {
        self.0.lock().clone()
    }

    pub(super) fn remember(&self, scheme: AuthScheme) {
        *self.0.lock() = Some(scheme);
    }

    /// Forgets `scheme`, unless another one has been learned meanwhile.
    pub(super) fn forget(&self, scheme: &AuthScheme) {
        let mut now = self.0.lock();
        if now.as_ref() == Some(scheme) {
            *now = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_how_scopes_are_made() {
        let around = |scope: &str, name: &str| match ScopeRule::of(scope, name) {
            ScopeRule::Around(before, after) => Some((before, after)),
            ScopeRule::Fixed(_) => None,
        };
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(around("repository:library/x:pull", "library/x"), pair("repository:", ":pull"));
        assert_eq!(around("repository:a:pull", "a"), pair("repository:", ":pull"));
        assert_eq!(around("repository:virtual/library/x:pull", "library/x"), pair("repository:virtual/", ":pull"));
        assert_eq!(around("repository:project/x:pull", "project/x"), pair("repository:", ":pull"));
        assert_eq!(around("aws", "library/x"), None);
        assert_eq!(around("aws", "a"), None);
        assert_eq!(ScopeRule::of("repository:a:pull", "a").scope("b/c"), ScopeRule::usual().scope("b/c"));
    }

    #[test]
    fn what_was_learned_meanwhile_is_not_forgotten() {
        let learned = LearnedScheme::default();
        let bearer =
            |realm: &str| AuthScheme::Bearer { realm: realm.parse().unwrap(), service: None, rule: ScopeRule::usual() };
        learned.remember(bearer("https://a.example/"));
        learned.forget(&AuthScheme::Basic);
        assert_eq!(learned.get(), Some(bearer("https://a.example/")));
        learned.forget(&bearer("https://a.example/"));
        assert_eq!(learned.get(), None);
    }
}
