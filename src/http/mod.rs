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
