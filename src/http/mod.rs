//! The registry API and the administration's API over actix-web. Only this room, `app` and the
//! fetcher know actix's types. Called by [`app`](crate::app).
//!
//! A request takes six steps:
//!
//! 1. `target.rs` reads the raw path, and `needs.rs` says what its route needs.
//! 2. [`names`](crate::names) says which repository the path means.
//! 3. `authorizer.rs` decides whether the client has what the route needs.
//! 4. A file in `v2/` or `api/` asks [`PullThrough`](crate::pull::PullThrough),
//!    [`Push`](crate::push::Push) or [`Admin`](crate::admin::Admin), and makes a reply (`answer/`).
//! 5. The connection sends it (`transport/`).
//! 6. The access log gets one line when the last byte is handed over or the client has left.
//!
//! `routes.rs` has every route of every listener on one page. An import points down this list:
//! `listeners`, `routes`, `v2` and `api`, `authorizer`, `request`, `answer`, `transport`.
//!
//! Promises, each held by a test of its name:
//! - HEAD answers with GET's headers.
//! - A body that fails is cut short of its `Content-Length` and never completed.
//! - A pull that anybody may do is never answered 401. Its `Authorization` is not read, and never
//!   logged (S18).
//! - `/v2/` waits for no upstream.
//! - A peer that neither reads nor writes is disconnected (`transport/connection.rs`,
//!   `request_body.rs`).

mod answer;
mod api;
mod authorizer;
mod forwarded;
mod health;
mod listeners;
mod needs;
mod peer;
mod query;
mod request;
mod request_body;
mod routes;
mod services;
mod target;
#[cfg(test)]
pub(crate) mod testing;
mod transport;
mod v2;

pub use listeners::{run, run_admin};
pub use peer::Site;
pub use services::{ListenerRole, Services};
pub use transport::{
    limits::ServerLimits,
    server::{BindError, bind},
    tls::{Certificate, TlsError},
    unix::{AdminSocket, AdminSocketError, SocketFile},
};
