//! From the merged layers to a [`Config`], and the checks between keys of different tables. Called
//! by `load.rs`. `keys.rs` reads each key; `check_access.rs`, `check_tags.rs` and
//! `check_upstream.rs` read the lists of tables, and `check_storage.rs` looks at `[storage]`.

use figment::{Figment, Profile, Provider, value::Value};

use super::{
    check_access, check_storage, check_tags, check_upstream,
    keys::{Config, Hosted, Upstream},
    layer::Layers,
    parse::site::address,
    problem::{Problem, Provenance, Source},
    reader::{Reader, Section},
};
use crate::oci::UpstreamName;

/// Checks the layers, the last of which wins.
///
/// # Errors
/// Every problem, each of them once.
pub(super) fn check(layers: &Layers) -> Result<(Config, Provenance), Vec<Problem>> {
    let figment = layers.0.iter().fold(Figment::new(), |figment, layer| figment.merge(layer));
    let merged = match figment.data() {
        Ok(mut profiles) => profiles.remove(&Profile::Default).unwrap_or_default(),
        Err(_) => return Err(vec![Problem::new(Source::Default, "", "the layers cannot be merged")]),
    };
    let mut reader = Reader::new(layers, &figment);
    let mut root = Section::new(Some(&merged), "");
    let (upstreams, upstreams_shown) = check_upstream::all(&mut reader, root.get("upstream"));
    let has_users = root.table("auth").get("htpasswd").is_some();
    let (access, access_shown) = check_access::rules(&mut reader, root.get("access"), &upstreams, has_users);
    let (tags, tags_shown) = check_tags::rules(&mut reader, root.get("tags"), &upstreams);
    mirror_has_its_own_port(&mut reader, &root);
    default_is_known(&mut reader, &root, &upstreams);
    nothing_hosted_is_upstream(&mut reader, &root, &upstreams);
    certificate_and_key(&mut reader, &root);
    check_storage::fits_together(&mut reader, &root.table("storage"));
    let config = Config::read(&mut reader, &mut root, Some(upstreams), Some(tags), Some(access));
    let values = root.into_shown(Config::KEYS);
    let provenance = Provenance { values, upstreams: upstreams_shown, tags: tags_shown, access: access_shown };
    match config {
        Some(config) if reader.problems.is_empty() => Ok((config, provenance)),
        Some(_) | None => Err(reader.problems),
    }
}

/// Both addresses have a port each, unless the system chooses the ports.
fn mirror_has_its_own_port(reader: &mut Reader<'_>, root: &Section<'_>) {
    let (Some(first), Some(value)) = (root.get("listen"), root.get("mirror_listen")) else { return };
    if let (Ok(first), Ok(second)) = (address(first), address(value))
        && first.port() == second.port()
        && second.port() != 0
    {
        let source = reader.source(value, "mirror_listen");
        reader.problem(source, "mirror_listen", format!("has the port of listen, {}; give it another", first.port()));
    }
}

/// The default upstream is one of the upstreams.
fn default_is_known(reader: &mut Reader<'_>, root: &Section<'_>, known: &[Upstream]) {
    let key = "default_upstream";
    let Some(value) = root.get(key) else { return };
    let Some(name) = value.as_str().and_then(|name| name.parse::<UpstreamName>().ok()) else { return };
    // An entry of that name with a problem of its own is in the file, but not among the known.
    let entries = root.get("upstream").and_then(Value::as_array).unwrap_or_default();
    let written = |entry: &Value| entry.find_ref("name").and_then(Value::as_str) == Some(name.as_str());
    if known.iter().any(|upstream| upstream.name == name) || entries.iter().any(written) {
        return;
    }
    let what = format!("{:?} is not an upstream; name it in an [[upstream]]", name.as_str());
    reader.problem(reader.source(value, key), key, what);
}

/// No hosted namespace begins with an upstream's name (SECURITY.md S16): that name comes first when
/// names are resolved, so the namespace would promise something that cannot be kept.
fn nothing_hosted_is_upstream(reader: &mut Reader<'_>, root: &Section<'_>, upstreams: &[Upstream]) {
    let mut table = root.table("hosted");
    // The problems of the single keys are noted when the whole configuration is read.
    let mut again = Reader::new(reader.layers, reader.figment);
    let Some(hosted) = Hosted::read(&mut again, &mut table).filter(|_| again.problems.is_empty()) else { return };
    let Some(value) = table.get("namespaces") else { return };
    for (index, pattern) in hosted.namespaces.iter().enumerate() {
        let first = pattern.first_segment();
        if upstreams.iter().any(|upstream| upstream.name.as_str() == first) {
            let path = format!("hosted.namespaces[{index}]");
            let what = format!("{:?} begins with the upstream {first}, whose names are never hosted", pattern.as_str());
            reader.problem(reader.source(value, &path), path, what);
        }
    }
}

/// A certificate needs a key, and a key a certificate.
fn certificate_and_key(reader: &mut Reader<'_>, root: &Section<'_>) {
    let table = root.table("tls");
    for (present, missing) in [("cert", "key"), ("key", "cert")] {
        if let (Some(value), None) = (table.get(present), table.get(missing)) {
            let path = table.path(present);
            reader.problem(reader.source(value, &path), path, format!("needs tls.{missing} beside it"));
        }
    }
}
