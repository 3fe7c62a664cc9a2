//! The registry API over actix-web. Only this room and `app` know actix-web's types.
//!
//! A request takes five steps: [`target`] reads the raw path, [`names`](crate::names) says which repository it means, [`auth`]
//! whether whoever asks may do that, one file for each end point asks [`PullThrough`] or [`Push`] and makes a [`reply`], and
//! [`access_log`] writes one line when the last byte is handed over or the client has left. `routes.rs` has every route on one
//! page.
//!
//! Promises, each held by a test of its name: HEAD answers with GET's headers; a body that fails is cut short of its
//! `Content-Length` and never completed; a pull that anybody may do is never answered 401, and what is sent as
//! `Authorization` is then not read; it is never logged (S18); `/v2/` waits for nobody; a peer that neither reads nor writes is
//! let go (`transport/connection.rs`, `request_body.rs`).

mod answer;
mod api;
mod authorizer;
mod forwarded;
mod health;
mod peer;
mod query;
mod request_body;
mod routes;
mod target;
#[cfg(test)]
pub(crate) mod testing;
mod transport;
mod v2;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

pub use api::{Admin, Repositories, Started, Status, UpstreamStatus};
pub use peer::Site;
pub use transport::server::{BindError, Limits, bind, run};
pub use transport::tls::{Certificate, TlsError};
pub use transport::unix::{AdminSocket, SOCKET, SocketError, SocketFile};

use actix_web::HttpRequest;
use routes::Needs;

use crate::{
    access::{Access, Action, Principal},
    metrics::{Metrics, Sample},
    names::Names,
    oci::{Namespace, Repository},
    pull::PullThrough,
    push::Push,
};

/// What the face needs of the house. Cheap to clone: one for each worker thread.
#[derive(Clone)]
pub struct Face {
    /// How content is got.
    pub pull: Arc<PullThrough>,
    /// How it gets in.
    pub push: Arc<Push>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// How clients reach it.
    pub site: Arc<Site>,
    /// Whether this is the whole registry, or only its pulls.
    pub side: Side,
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
pub enum Side {
    /// Everything.
    Whole,
    /// Pulls that anybody may do, and nothing else: no challenge, no password is looked at (`mirror_listen`).
    Mirror,
}

impl Face {
    /// Whether anybody can sign in here.
    fn signs_in(&self) -> bool {
        self.side == Side::Whole && self.access.has_users()
    }

    /// Whether requests that need this are answered at all.
    fn answers(&self, needs: Needs) -> bool {
        match needs {
            Needs::Nothing | Needs::Greeting | Needs::List | Needs::Right(Action::Pull) => true,
            Needs::Right(Action::Push | Action::Delete | Action::Admin) => self.side == Side::Whole,
        }
    }

    /// Who is at the other end of the connection, as far as its address tells.
    fn peer(&self, request: &HttpRequest) -> Principal {
        match self.side {
            Side::Whole => self.site.principal(request),
            Side::Mirror => Principal::Anonymous,
        }
    }

    /// Whether this address has the repository at all. The mirror has hosted ones only where the
    /// operator claimed their names: a push can never stand in for an image of the default upstream
    /// there (N1).
    fn shows(&self, repository: &Repository) -> bool {
        match (self.side, &repository.namespace) {
            (Side::Whole, _) | (Side::Mirror, Namespace::Upstream(_)) => true,
            (Side::Mirror, Namespace::Hosted) => self.names.claims(&repository.name),
        }
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}
