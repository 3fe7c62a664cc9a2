//! Sockets, TLS and connections below the API. Nothing here knows a route.
//!
//! `server.rs` puts a server together for any one handler; `unix.rs` has the administration's
//! socket. A connection has a place (`places.rs`), hands on one request at a time (`pipeline.rs`)
//! and sends stored bytes by the kernel (`plane/`).

pub(crate) mod acceptor;
pub(crate) mod answer_memory;
pub(crate) mod connection;
pub(crate) mod connection_state;
pub(crate) mod framing;
pub(crate) mod limits;
pub(crate) mod pipeline;
pub(crate) mod places;
pub(crate) mod plane;
pub(crate) mod request_memory;
pub(crate) mod server;
pub(crate) mod tls;
pub(crate) mod unix;
