//! A request that has the right its route needs, as the files that answer it see it.

use std::sync::Arc;

use actix_web::{
    HttpRequest,
    http::{Method, header::CONTENT_LENGTH},
};

use crate::{
    access::{Action, Principal},
    http::{
        answer::{access_log::LogEntry, delivery::Delivery},
        query::Query,
        request_body::RequestBody,
        services::{ListenerRole, Services},
        transport::places,
    },
    names::Spelling,
    oci::{Digest, ErrorCode, RegistryError, Repository, RepositoryName},
    pull::PullError,
    push::MayPull,
};

/// A request that has been understood, for the files that answer it.
pub(crate) struct RequestContext<'a> {
    pub(crate) request: &'a HttpRequest,
    pub(crate) services: &'a Services,
    pub(crate) query: Query,
    pub(crate) entry: &'a mut LogEntry,
    pub(crate) delivery: &'a mut Delivery,
    /// Who asks; has the right that the table says.
    pub(crate) principal: Principal,
    /// The request's body.
    pub(crate) body: RequestBody,
    pub(crate) repository: Option<Repository>,
}

impl RequestContext<'_> {
    pub(crate) fn is_head(&self) -> bool {
        *self.request.method() == Method::HEAD
    }

    /// The repository that the path and its `ns=` mean. It is looked up once for each request: what was authorized is what is
    /// served. An error where the path means none.
    pub(crate) fn repository(&self) -> Result<Repository, RegistryError> {
        self.repository.clone().ok_or_else(|| RegistryError::new(ErrorCode::NameInvalid, "there is no repository here"))
    }

    /// The same for a request that pushes; an error where the name takes no push.
    pub(crate) fn push_target(&self) -> Result<Repository, RegistryError> {
        let repository = self.repository()?;
        let push = &self.services.push;
        let here = self.is_here();
        let taken =
            push.takes(&repository).and_then(|()| if here { Ok(()) } else { push.takes_from_others(&repository) });
        taken.map_err(|refused| refused.to_registry_error())?;
        Ok(repository)
    }

    /// Whether this machine itself asks.
    pub(crate) fn is_here(&self) -> bool {
        self.services.peer_principal(self.request) == Principal::Loopback
    }

    /// Another repository in which anybody at this client's address may have what `repository` only
    /// names, where upstream cannot be asked. What a user may do is left out: its token may be
    /// narrower.
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

    /// Whether a push to this name would go to a hosted repository that is not there yet: a client that reads it meets the
    /// mirrored one.
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

    /// Whether this client may pull from repositories that its path does not name: to mount from
    /// one, to list them. That goes by who it is. Which repositories its token was asked for is not
    /// looked at: docker brings one for the target of a mount alone, and the one for the catalogue
    /// names none.
    pub(crate) fn may_pull(&self) -> MayPull {
        let access = Arc::clone(&self.services.access);
        // Signing in takes nothing away.
        let everybody = [self.principal.clone(), self.services.peer_principal(self.request)];
        let services = self.services.clone();
        Arc::new(move |repo| {
            services.shows(repo) && everybody.iter().any(|who| access.authorize(who, Action::Pull, repo).is_ok())
        })
    }

    /// Whose uploads these are, for their number: a user's, or an address's, as [`places::owner`]
    /// counts those.
    pub(crate) fn owner(&self) -> String {
        match self.principal.user() {
            Some(user) => format!("user {user}"),
            None => places::owner(self.services.site.client(self.request).address).to_string(),
        }
    }

    /// The body's length, where the head has it.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}

/// What a path and its `ns=` mean, where it names a blob with that. Pushes and deletions are about hosted repositories, whether they exist or not, unless the
/// client names an upstream.
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
