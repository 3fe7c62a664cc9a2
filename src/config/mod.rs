//! The configuration as plain, checked data (DESIGN.md section 1).
//!
//! [`Config::load`] promises: the layers are the defaults, the file, the `LANYARD__` environment
//! and the flags, each over the one before; it returns every problem of all of them at once, each
//! with its source; no secret is in a value that can be printed. The values are right: no room
//! above has to check one again.
//!
//! A reader starts at `keys.rs`, which lists every key. `load.rs` puts the layers together,
//! `schema.rs` refuses unknown keys, `parse/` has the types of single values, `check.rs`,
//! `check_access.rs`, `check_tags.rs` and `check_upstream.rs` check several keys together,
//! `show.rs` prints the values. `lock_file.rs` has the form of the files that a rule of tags names.

mod advice;
mod check;
mod check_access;
mod check_storage;
mod check_tags;
mod check_upstream;
mod credentials;
mod environment;
#[cfg(test)]
mod example;
mod file;
mod freeze;
mod image_pattern;
mod inputs;
mod keys;
mod layer;
mod load;
mod lock_file;
mod parse;
mod pattern;
mod problem;
mod reader;
mod rule;
mod schema;
mod show;
mod storage_keys;
mod table;
mod tag_pattern;
#[cfg(test)]
mod tests;
mod upstream;
mod values;

pub use credentials::Credentials;
pub use freeze::{Day, Freeze, NoDay, TagTtl, Unlisted};
pub use image_pattern::{ImagePattern, ImagePatternError};
pub use inputs::{Flags, Inputs};
pub use keys::{Auth, Cache, Config, Hosted, Log, Rule, TagRule, Tls, Upstream};
pub use load::Loaded;
pub use lock_file::{LockFile, LockFileError, LockedImage};
pub use pattern::{Pattern, PatternError};
pub use problem::{Problem, Provenance, Source};
pub use rule::{Action, RepositoryPattern, Who};
pub use storage_keys::Storage;
pub use tag_pattern::{TagPattern, TagPatternError};
pub use upstream::BUILT_IN;
pub use values::{Addressing, Checksum, Encryption, LogFormat, MaxSize, MinFree, Mode, StorageKind};

pub(crate) use parse::{units::size as parse_size, upstream::read_password};
