//! Sockets, TLS and connections below the API. No file here knows a route. `http/listeners.rs`
//! starts the servers; answers reach their connection through [`connection_state`].
//!
//! `server.rs` makes a server around any one handler, `unix.rs` the one on the administration's
//! socket. A connection gets a place among all others (`places.rs`), is accepted (`acceptor.rs`),
//! lets one request through at a time (`pipeline.rs`), and sends stored bytes by the kernel
//! (`plane/`). The memory of requests and answers is bounded in `request_memory.rs` and
//! `answer_memory.rs`.

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
