//! The parts of the registry that answer requests, as each listener has them, and which requests a
//! listener answers at all. `app` makes one [`Services`] for each listener; handlers read it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use actix_web::HttpRequest;

use crate::{
    access::{Access, Action, Principal},
    admin::Admin,
    http::{needs::Needs, peer::Site},
    metrics::{Metrics, Sample},
    names::Names,
    oci::{Namespace, Repository},
    pull::PullThrough,
    push::Push,
};

/// The parts of the registry that one listener answers with. Cheap to clone: each worker thread has
/// its own.
#[derive(Clone)]
pub struct Services {
    /// Gets content.
    pub pull: Arc<PullThrough>,
    /// Takes pushed content in.
    pub push: Arc<Push>,
    /// Decides who may do what.
    pub access: Arc<Access>,
    /// How clients reach this lanyard.
    pub site: Arc<Site>,
    /// Which requests this listener answers.
    pub role: ListenerRole,
    /// Tells which repository a request means.
    pub names: Arc<Names>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// False before everything is open and while draining; `/readyz` says so.
    pub ready: Arc<AtomicBool>,
    /// The gauges, gathered at each scrape. Must not block.
    pub sample: Arc<dyn Fn() -> Sample + Send + Sync>,
    /// The administration; for [`ListenerRole::Admin`] alone.
    pub admin: Option<Arc<Admin>>,
}

/// Which requests a listener answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenerRole {
    /// All of the registry's (`listen`).
    Full,
    /// Pulls that anybody may do, and nothing else (`mirror_listen`). It sends no challenge and
    /// reads no password.
    PullOnly,
    /// `/api/v1` and nothing else: the Unix socket of the administration.
    Admin,
}

impl Services {
    /// Whether a client can sign in at this listener.
    pub(crate) fn signs_in(&self) -> bool {
        self.role == ListenerRole::Full && self.access.has_users()
    }

    /// Whether this listener answers requests that need this.
    pub(crate) fn answers(&self, needs: Needs) -> bool {
        match needs {
            Needs::Nothing | Needs::Greeting | Needs::List | Needs::Right(Action::Pull) => {
                self.role != ListenerRole::Admin
            }
            Needs::Right(Action::Push | Action::Delete | Action::Admin) => self.role == ListenerRole::Full,
            Needs::Admin => self.role == ListenerRole::Admin,
        }
    }

    /// The principal of the connection's other end, by its address alone.
    pub(crate) fn peer_principal(&self, request: &HttpRequest) -> Principal {
        match self.role {
            ListenerRole::Full => self.site.principal(request),
            ListenerRole::PullOnly | ListenerRole::Admin => Principal::Anonymous,
        }
    }

    /// Whether this listener has the repository. A listener that only pulls shows a hosted
    /// repository only if the operator claimed its name, so that a push can never replace an image
    /// of the default upstream there (N1).
    pub(crate) fn shows(&self, repository: &Repository) -> bool {
        match (self.role, &repository.namespace) {
            (ListenerRole::Full, _) | (ListenerRole::PullOnly, Namespace::Upstream(_)) => true,
            (ListenerRole::PullOnly, Namespace::Hosted) => self.names.claims(&repository.name),
            (ListenerRole::Admin, _) => false,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}
