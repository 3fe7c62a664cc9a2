//! An authorized request, as the handlers in `v2/` get it.
//!
//! [`RequestContext`] resolves the path's repository once. What was authorized is what is served.

use std::sync::Arc;

use actix_web::{
    HttpRequest,
    http::{Method, header::CONTENT_LENGTH},
};

use crate::{
    access::{Action, Principal},
    http::{
        answer::{access_log::LogEntry, delivery::Delivery},
        authorizer,
        query::Query,
        request_body::RequestBody,
        services::{ListenerRole, Services},
        transport::places,
    },
    names::Spelling,
    oci::{Digest, ErrorCode, RegistryError, Repository, RepositoryName},
    pull::PullError,
    push::{MayPull, PushError},
};

/// A request that has been understood and authorized.
pub(crate) struct RequestContext<'a> {
    pub(crate) request: &'a HttpRequest,
    pub(crate) services: &'a Services,
    pub(crate) query: Query,
    pub(crate) entry: &'a mut LogEntry,
    pub(crate) delivery: &'a mut Delivery,
    /// The client. It has the right that the route needs.
    pub(crate) principal: Principal,
    /// The request's body.
    pub(crate) body: RequestBody,
    pub(crate) repository: Option<Repository>,
}

impl RequestContext<'_> {
    pub(crate) fn is_head(&self) -> bool {
        *self.request.method() == Method::HEAD
    }

    /// The repository that the path and its `ns=` mean, resolved once for each request.
    ///
    /// # Errors
    /// The path means no repository.
    pub(crate) fn repository(&self) -> Result<Repository, RegistryError> {
        self.repository.clone().ok_or_else(|| RegistryError::new(ErrorCode::NameInvalid, "there is no repository here"))
    }

    /// The same for a push.
    ///
    /// # Errors
    /// The path means no repository, or the name takes no push.
    pub(crate) fn push_target(&self) -> Result<Repository, RegistryError> {
        let repository = self.repository()?;
        self.takes(&repository).map_err(|refused| refused.to_registry_error())?;
        Ok(repository)
    }

    /// Refuses a name that takes no push from this client's machine.
    fn takes(&self, repository: &Repository) -> Result<(), PushError> {
        let push = &self.services.push;
        push.takes(repository)?;
        if self.is_here() { Ok(()) } else { push.takes_from_others(repository) }
    }

    /// Whether the client, which was let in to pull, may push to this repository as well. What it
    /// is told by HEAD counts for its push.
    pub(crate) async fn may_push(&self, repository: &Repository) -> bool {
        self.services.role == ListenerRole::Full
            && self.takes(repository).is_ok()
            && authorizer::may_push(self.request, self.services, &self.principal, repository).await
    }

    /// Whether the client is on this machine.
    pub(crate) fn is_here(&self) -> bool {
        self.services.peer_principal(self.request) == Principal::Loopback
    }

    /// Another repository that any client at this address may pull, and that holds `digest`, which
    /// `repository` only names. Asked for when upstream cannot be asked. The rights of a user do
    /// not count: the token may be narrower than they are.
    pub(crate) async fn other_holder(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Repository>, PullError> {
        let (services, peer) = (self.services.clone(), self.services.peer_principal(self.request));
        let may_pull = move |holder: &Repository| {
            services.shows(holder) && services.access.authorize(&peer, Action::Pull, holder).is_ok()
        };
        self.services.pull.holder(repository, digest, may_pull).await
    }

    /// Whether a push to this name would create a hosted repository. Until then a client that reads
    /// the name gets the mirrored one.
    pub(crate) fn could_be_pushed_to(&self, spelling: &Spelling) -> bool {
        let pushed = resolve(self.services, spelling, self.query.ns.as_deref(), Action::Push, None);
        self.services.role == ListenerRole::Full
            && pushed.is_ok_and(|pushed| self.services.push.takes(&pushed).is_ok() && Some(pushed) != self.repository)
    }

    /// The repository that a name in the query means to a client that reads this blob.
    pub(crate) fn named(&self, name: &str, blob: &Digest) -> Result<Repository, RegistryError> {
        let name = name.parse::<RepositoryName>();
        let name = name.map_err(|error| RegistryError::new(ErrorCode::NameInvalid, error.to_string()))?;
        resolve(self.services, &Spelling { host: None, name }, None, Action::Pull, Some(blob))
    }

    /// Whether this client may pull from a repository that its path does not name, to mount from it
    /// or to list it. The principal decides. The scope of its token does not count: docker brings a
    /// token for the target of a mount only, and a token for the catalogue names no repository.
    pub(crate) fn may_pull(&self) -> MayPull {
        let access = Arc::clone(&self.services.access);
        // A user has at least the rights of the address.
        let everybody = [self.principal.clone(), self.services.peer_principal(self.request)];
        let services = self.services.clone();
        Arc::new(move |repo| {
            services.shows(repo) && everybody.iter().any(|who| access.authorize(who, Action::Pull, repo).is_ok())
        })
    }

    /// The owner that the number of uploads is bounded for: a user, or else an address as
    /// [`places::owner`] counts addresses.
    pub(crate) fn owner(&self) -> String {
        match self.principal.user() {
            Some(user) => format!("user {user}"),
            None => places::owner(self.services.site.client(self.request).address).to_string(),
        }
    }

    /// The body's length, if the head states it.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}

/// The repository that a path and its `ns=` mean; `blob` is the blob that the path names. A push or
/// deletion means the hosted repository, also one that does not exist yet, unless the client names
/// an upstream.
pub(crate) fn resolve(
    services: &Services,
    spelling: &Spelling,
    ns: Option<&str>,
    action: Action,
    blob: Option<&Digest>,
) -> Result<Repository, RegistryError> {
    let hosted = |name: &RepositoryName| services.role == ListenerRole::Full && services.pull.hosts(name, blob);
    services.names.resolve(spelling, ns, |name| action != Action::Pull || hosted(name))
}
