//! **lanyard**, a pull-through caching container registry for a LAN.
//!
//! The rooms, in the order of `ls src`; docs/ARCHITECTURE.md says more about each, in the same
//! order.
//!
//! - [`access`]: users, passwords, tokens, and permissions.
//! - [`admin`]: an operator's view and orders, as plain values.
//! - [`app`]: puts everything together, and owns the order of start and stop.
//! - [`cli`]: the command line.
//! - [`config`]: the operator's settings.
//! - [`http`]: the registry API over actix-web, and the administration's API on a Unix socket.
//! - [`metrics`]: the counters.
//! - [`names`]: resolves the path of a request to a repository.
//! - [`network`]: trusted certificates, and the proxies on the way to other machines.
//! - [`oci`]: the specification's words as types. Pure.
//! - [`pull`]: gets the content of a repository, from storage or from its upstream.
//! - [`push`]: brings content into hosted repositories and deletes it there.
//! - [`retention`]: removes unneeded content, evicts cached content, keeps what is pinned, forgets
//!   names, and reads stored content again.
//! - [`runtime`]: threads, tasks, time. Knows nothing of registries.
//! - [`storage`]: the data folder. Knows nothing of upstreams.
//! - [`upstream`]: the registries of the internet. Knows nothing of the disk.
//!
//! From the ground up: `oci`, `runtime`, `network`; `config`, `metrics`; `storage`, `upstream`,
//! `names`, `access`; `pull`, `retention`; `push`, `admin`; `http`; `app`; `cli`. An import points
//! down only; `tests/it/layers.rs` says which rooms each one may use.

pub mod access;
pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod http;
pub mod metrics;
pub mod names;
pub mod network;
pub mod oci;
pub mod pull;
pub mod push;
pub mod retention;
pub mod runtime;
pub mod storage;
pub mod upstream;
