//! What the listeners share: the parts of the registry that answer a request, and what each
//! listener may do with them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use actix_web::HttpRequest;

use crate::{
    access::{Access, Action, Principal},
    http::{needs::Needs, peer::Site},
    metrics::{Metrics, Sample},
    names::Names,
    oci::{Namespace, Repository},
    pull::PullThrough,
    push::Push,
};

/// What the face needs of the house. Cheap to clone: one for each worker thread.
#[derive(Clone)]
pub struct Services {
    /// How content is got.
    pub pull: Arc<PullThrough>,
    /// How it gets in.
    pub push: Arc<Push>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// How clients reach it.
    pub site: Arc<Site>,
    /// Whether this is the whole registry, or only its pulls.
    pub role: ListenerRole,
    /// Which repository a request means.
    pub names: Arc<Names>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// False before everything is open and while draining; `/readyz` says so.
    pub ready: Arc<AtomicBool>,
    /// The gauges, gathered at each scrape. Must not block.
    pub sample: Arc<dyn Fn() -> Sample + Send + Sync>,
}

/// What an address is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenerRole {
    /// Everything.
    Full,
    /// Pulls that anybody may do, and nothing else: no challenge, no password is looked at (`mirror_listen`).
    PullOnly,
}

impl Services {
    /// Whether anybody can sign in here.
    pub(crate) fn signs_in(&self) -> bool {
        self.role == ListenerRole::Full && self.access.has_users()
    }

    /// Whether requests that need this are answered at all.
    pub(crate) fn answers(&self, needs: Needs) -> bool {
        match needs {
            Needs::Nothing | Needs::Greeting | Needs::List | Needs::Right(Action::Pull) => true,
            Needs::Right(Action::Push | Action::Delete | Action::Admin) => self.role == ListenerRole::Full,
        }
    }

    /// Who is at the other end of the connection, as far as its address tells.
    pub(crate) fn peer(&self, request: &HttpRequest) -> Principal {
        match self.role {
            ListenerRole::Full => self.site.principal(request),
            ListenerRole::PullOnly => Principal::Anonymous,
        }
    }

    /// Whether this address has the repository at all. The mirror has hosted ones only where the
    /// operator claimed their names: a push can never stand in for an image of the default upstream
    /// there (N1).
    pub(crate) fn shows(&self, repository: &Repository) -> bool {
        match (self.role, &repository.namespace) {
            (ListenerRole::Full, _) | (ListenerRole::PullOnly, Namespace::Upstream(_)) => true,
            (ListenerRole::PullOnly, Namespace::Hosted) => self.names.claims(&repository.name),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}
