//! From `[[upstream]]` entries to the closed list of upstreams.

use std::{
    fs,
    path::{Path, PathBuf},
};

use figment::value::Value;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use url::Url;

use super::{
    BUILT_IN, Credentials, Source, Upstream,
    check::pattern,
    problem::Said,
    reader::{Reader, Scope, boolean, number, text},
    units,
    upstream::{built_in, redacted},
};
use crate::oci::{RepositoryName, UpstreamName};

/// The most connections to one upstream that can be asked for; more would only be refused there.
const MOST_CONNECTIONS: usize = 1000;

type Shown = Vec<(String, Said)>;

/// The built-in upstreams with the entries merged over them by name, then the other entries in their order; and
/// the same as it is shown.
pub(super) fn all(reader: &mut Reader<'_>, entries: Option<&Value>) -> (Vec<Upstream>, Vec<Shown>) {
    let mut list: Vec<(Upstream, Shown)> = Vec::new();
    for (name, base) in BUILT_IN {
        if let (Ok(name), Ok(url)) = (name.parse(), base.parse()) {
            let mut scope = Scope::new(None, "");
            scope.say("name", &Value::from(UpstreamName::as_str(&name)), Source::Default);
            scope.say("url", &Value::from(base), Source::Default);
            list.push((Upstream::new(name, url), scope.said));
        }
    }
    let mut seen: Vec<(UpstreamName, Source)> = Vec::new();
    for (index, entry) in entries.and_then(Value::as_array).unwrap_or_default().iter().enumerate() {
        let Some(dict) = entry.as_dict() else { continue };
        let mut scope = Scope::new(Some(dict), &format!("upstream[{index}]"));
        let source = reader.source(entry, &scope.path("name"));
        let upstream = one(reader, &mut scope, &source);
        let Some(upstream) = upstream else { continue };
        if let Some((_, first)) = seen.iter().find(|(name, _)| *name == upstream.name) {
            let what = format!("{:?} is there already, at {first}", upstream.name.as_str());
            reader.problem(source, scope.path("name"), what);
            continue;
        }
        seen.push((upstream.name.clone(), source));
        match list.iter_mut().find(|(known, _)| known.name == upstream.name) {
            Some(known) => *known = (upstream, scope.said),
            None => list.push((upstream, scope.said)),
        }
    }
    list.into_iter().unzip()
}

/// One entry. Every key is read, whatever is wrong with the others.
fn one(reader: &mut Reader<'_>, scope: &mut Scope<'_>, source: &Source) -> Option<Upstream> {
    let name = match scope.get("name") {
        Some(_) => reader.take(scope, "name", name),
        None => {
            reader.problem(source.clone(), scope.path("name"), "is missing");
            None
        }
    };
    let url = url(reader, scope, name.as_ref(), source);
    let prefix = reader.take(scope, "prefix", prefix);
    let credentials = credentials(reader, scope, source);
    let password_file = scope.get("password_file").and_then(Value::as_str).map(PathBuf::from);
    let ca_file = reader.take(scope, "ca_file", |value| {
        let path = Path::new(text(value)?);
        has_certificates(path).map(|()| path.to_owned())
    });
    let proxy = reader.take_unsaid(scope, "proxy", proxy).map(|(proxy, source)| {
        scope.say("proxy", &Value::from(redacted(&proxy)), source);
        proxy
    });
    let token_hosts = reader.list(scope, "token_hosts", |host| match host.parse::<UpstreamName>() {
        Ok(host) => Ok(host.as_str().to_owned()),
        Err(_) => Err("must be a host such as \"auth.example.com\", without https:// and in lower case".to_owned()),
    });
    let allow = reader.list(scope, "allow", pattern);
    let block = reader.list(scope, "block", pattern);
    let tag_ttl = reader.take(scope, "tag_ttl", |value| units::duration(text(value)?));
    let keep_deleted = reader.take(scope, "keep_deleted", boolean);
    let connections = reader.take(scope, "connections", |value| number(value, 1, MOST_CONNECTIONS));
    // SECURITY.md S6: what only these credentials open would be open to everyone who can reach lanyard.
    let has_credentials = scope.get("username").is_some() || scope.get("password_file").is_some();
    if has_credentials && allow.as_ref().is_some_and(Vec::is_empty) {
        let what = "must name what everyone may pull with these credentials, such as [\"team/**\"], \
                    or [\"**\"] for all that they can read";
        reader.problem(source.clone(), scope.path("allow"), what);
    }
    let plain = Upstream::new(name?, url?);
    Some(Upstream {
        prefix,
        password_file: password_file.filter(|_| credentials.is_some()),
        credentials,
        ca_file,
        proxy,
        token_hosts: token_hosts?,
        allow: allow?,
        block: block?,
        tag_ttl,
        keep_deleted: keep_deleted.unwrap_or(plain.keep_deleted),
        connections: connections.unwrap_or(plain.connections),
        ..plain
    })
}

/// A name must look like a host: `team` would take every repository `team/…` of the default upstream (S16).
fn name(value: &Value) -> Result<UpstreamName, String> {
    let text = text(value)?;
    let name: UpstreamName = text
        .parse()
        .map_err(|_| format!("{text:?} is not a host such as \"ghcr.io\" or \"registry.lan:5000\", in lower case"))?;
    if text.contains(['.', ':']) || text == "localhost" {
        return Ok(name);
    }
    Err(format!("{text:?} could be the beginning of a repository's name; use one with a dot or a port"))
}

/// The entry's URL, else the built-in one of that name.
fn url(reader: &mut Reader<'_>, scope: &mut Scope<'_>, name: Option<&UpstreamName>, source: &Source) -> Option<Url> {
    if scope.get("url").is_some() {
        return reader.take(scope, "url", |value| base_url(text(value)?));
    }
    let name = name?;
    match built_in(name.as_str()) {
        Some(url) => {
            scope.say("url", &Value::from(url.as_str()), Source::Default);
            Some(url)
        }
        None => {
            let what = format!("is missing: {} is not built in, so write where it is, such as \"https://{0}\"", name);
            reader.problem(source.clone(), scope.path("url"), what);
            None
        }
    }
}

/// What is wrong with a URL is said without the URL: people write passwords into them.
fn base_url(text: &str) -> Result<Url, String> {
    let wrong = || "must be a URL such as \"https://registry.example.com\"".to_owned();
    if !(text.starts_with("https://") || text.starts_with("http://"))
        || text.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Err(wrong());
    }
    let url: Url = text.parse().map_err(|_| wrong())?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password; use username and password_file".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end before any ? or #".to_owned());
    }
    Ok(url)
}

fn prefix(value: &Value) -> Result<RepositoryName, String> {
    let text = text(value)?;
    let bare = text.trim_matches('/');
    match bare.parse::<RepositoryName>() {
        Ok(_) if bare != text => Err(format!("must neither begin nor end with a slash; write {bare:?}")),
        Ok(prefix) => Ok(prefix),
        Err(error) => Err(format!("{text:?} cannot stand before repository names: {error}")),
    }
}

fn proxy(value: &Value) -> Result<Url, String> {
    let wrong = || "must be \"http://host:port\" or \"http://user:password@host:port\"".to_owned();
    let text = text(value)?;
    let url: Url = text.parse().map_err(|_| wrong())?;
    let plain = text.starts_with("http://") && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let only_host = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if plain && only_host && url.host_str().is_some_and(|host| !host.is_empty()) { Ok(url) } else { Err(wrong()) }
}

fn credentials(reader: &mut Reader<'_>, scope: &mut Scope<'_>, source: &Source) -> Option<Credentials> {
    let username = reader.take(scope, "username", |value| {
        let text = text(value)?;
        // RFC 7617, section 2: the colon ends the user name.
        if text.contains(|c: char| c == ':' || c.is_control()) {
            Err("must not hold a colon or control characters".to_owned())
        } else {
            Ok(text.to_owned())
        }
    });
    let password = reader.take(scope, "password_file", |value| read_password(Path::new(text(value)?)));
    for (key, other) in [("username", "password_file"), ("password_file", "username")] {
        if scope.get(key).is_none() && scope.get(other).is_some() {
            reader.problem(source.clone(), scope.path(key), format!("is missing: there is a {other}"));
        }
    }
    Some(Credentials { username: username?, password: password? })
}

/// Reads a password's file. One line; the newline that editors put at the end is not part of it.
/// The path is not told in errors, because people write the password itself there; the line of the
/// file is told.
pub(crate) fn read_password(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| format!("the file cannot be read: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if line.contains(char::is_control) {
        return Err("the file must hold one line, the password".to_owned());
    }
    Ok(line.to_owned())
}

pub(super) fn has_certificates(path: &Path) -> Result<(), String> {
    let bytes = fs::read(path).map_err(|error| format!("the file cannot be read: {error}"))?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        certificate.map_err(|_| "the file is not PEM".to_owned())?;
        count += 1;
    }
    if count > 0 { Ok(()) } else { Err("the file holds no PEM certificate".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_a_registry_and_no_more() {
        for good in ["https://ghcr.io", "http://10.0.0.1:5000/prefix", "https://[::1]:5000/"] {
            assert!(base_url(good).is_ok(), "{good}");
        }
        for bad in [
            "ghcr.io",
            "ftp://ghcr.io",
            "https:ghcr.io",
            "https://",
            " https://a",
            "https://a b",
            "https://a\n",
            "HTTPS://a",
            "https://me@a",
            "https://me:secret@a",
            "https://:secret@a",
            "https://a?x",
            "https://a#x",
            "https://a:70000",
        ] {
            let what = base_url(bad).unwrap_err();
            assert!(!what.contains("secret"), "{what}");
        }
    }

    #[test]
    fn prefixes_are_repository_names() {
        for good in ["project", "a/b/c", "team-1_x.y/z"] {
            assert_eq!(prefix(&Value::from(good)).unwrap().as_str(), good);
        }
        for (bad, hint) in [
            ("/project", "write \"project\""),
            ("project/", "write \"project\""),
            ("/a/b/", "write \"a/b\""),
            ("//a", "write \"a\""),
            ("", "not empty"),
            ("/", "cannot stand before"),
            ("a//b", "cannot stand before"),
            ("Project", "lower-case"),
            ("a/../b", "lower-case"),
            ("https://a", "lower-case"),
            ("a b", "lower-case"),
            ("a:b", "lower-case"),
        ] {
            let what = prefix(&Value::from(bad)).unwrap_err();
            assert!(what.contains(hint), "{bad}: {what}");
        }
        assert!(prefix(&Value::from("a".repeat(254))).is_err());
        assert!(prefix(&Value::from(5)).is_err());
    }

    #[test]
    fn proxies_are_http_hosts() {
        for good in ["http://proxy:3128", "http://me:p%40ss@proxy:3128/", "http://10.0.0.1"] {
            assert!(proxy(&Value::from(good)).is_ok(), "{good}");
        }
        for bad in
            ["proxy:3128", "https://proxy", "socks5://proxy", "http://proxy/path", "http://proxy?x", "http:proxy", ""]
        {
            assert!(proxy(&Value::from(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn trust_anchors_are_pem_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let key = rcgen::generate_simple_self_signed(["a.lan".to_owned()]).unwrap();
        for (content, good) in [
            (key.cert.pem(), true),
            (key.signing_key.serialize_pem(), false),
            ("hello".to_owned(), false),
            ("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n".to_owned(), false),
        ] {
            fs::write(&path, &content).unwrap();
            assert_eq!(has_certificates(&path).is_ok(), good, "{content}");
        }
    }
}
