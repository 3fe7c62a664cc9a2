//! What the operator said: the configuration as plain, checked data (DESIGN.md section 1).
//!
//! [`Config::load`] promises: defaults, then the file, then the `LANYARD__` environment, then flags, each over
//! the one before; every problem of all of them at once, each with its source; no secret in anything that can be
//! printed. What it returns is right in itself: no room above has to check a value again.
//!
//! A reader starts at `load.rs`, which puts the layers together; `schema.rs` lists every key,
//! `check.rs`, `check_access.rs`, `check_site.rs`, `check_tls.rs` and `check_upstream.rs` turn
//! their text into the types below, `show.rs` prints them.

mod advice;
mod check;
mod check_access;
mod check_site;
mod check_tls;
mod check_upstream;
mod environment;
#[cfg(test)]
mod example;
mod file;
mod layer;
mod load;
mod pattern;
mod problem;
mod reader;
mod rule;
mod schema;
mod show;
mod tag_pattern;
#[cfg(test)]
mod tests;
mod units;
mod upstream;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

use crate::oci::UpstreamName;

pub use load::{Flags, Loaded, Sources};
pub use pattern::{Pattern, PatternError};
pub use problem::{Problem, Provenance, Source};
pub use rule::{Action, Place, Rule, Who};
pub use tag_pattern::{TagPattern, TagPatternError};
pub use upstream::{BUILT_IN, Credentials, Upstream};

pub(crate) use check_upstream::read_password;

/// Everything the operator can say, with defaults filled in and every value checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Where the registry listens.
    pub listen: SocketAddr,
    /// Where a second face listens that only pulls and never challenges; absent: nowhere. Never the same as `listen`.
    pub mirror_listen: Option<SocketAddr>,
    /// Names of this machine, beside those that nobody else can have: lower case, without a port or
    /// a dot at the end.
    pub names: Vec<String>,
    /// Scheme, host and port at which clients reach lanyard, without a slash at the end; absent: as
    /// each request says.
    pub public_url: Option<String>,
    /// Proxies whose word is taken for the address that a request comes from.
    pub trusted_proxies: Vec<IpNet>,
    /// Where everything is kept. A relative path is relative to the folder lanyard was started in.
    pub data_dir: PathBuf,
    /// Whether upstreams may be asked.
    pub mode: Mode,
    /// Whose names need no prefix. Always one of `upstreams`.
    pub default_upstream: UpstreamName,
    /// Within how long everything on disk is read and hashed again; zero: never. At most a year.
    pub scrub_every: Duration,
    /// How much is kept, and how long tags are believed.
    pub cache: Cache,
    /// What may be pushed, and what is never looked up upstream.
    pub hosted: Hosted,
    /// The closed list of upstreams, built-in ones included. Each name is there once.
    pub upstreams: Vec<Upstream>,
    /// The certificate to serve with; absent: plain HTTP.
    pub tls: Option<Tls>,
    /// Who can sign in.
    pub auth: Auth,
    /// Who may do what; the built-in rules where none is given.
    pub access: Vec<Rule>,
    /// How the log looks.
    pub log: Log,
}

/// When upstreams are asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// When needed; what is here is served when they do not answer.
    Auto,
    /// When needed; a failure to reach them is an error even where a stale tag is here.
    Online,
    /// Never: no upstream connection is ever opened.
    Offline,
}

/// `[cache]`
#[derive(Clone, PartialEq, Debug)]
pub struct Cache {
    /// The most cached bytes, at least 1; absent: only `min_free` bounds them.
    pub max_size: Option<u64>,
    /// The free space that is left to the disk.
    pub min_free: MinFree,
    /// How long a tag is served unasked; zero: every request asks. At most a year.
    pub tag_ttl: Duration,
    /// How long a "not found" is believed; zero: not at all. At most a year.
    pub negative_ttl: Duration,
}

/// A share of the disk, or bytes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum MinFree {
    /// Percent of the file system's size, 0 to 100.
    Percent(f64),
    /// Bytes.
    Bytes(u64),
}

/// `[hosted]`
#[derive(Clone, PartialEq, Debug)]
pub struct Hosted {
    /// Name patterns that are never looked up upstream. None begins with an upstream's name (SECURITY.md S16).
    pub namespaces: Vec<Pattern>,
    /// Name patterns that never accept a push.
    pub reserved: Vec<Pattern>,
    /// Tags that, once pushed, neither move nor go.
    pub immutable_tags: Vec<TagPattern>,
    /// Whether manifests are accepted whose parts are not here.
    pub sparse: bool,
    /// How many uploads one user, or one address without a user, may have open.
    pub uploads_per_user: usize,
    /// How many uploads may be open in all.
    pub uploads: usize,
    /// How long pushed content that nothing needs stays after it was last asked for. At most a
    /// year.
    pub gc_grace: Duration,
}

/// `[tls]`: files in PEM. They may change while lanyard runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// The certificate, with those that lead to its root behind it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `[auth]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Auth {
    /// The file of users with their bcrypt hashes; absent: there are no users. It may not be there yet.
    pub htpasswd: Option<PathBuf>,
}

/// `[log]`
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Log {
    /// Text for people, JSON for machines.
    pub format: LogFormat,
}

/// The format of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// One line for a person.
    Text,
    /// One JSON object a line.
    Json,
}
