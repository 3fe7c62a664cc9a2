//! Sockets, TLS and connections below the API. Nothing here knows a route.
//!
//! `server.rs` puts a server together for any one handler; `unix.rs` has the administration's
//! socket. A connection has a place (`places.rs`), hands on one request at a time (`pipeline.rs`)
//! and sends stored bytes by the kernel (`plane/`).

pub(crate) mod connection;
pub(crate) mod door;
pub(crate) mod framing;
pub(crate) mod limits;
pub(crate) mod loads;
pub(crate) mod pipeline;
pub(crate) mod places;
pub(crate) mod plane;
pub(crate) mod server;
pub(crate) mod shares;
pub(crate) mod tls;
pub(crate) mod traffic;
pub(crate) mod unix;
