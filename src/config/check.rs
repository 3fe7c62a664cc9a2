//! From the merged tree to a [`Config`]: every key outside of `[[upstream]]` and `[[access]]`, and what must hold between keys.

use std::net::SocketAddr;

use figment::{
    Figment, Profile, Provider,
    value::{Dict, Value},
};

use super::{
    Auth, Cache, Config, Hosted, Loaded, Log, LogFormat, Mode, Pattern, Problem, Provenance, Source, TagPattern,
    Upstream, check_access, check_site, check_tls, check_upstream,
    layer::Layers,
    reader::{Reader, Scope, boolean, number, parsed, text, word},
    units,
};
use crate::oci::UpstreamName;

/// The most uploads that can be allowed: each open one is a folder, and a descriptor while it is
/// written.
const MOST_UPLOADS: usize = 1_000_000;

/// Checks the layers, the last of which wins. Every problem is in the answer, none of them twice.
pub(super) fn check(layers: &Layers) -> Result<Loaded, Vec<Problem>> {
    let figment = layers.0.iter().fold(Figment::new(), |figment, layer| figment.merge(layer));
    let merged = match figment.data() {
        Ok(mut profiles) => profiles.remove(&Profile::Default).unwrap_or_default(),
        Err(_) => return Err(vec![Problem::new(Source::Default, "", "the layers cannot be merged")]),
    };
    let mut reader = Reader { layers, figment: &figment, problems: Vec::new() };
    let mut root = Scope::new(Some(&merged), "");
    let listen = reader.take(&mut root, "listen", listen);
    let mirror_listen = mirror_listen(&mut reader, &mut root, listen);
    let names = reader.list(&mut root, "names", check_site::name);
    let public_url = reader.take(&mut root, "public_url", check_site::public_url);
    let trusted_proxies = reader.list(&mut root, "trusted_proxies", check_site::network);
    let data_dir = reader.take(&mut root, "data_dir", |value| Ok(text(value)?.into()));
    let mode = reader.take(&mut root, "mode", mode);
    let default_upstream = reader.take(&mut root, "default_upstream", parsed::<UpstreamName>);
    let scrub_every = reader.take(&mut root, "scrub_every", |value| units::duration(text(value)?));
    let (mut cache_table, mut hosted_table) = (root.table("cache"), root.table("hosted"));
    let (mut tls_table, mut auth_table, mut log_table) = (root.table("tls"), root.table("auth"), root.table("log"));
    let cache = cache(&mut reader, &mut cache_table);
    let hosted = hosted(&mut reader, &mut hosted_table);
    let tls = check_tls::tls(&mut reader, &mut tls_table);
    let htpasswd = reader.take(&mut auth_table, "htpasswd", check_access::htpasswd);
    let log = reader.take(&mut log_table, "format", log_format).map(|format| Log { format });
    let (upstreams, said) = check_upstream::all(&mut reader, merged.get("upstream"));
    let has_users = auth_table.get("htpasswd").is_some();
    let (access, access_said) = check_access::rules(&mut reader, merged.get("access"), &upstreams, has_users);
    if let Some(name) = &default_upstream {
        default_is_known(&mut reader, &root, name, &upstreams, &merged);
    }
    if let Some(hosted) = &hosted {
        nothing_hosted_is_upstream(&mut reader, &hosted_table, hosted, &upstreams);
    }
    let provenance = Provenance {
        values: [root, cache_table, hosted_table, tls_table, auth_table, log_table]
            .into_iter()
            .flat_map(|scope| scope.said)
            .collect(),
        upstreams: said,
        access: access_said,
    };
    let config = (|| {
        Some(Config {
            listen: listen?,
            mirror_listen,
            names: names?,
            public_url,
            trusted_proxies: trusted_proxies?,
            data_dir: data_dir?,
            mode: mode?,
            default_upstream: default_upstream?,
            scrub_every: scrub_every?,
            cache: cache?,
            hosted: hosted?,
            upstreams,
            tls,
            auth: Auth { htpasswd },
            access,
            log: log?,
        })
    })();
    match config {
        Some(config) if reader.problems.is_empty() => Ok(Loaded { config, provenance }),
        Some(_) | None => Err(reader.problems),
    }
}

fn listen(value: &Value) -> Result<SocketAddr, String> {
    let text = text(value)?;
    text.parse().map_err(|_| {
        format!("{text:?} is not an address and port such as \"0.0.0.0:5000\", \"127.0.0.1:5000\" or \"[::]:5000\"")
    })
}

/// Two faces on one port would be one, so the second has a port of its own.
fn mirror_listen(reader: &mut Reader<'_>, root: &mut Scope<'_>, first: Option<SocketAddr>) -> Option<SocketAddr> {
    reader.take(root, "mirror_listen", |value| {
        let second = listen(value)?;
        match first {
            Some(first) if first.port() == second.port() && second.port() != 0 => {
                Err(format!("has the port of listen, {}; give it another", first.port()))
            }
            Some(_) | None => Ok(second),
        }
    })
}

fn mode(value: &Value) -> Result<Mode, String> {
    word(value, &[("auto", Mode::Auto), ("online", Mode::Online), ("offline", Mode::Offline)])
}

fn log_format(value: &Value) -> Result<LogFormat, String> {
    word(value, &[("text", LogFormat::Text), ("json", LogFormat::Json)])
}

fn max_size(value: &Value) -> Result<u64, String> {
    match units::size(text(value)?)? {
        0 => Err("must be more than nothing; leave it out for no bound".to_owned()),
        bytes => Ok(bytes),
    }
}

fn cache(reader: &mut Reader<'_>, table: &mut Scope<'_>) -> Option<Cache> {
    let max_size = reader.take(table, "max_size", max_size);
    let min_free = reader.take(table, "min_free", |value| units::min_free(text(value)?));
    let tag_ttl = reader.take(table, "tag_ttl", |value| units::duration(text(value)?));
    let negative_ttl = reader.take(table, "negative_ttl", |value| units::duration(text(value)?));
    Some(Cache { max_size, min_free: min_free?, tag_ttl: tag_ttl?, negative_ttl: negative_ttl? })
}

fn hosted(reader: &mut Reader<'_>, table: &mut Scope<'_>) -> Option<Hosted> {
    let namespaces = reader.list(table, "namespaces", pattern);
    let reserved = reader.list(table, "reserved", pattern);
    let immutable_tags = reader
        .list(table, "immutable_tags", |text| text.parse::<TagPattern>().map_err(|error| format!("{text:?}: {error}")));
    let sparse = reader.take(table, "sparse", boolean);
    let uploads_per_user = reader.take(table, "uploads_per_user", |value| number(value, 1, MOST_UPLOADS));
    let uploads = reader.take(table, "uploads", |value| number(value, 1, MOST_UPLOADS));
    let gc_grace = reader.take(table, "gc_grace", |value| units::duration(text(value)?));
    Some(Hosted {
        namespaces: namespaces?,
        reserved: reserved?,
        immutable_tags: immutable_tags?,
        sparse: sparse?,
        uploads_per_user: uploads_per_user?,
        uploads: uploads?,
        gc_grace: gc_grace?,
    })
}

/// A pattern from text.
pub(super) fn pattern(text: &str) -> Result<Pattern, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

fn default_is_known(reader: &mut Reader<'_>, root: &Scope<'_>, name: &UpstreamName, known: &[Upstream], merged: &Dict) {
    // An entry of that name with something wrong in it is told already.
    let entries = merged.get("upstream").and_then(Value::as_array).unwrap_or_default();
    let written = |entry: &Value| entry.find_ref("name").and_then(Value::as_str) == Some(name.as_str());
    if known.iter().any(|upstream| upstream.name == *name) || entries.iter().any(written) {
        return;
    }
    if let Some(value) = root.get("default_upstream") {
        let source = reader.source(value, "default_upstream");
        reader.problem(
            source,
            "default_upstream",
            format!("{:?} is not an upstream; name it in an [[upstream]]", name.as_str()),
        );
    }
}

/// SECURITY.md S16: an upstream's prefix comes first in the resolution of names, so such a pattern would promise
/// something that cannot be kept.
fn nothing_hosted_is_upstream(reader: &mut Reader<'_>, table: &Scope<'_>, hosted: &Hosted, upstreams: &[Upstream]) {
    for (index, pattern) in hosted.namespaces.iter().enumerate() {
        let first = pattern.first_segment();
        if let Some(value) =
            table.get("namespaces").filter(|_| upstreams.iter().any(|upstream| upstream.name.as_str() == first))
        {
            let path = format!("hosted.namespaces[{index}]");
            let what = format!("{:?} begins with the upstream {first}, whose names are never hosted", pattern.as_str());
            reader.problem(reader.source(value, &path), path, what);
        }
    }
}
