//! What the operator said: the configuration as plain, checked data (DESIGN.md section 1).

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::oci::UpstreamName;

/// Everything the operator can say, with defaults filled in and every value checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the registry listens.
    pub listen: SocketAddr,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Whether upstreams may be asked.
    pub mode: Mode,
    /// Whose names need no prefix.
    pub default_upstream: UpstreamName,
    /// How much is kept, and how long tags are believed.
    pub cache: Cache,
    /// Names that are never looked up upstream.
    pub hosted: Hosted,
    /// The closed list of upstreams, built-in ones included.
    pub upstreams: Vec<Upstream>,
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
#[derive(Clone, Debug)]
pub struct Cache {
    /// The most cached bytes.
    pub max_size: Option<u64>,
    /// The free space that is left to the disk.
    pub min_free: MinFree,
    /// How long a tag is served unasked.
    pub tag_ttl: Duration,
    /// How long a "not found" is believed.
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
#[derive(Clone, Debug, Default)]
pub struct Hosted {
    /// Name patterns that are never looked up upstream.
    pub namespaces: Vec<Pattern>,
}

/// A pattern over repository names: `*` is one path segment (or a part of one), `**` any number of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern(String);

/// `[[upstream]]`
#[derive(Clone)]
pub struct Upstream {
    /// The value of `ns=`, and the path prefix.
    pub name: UpstreamName,
    /// The registry's base URL, scheme, host and port; a path is kept as a prefix.
    pub url: url::Url,
    /// Whether `url` is the built-in one: then only public addresses are ever dialled.
    pub built_in_url: bool,
    /// For Basic, and for the token endpoint.
    pub credentials: Option<Credentials>,
    /// PEM file with additional trust anchors.
    pub ca_file: Option<PathBuf>,
    /// `http://[user:password@]host:port`; absent: `HTTPS_PROXY`/`HTTP_PROXY`/`NO_PROXY` of the environment.
    pub proxy: Option<url::Url>,
    /// Hosts beside the upstream's own that may issue tokens.
    pub token_hosts: Vec<String>,
    /// Repositories that may be pulled; empty: all.
    pub allow: Vec<Pattern>,
    /// Repositories that may not be pulled.
    pub block: Vec<Pattern>,
    /// Overrides `cache.tag_ttl`.
    pub tag_ttl: Option<Duration>,
    /// Go on serving what upstream has deleted.
    pub keep_deleted: bool,
    /// The most connections at a time.
    pub connections: usize,
}

/// A user name and a secret. `Debug` and `Display` never show the secret.
#[derive(Clone)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

/// `[log]`
#[derive(Clone, Copy, Debug)]
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
