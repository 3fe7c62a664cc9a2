//! The configuration as plain, checked data (DESIGN.md section 1).
//!
//! [`Config::load`] promises: the layers are the defaults, the file, the `LANYARD__` environment
//! and the flags, each over the one before; it returns every problem of all of them at once, each
//! with its source; no secret is in a value that can be printed. The values are right: no room
//! above has to check one again.
//!
//! A reader starts at `keys.rs`, which lists every key. `load.rs` puts the layers together,
//! `schema.rs` refuses unknown keys, `parse/` has the types of single values, `check.rs`,
//! `check_access.rs` and `check_upstream.rs` check several keys together, `show.rs` prints the
//! values.

mod advice;
mod check;
mod check_access;
mod check_upstream;
mod credentials;
mod environment;
#[cfg(test)]
mod example;
mod file;
mod inputs;
mod keys;
mod layer;
mod load;
mod parse;
mod pattern;
mod problem;
mod reader;
mod rule;
mod schema;
mod show;
mod table;
mod tag_pattern;
#[cfg(test)]
mod tests;
mod upstream;
mod values;

pub use credentials::Credentials;
pub use inputs::{Flags, Inputs};
pub use keys::{Auth, Cache, Config, Hosted, Log, Rule, Tls, Upstream};
pub use load::Loaded;
pub use pattern::{Pattern, PatternError};
pub use problem::{Problem, Provenance, Source};
pub use rule::{Action, RepositoryPattern, Who};
pub use tag_pattern::{TagPattern, TagPatternError};
pub use upstream::BUILT_IN;
pub use values::{LogFormat, MinFree, Mode};

pub(crate) use parse::upstream::read_password;
