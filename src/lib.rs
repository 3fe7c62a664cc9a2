//! **lanyard**, a pull-through caching container registry for a LAN.
//!
//! The rooms, from the ground up. An import may only point down this list; `tests/it/layers.rs` holds it.
//!
//! - [`oci`]: the specification's words as types. Pure.
//! - [`config`], [`metrics`]: what the operator said, and what is counted. Plain data, read by every room above.
//! - [`runtime`]: threads, tasks, time. Knows nothing of registries.
//! - [`storage`], [`upstream`]: the disk, and the registries of the internet. Strangers to each other.
//! - [`names`], [`access`], [`pull`]: which repository a request means, who may do what with it, and how its content is got.
//! - [`push`]: how content gets into hosted repositories, and out of them.
//! - [`retention`]: what nobody needs any more goes away in the background. Beside [`pull`] and [`push`], a stranger to both.
//! - [`admin`]: what an operator sees and does, as plain values.
//! - [`http`]: the registry API over actix-web, and the administration's on a Unix socket.
//! - [`app`], [`cli`]: everything put together, and the command line.

pub mod access;
pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod http;
pub mod metrics;
pub mod names;
pub mod oci;
pub mod pull;
pub mod push;
pub mod retention;
pub mod runtime;
pub mod storage;
pub mod upstream;
