//! Every key of the configuration, on one page. To add a key, add its entry here and its lines to
//! `config.example.toml`; the test in `example.rs` prints the lines that it expects.
//!
//! The first paragraph above a key is for the operator and stands in `config.example.toml`. The
//! paragraphs after it are for developers. `table.rs` lists the forms of an entry. The functions in
//! `parse/` check one value; `check.rs`, `check_access.rs`, `check_tags.rs` and `check_upstream.rs`
//! check several keys together. A key that is not here is a problem: no unknown setting is ignored.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use url::Url;

use super::{
    credentials::Credentials,
    freeze::{Freeze, TagTtl, Unlisted},
    image_pattern::ImagePattern,
    parse::{
        access::{action, users_file},
        boolean, number, parsed, path,
        pem::{certificates, private_key},
        site::{address, host_name, network, public_url},
        tags::{freeze, image_pattern, interval, tag_ttl},
        text_of,
        units::{duration, duration_or_never, max_size, min_free},
        upstream::{prefix, proxy, token_host},
        words,
    },
    pattern::Pattern,
    reader::{Reader, Section},
    rule::{Action, RepositoryPattern, Who},
    storage_keys::Storage,
    table::{ConfigKey, KeyKind, keys},
    tag_pattern::TagPattern,
    values::{LogFormat, MaxSize, MinFree, Mode},
};
use crate::oci::{RepositoryName, UpstreamName};

/// The most uploads that can be allowed: each open one is a folder, and a descriptor while it is
/// written.
const MOST_UPLOADS: usize = 1_000_000;

/// The most digests of a tag that can be kept: its history has no more.
const MOST_KEPT: usize = 16;

/// The most connections to one upstream that can be asked for. A registry would refuse more.
const MOST_CONNECTIONS: usize = 1000;

keys! {
    /// Everything the operator can say, with defaults filled in and every value checked.
    #[derive(Clone, PartialEq, Debug)]
    pub struct Config {
        /// The address and port of the registry. `[::]:5000` is every address, IPv6 included.
        listen: SocketAddr = value("0.0.0.0:5000", address),

        /// A second address, which only serves pulls and never asks a client to sign in. Once there
        /// are users, Docker's registry-mirrors should point here: dockerd would send people's
        /// Docker Hub passwords to an address that asks.
        ///
        /// Its port is not the port of `listen`.
        mirror_listen: Option<SocketAddr> = option("0.0.0.0:5001", address),

        /// Names by which this machine itself reaches lanyard, as in ["registry.example.com"].
        /// Requests from this machine have the rights of "loopback" at an address, at localhost, at
        /// a name without dots or below .local, at the machine's own name, and at the names of the
        /// certificate. Any other name has to be listed here, because a web page could make a name
        /// of its own lead to this machine.
        ///
        /// In lower case, without a port or a dot at the end.
        names: Vec<String> = list([], host_name),

        /// The URL at which clients reach lanyard, if a proxy in front does not tell it: scheme,
        /// host and port. Clients are sent there to sign in.
        ///
        /// Without a slash at the end. If it is absent, each request tells the URL.
        public_url: Option<String> = option("https://registry.example.com", public_url),

        /// Proxies in front of lanyard, by address or network, as in ["10.0.0.5", "10.1.0.0/16"].
        /// Wrong passwords are counted for the address that such a proxy names in X-Forwarded-For
        /// or Forwarded. From other addresses these headers are not believed. docs/PROXY.md has an
        /// example.
        trusted_proxies: Vec<IpNet> = list([], network),

        /// The folder of all data. Only one lanyard can use a folder.
        ///
        /// A relative path begins in the folder that lanyard is started in.
        data_dir: PathBuf = value("data", path),

        /// When upstreams are asked. "auto": when needed, and stored content is served if they do
        /// not answer. "online": when needed, and a tag that cannot be checked is an error.
        /// "offline": lanyard never opens a connection to an upstream.
        mode: Mode = value("auto", words(Mode::WORDS)),

        /// The upstream whose images need no prefix. It must be one of the upstreams below.
        default_upstream: UpstreamName = value("docker.io", text_of(parsed)),

        /// The time within which everything on disk is read and hashed again, in the background and
        /// at a bounded rate. Cached content that has rotted is fetched again. Pushed content that
        /// has rotted is answered with 404, and the log names its repositories. "0s": never.
        ///
        /// At most a year.
        scrub_every: Duration = value("30d", text_of(duration)),

        /// The size of the cache, what it keeps, how long names are remembered and tags believed.
        cache: Cache = table(Cache),

        /// Repositories that are pushed to lanyard.
        hosted: Hosted = table(Hosted),

        /// An object store behind the disk. In this version it is only proven, by `lanyard config
        /// check --reach`; content is kept in files.
        storage: Storage = table(Storage),

        /// TLS at both addresses. Without it lanyard speaks plain HTTP. New files count within
        /// seconds, for connections from then on.
        tls: Option<Tls> = optional_table(Tls),

        /// The users who can sign in.
        auth: Auth = table(Auth),

        /// The log.
        log: Log = table(Log),

        /// The registries that lanyard pulls from. docker.io, ghcr.io, quay.io, registry.k8s.io,
        /// gcr.io, mcr.microsoft.com, public.ecr.aws and nvcr.io are built in and are asked
        /// anonymously. An entry with one of these names changes only the keys that it has. An
        /// entry with another name adds an upstream and needs a url. No other registry is ever
        /// asked.
        ///
        /// The built-in ones are first. Each name is there once.
        upstreams: Vec<Upstream> = tables(upstream: Upstream),

        /// Rules for the tags of pulled images. The first one that matches counts; without one, a
        /// tag is believed for the upstream's tag_ttl or for cache.tag_ttl. No rule removes
        /// anything, and none is about pushed images.
        tag_rules: Vec<TagRule> = tables(tags: TagRule),

        /// Rights. A rule only gives rights; an action that no rule allows is denied. Without any
        /// rule these two hold:
        ///   who = ["anonymous"]         repositories = ["**"] actions = ["pull"]
        ///   who = ["loopback", "users"] repositories = ["**"] actions = ["pull", "push", "delete"]
        access: Vec<Rule> = tables(access: Rule),
    }
}

keys! {
    /// `[cache]`
    #[derive(Clone, PartialEq, Debug)]
    pub struct Cache {
        /// The most cached bytes, as in "500 GiB" or "500 GB", or a share of the disk ("60%"). What
        /// was not used for longest makes room; what was used often stays longer. What was pushed
        /// does not count. Without it only min_free bounds the cache.
        ///
        /// At least 1.
        max_size: Option<MaxSize> = option("500 GiB", text_of(max_size)),

        /// The space that stays free on the disk, as a share of the disk or as a size ("50 GiB").
        min_free: MinFree = value("10%", text_of(min_free)),

        /// Images that are never evicted, as in ["registry.k8s.io/pause:*"]: a pattern over names
        /// with their upstream, a colon, and a tag with or without *. `lanyard pin` does the same
        /// for one image.
        keep: Vec<ImagePattern> = list([], image_pattern),

        /// How long a name that no client asks for is remembered, once nothing of its image is left
        /// here but manifests. "never": it is never forgotten.
        forget_after: Option<Duration> = value("90d", text_of(duration_or_never)),

        /// How long a tag is served before upstream is asked whether it has moved. "0s": always
        /// ask.
        ///
        /// At most a year.
        tag_ttl: Duration = value("60s", text_of(duration)),

        /// How long an upstream's "not found" is believed. "0s": not at all.
        ///
        /// At most a year.
        negative_ttl: Duration = value("10s", text_of(duration)),
    }
}

keys! {
    /// `[hosted]`
    #[derive(Clone, PartialEq, Debug)]
    pub struct Hosted {
        /// Names that are never looked up upstream, even if they are missing here, as in
        /// ["team/**"]. * is one part of a name between slashes, or some of it; ** is any number of
        /// parts.
        ///
        /// No pattern begins with an upstream's name (SECURITY.md S16).
        namespaces: Vec<Pattern> = list([], parsed),

        /// Names that never accept a push.
        reserved: Vec<Pattern> = list(["library/**"], parsed),

        /// Tags that can be neither moved nor deleted once they are pushed, as in ["**:v*"]: a
        /// pattern over names, a colon, and a tag with or without *.
        immutable_tags: Vec<TagPattern> = list([], parsed),

        /// Whether manifests are accepted if parts of them are missing here.
        sparse: bool = value(false, boolean),

        /// The most open uploads of one user, or of one address where no user signs in. All
        /// loopback addresses count as one. Beyond it the upload that has been idle for longest is
        /// removed.
        uploads_per_user: usize = value(64, number(1, MOST_UPLOADS)),

        /// The most open uploads in all. Beyond it an idle upload of the user or address with the
        /// most uploads is removed.
        uploads: usize = value(1024, number(1, MOST_UPLOADS)),

        /// How long pushed content that no manifest needs stays after a client was last told that
        /// it is here. It has to outlast the slowest push: a shorter time makes pushes fail.
        /// `lanyard gc --now` does not wait for it; use that only while no client pushes.
        ///
        /// At most a year.
        gc_grace: Duration = value("1h", text_of(duration)),
    }
}

keys! {
    /// `[tls]`: files in PEM. They may change while lanyard runs.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Tls {
        /// The certificate, followed by the certificates that lead to its root, in PEM.
        cert: PathBuf = required("/etc/lanyard/cert.pem", certificates),

        /// Its private key, in PEM and without a passphrase.
        key: PathBuf = required("/etc/lanyard/key.pem", private_key),

        client_ca = not_built("sign-in by client certificate"),
    }
}

keys! {
    /// `[auth]`
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Auth {
        /// The file of users: name:hash lines with bcrypt hashes, as `lanyard user add` and
        /// `htpasswd -B` write them. Changes count within seconds. Without it no user can sign in.
        ///
        /// The file may be missing until `lanyard user add` makes it.
        htpasswd: Option<PathBuf> = option("/etc/lanyard/users.htpasswd", users_file),
    }
}

keys! {
    /// `[log]`
    #[derive(Clone, Copy, PartialEq, Debug)]
    pub struct Log {
        /// "text": lines for people. "json": one JSON object a line.
        format: LogFormat = value("text", words(LogFormat::WORDS)),
    }
}

keys! {
    /// `[[upstream]]`
    #[derive(Clone, PartialEq)]
    pub struct Upstream {
        /// The registry's name, which stands before the names of its images. It has a dot or a
        /// port.
        ///
        /// Also the value of `ns=`.
        name: UpstreamName = given("docker.io"),

        /// The address of the registry. Private addresses are refused for the built-in URLs only.
        ///
        /// Scheme, host and port; a path is kept as a prefix. Never with a user or a query.
        url: Url = given("https://registry-1.docker.io"),

        /// The prefix of all image names at the registry, such as a project of Harbor or a
        /// pull-through rule of ECR. Clients do not write it: with "hub-proxy", library/busybox is
        /// asked for as hub-proxy/library/busybox.
        prefix: Option<RepositoryName> = option("hub-proxy", prefix),

        /// The user to sign in as.
        username = key("company"),

        /// A file with the password or token in one line. A new password counts within seconds.
        ///
        /// Absent if there are no credentials.
        password_file: Option<PathBuf> = given("/run/secrets/docker-hub"),

        /// User and password, for Basic and for the token endpoint.
        credentials: Option<Credentials>,

        /// A PEM file with the CA of the registry's certificate. The system's CAs count as well.
        ///
        /// It held at least one certificate when the configuration was read.
        ca_file: Option<PathBuf> = option("/etc/lanyard/registry-ca.pem", certificates),

        /// The proxy to the registry. Without it the variables HTTPS_PROXY, HTTP_PROXY and NO_PROXY
        /// count.
        ///
        /// User and password are percent-encoded in it.
        proxy: Option<Url> = redacted("http://user:password@proxy.lan:3128", proxy),

        /// Hosts that may issue tokens for the registry, beside its own host and those of its
        /// domain. If a registry redirects everything to another one, the host of that one is
        /// needed here.
        ///
        /// `host` or `host:port`, in lower case.
        token_hosts: Vec<String> = optional_list(["auth.example.com"], token_host),

        /// Images that may be pulled; without it, all. With a username it has to be set, because
        /// every client of lanyard can pull the images that are named here, private ones too. Names
        /// are written as the registry has them, without the prefix: Docker Hub's busybox is
        /// library/busybox.
        ///
        /// Empty: all. Never empty where there are credentials (SECURITY.md S6).
        allow: Vec<Pattern> = optional_list(["library/*", "company/**"], parsed),

        /// Images that may not be pulled, even if allow names them.
        block: Vec<Pattern> = optional_list(["company/secret/**"], parsed),

        /// Holds for this registry instead of cache.tag_ttl.
        tag_ttl: Option<Duration> = option("5m", text_of(duration)),

        /// Whether images are still served after the registry has deleted them.
        keep_deleted: bool = value(false, boolean),

        /// The most connections to the registry at a time.
        connections: usize = value(16, number(1, MOST_CONNECTIONS)),
    }
}

keys! {
    /// `[[tags]]`: a rule for the tags of mirrored images.
    #[derive(Clone, PartialEq, Debug)]
    pub struct TagRule {
        /// Images in full, with their upstream, as in "docker.io/library/nginx:latest". * is one
        /// part of a name between slashes, or some of it; ** is any number of parts, the upstream
        /// among them; in the tag * is any number of characters. Without a tag: every tag.
        match = key(["docker.io/library/*:latest", "**:edge"]),

        /// The patterns.
        images: Vec<ImagePattern>,

        /// How long such a tag is served before upstream is asked whether it has moved. "never":
        /// asked for once, and then believed.
        ///
        /// At most a year.
        ttl: Option<TagTtl> = option("5m", text_of(tag_ttl)),

        /// A day, or the path of a lock file that `lanyard lock` has written. On such a tag
        /// upstream is not asked any more: it is what it was at the end of that day (UTC) by
        /// lanyard's own record, or what the file says. A changed file counts within seconds; one
        /// that cannot be read is an error at the start, and later the last good one stays in
        /// force.
        ///
        /// A relative path begins in the folder that lanyard is started in.
        freeze: Option<Freeze> = option("2026-11-01", text_of(freeze)),

        /// What becomes of a tag that freeze does not know. "refuse": it is not found. "pass": it
        /// is as without freeze.
        unlisted: Unlisted = value("refuse", words(Unlisted::WORDS)),

        /// How many of the tag's last digests are kept as if they were pinned, with the present
        /// one: 1 to 16.
        keep: Option<usize> = option(3, number(1, MOST_KEPT)),

        /// How often the tag is checked in the background. What is missing of its image is fetched
        /// then: for the platforms that are here, or for linux/amd64 and this machine's own. Tags
        /// that a pattern names without * are fetched also if nobody has asked for them yet.
        ///
        /// From a second to a year.
        warm: Option<Duration> = option("10m", text_of(interval)),
    }
}

keys! {
    /// `[[access]]`: each of `who` may do each of `actions` with each of `repositories`.
    #[derive(Clone, PartialEq, Debug)]
    pub struct Rule {
        /// Who has the rights. "anonymous": every client. "loopback": a request from this machine
        /// itself without a user; a proxy on this machine has to send X-Forwarded-For, or its
        /// requests count as such. "users": every user who has signed in. "user:NAME": one user.
        who: Vec<Who> = given(["user:ann", "loopback"]),

        /// Pushed names, or an upstream and its names, as in "docker.io/library/*". A pattern that
        /// begins with ** is both. Private names belong in hosted.namespaces too: then a missing
        /// image is answered like an image that the client may not see.
        repositories: Vec<RepositoryPattern> = given(["team/**"]),

        /// "pull", "push", "delete". A client that pushes also has to pull.
        actions: Vec<Action> = optional_list(["pull", "push"], action),
    }
}
