//! From `[[upstream]]` entries to the closed list of upstreams, and the checks between the keys of
//! one entry. Called by `check.rs`.

use std::path::Path;

use figment::value::Value;
use url::Url;

use super::{
    credentials::Credentials,
    keys::Upstream,
    parse::{
        path, text, text_of,
        upstream::{base_url, name, read_password, username},
    },
    problem::{ShownEntry, Source},
    reader::{Reader, Section},
    upstream::{BUILT_IN, built_in},
};
use crate::oci::UpstreamName;

/// Docker Hub.
const HUB: &str = "docker.io";

/// The built-in upstreams with the entries merged over them by name, then the other entries in
/// their order; and the text of each for `config show`.
pub(super) fn all(reader: &mut Reader<'_>, entries: Option<&Value>) -> (Vec<Upstream>, Vec<ShownEntry>) {
    let mut list: Vec<(Upstream, ShownEntry)> = Vec::new();
    for (name, base) in BUILT_IN {
        if let (Ok(name), Ok(url)) = (name.parse(), base.parse()) {
            let mut section = Section::new(None, "");
            section.show("name", &Value::from(UpstreamName::as_str(&name)), Source::Default);
            section.show("url", &Value::from(base), Source::Default);
            list.push((Upstream::new(name, url), section.into_shown(Upstream::KEYS)));
        }
    }
    let mut seen: Vec<(UpstreamName, Source)> = Vec::new();
    for (index, entry) in entries.and_then(Value::as_array).unwrap_or_default().iter().enumerate() {
        let Some(dict) = entry.as_dict() else { continue };
        let mut section = Section::new(Some(dict), &format!("upstream[{index}]"));
        let source = reader.source(entry, &section.path("name"));
        let Some(upstream) = one(reader, &mut section, &source) else { continue };
        if let Some((_, first)) = seen.iter().find(|(name, _)| *name == upstream.name) {
            let what = format!("{:?} is already defined at {first}", upstream.name.as_str());
            reader.problem(source, section.path("name"), what);
            continue;
        }
        seen.push((upstream.name.clone(), source));
        let shown = section.into_shown(Upstream::KEYS);
        match list.iter_mut().find(|(known, _)| known.name == upstream.name) {
            Some(known) => *known = (upstream, shown),
            None => list.push((upstream, shown)),
        }
    }
    list.into_iter().unzip()
}

/// One entry. Every key is read, whatever is wrong with the others.
fn one(reader: &mut Reader<'_>, section: &mut Section<'_>, source: &Source) -> Option<Upstream> {
    if section.get("name").is_none() {
        reader.problem(source.clone(), section.path("name"), "is missing");
    }
    let name = reader.take(section, "name", name);
    let url = url(reader, section, name.as_ref(), source);
    let credentials = credentials(reader, section, source);
    let password_file = section.get("password_file").and_then(|value| path(value).ok());
    let password_file = password_file.filter(|_| credentials.is_some());
    allow_goes_with_credentials(reader, section, source);
    if name.as_ref().is_some_and(|name| name.as_str() == HUB) {
        names_have_two_parts(reader, section);
    }
    Upstream::read(reader, section, name, url, Some(password_file), Some(credentials))
}

/// Docker Hub's own images are below `library/`. A `block` that leaves it out blocks nothing.
fn names_have_two_parts(reader: &mut Reader<'_>, section: &Section<'_>) {
    for key in ["allow", "block"] {
        let patterns = section.get(key).and_then(Value::as_array).unwrap_or_default();
        for (index, value) in patterns.iter().enumerate() {
            let Some(pattern) = value.as_str().filter(|text| !text.contains('/') && *text != "**") else { continue };
            let path = format!("{}[{index}]", section.path(key));
            let what = format!("{HUB} has no names of one part alone; write \"library/{pattern}\"");
            reader.problem(reader.source(value, &path), path, what);
        }
    }
}

/// SECURITY.md S6: every client of lanyard can pull the images that an upstream's credentials open,
/// so `allow` has to name them.
fn allow_goes_with_credentials(reader: &mut Reader<'_>, section: &Section<'_>, source: &Source) {
    let has_credentials = section.get("username").is_some() || section.get("password_file").is_some();
    let is_empty = |value: &Value| value.as_array().is_some_and(<[Value]>::is_empty);
    if has_credentials && section.get("allow").is_none_or(is_empty) {
        let what = "must list the images that every client may pull with these credentials, such as [\"team/**\"], \
                    or [\"**\"] for all images that they open";
        reader.problem(source.clone(), section.path("allow"), what);
    }
}

/// The entry's URL, or the built-in one of that name.
fn url(
    reader: &mut Reader<'_>,
    section: &mut Section<'_>,
    name: Option<&UpstreamName>,
    source: &Source,
) -> Option<Url> {
    if section.get("url").is_some() {
        return reader.take(section, "url", text_of(base_url));
    }
    let name = name?;
    match built_in(name.as_str()) {
        Some(url) => {
            section.show("url", &Value::from(url.as_str()), Source::Default);
            Some(url)
        }
        None => {
            let what = format!("is missing: {name} is not built in, so write where it is, such as \"https://{name}\"");
            reader.problem(source.clone(), section.path("url"), what);
            None
        }
    }
}

/// User and password, or neither.
fn credentials(reader: &mut Reader<'_>, section: &mut Section<'_>, source: &Source) -> Option<Credentials> {
    let username = reader.take(section, "username", username);
    let password = reader.take(section, "password_file", |value| read_password(Path::new(text(value)?)));
    for (key, other) in [("username", "password_file"), ("password_file", "username")] {
        if section.get(key).is_none() && section.get(other).is_some() {
            reader.problem(source.clone(), section.path(key), format!("is missing: there is a {other}"));
        }
    }
    Some(Credentials { username: username?, password: password? })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::config::{Config, Inputs};

    #[test]
    fn a_block_that_could_block_nothing_is_refused() {
        let load = |name: &str, lines: &str| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("lanyard.toml");
            let url = "url = \"https://registry.lan\"\n";
            fs::write(&file, format!("[[upstream]]\nname = \"{name}\"\n{url}{lines}")).unwrap();
            Config::load(&Inputs { file: Some(file), ..Inputs::default() }).map(drop)
        };
        for good in ["block = [\"library/nginx\", \"**\"]\n", "allow = [\"library/*\", \"**/nginx\"]\n"] {
            assert!(load("docker.io", good).is_ok(), "{good}");
        }
        for (bad, key, full) in [
            ("block = [\"library/a\", \"nginx\"]\n", "block[1]", "library/nginx"),
            ("allow = [\"*\"]\n", "allow[0]", "library/*"),
        ] {
            let problems = load("docker.io", bad).unwrap_err();
            let what = format!(
                "lanyard.toml:4: upstream[0].{key}: docker.io has no names of one part alone; write \"{full}\""
            );
            assert!(problems.len() == 1 && problems[0].to_string().ends_with(&what), "{problems:?}");
            assert!(load("registry.lan", bad).is_ok());
        }
    }
}
