//! Values of `[auth]` and `[[access]]`. `who` and `repositories` take the part of the
//! configuration that a rule may name.

use std::path::PathBuf;

use figment::value::Value;

use super::{
    super::{
        rule::{Action, RepositoryPattern, Who},
        table::not_in_this_version,
    },
    parsed, text, word_of,
};
use crate::oci::UpstreamName;

/// The file of users. It may be missing: `lanyard user add` makes it.
pub(in crate::config) fn users_file(value: &Value) -> Result<PathBuf, String> {
    let path = PathBuf::from(text(value)?);
    if path.is_dir() { Err("is a folder, not a file of users".to_owned()) } else { Ok(path) }
}

/// The clients that a rule is about. A user can only be named if there is a file of users.
pub(in crate::config) fn who(text: &str, has_users: bool) -> Result<Who, String> {
    match text {
        "anonymous" => return Ok(Who::Anonymous),
        "loopback" => return Ok(Who::Loopback),
        "users" => return Ok(Who::Users),
        _ => {}
    }
    if text.starts_with("cert:") {
        return Err(not_in_this_version("sign-in by client certificate"));
    }
    let Some(name) = text.strip_prefix("user:") else {
        return Err(format!("{text:?} is not one of \"anonymous\", \"loopback\", \"users\", \"user:NAME\""));
    };
    if name.is_empty() || name.contains(|c: char| c == ':' || c.is_control()) {
        return Err("needs a name after user:, without colons or control characters".to_owned());
    }
    if !has_users {
        return Err("names a user, and there is no file of users; set htpasswd in [auth]".to_owned());
    }
    Ok(Who::User(name.to_owned()))
}

/// An action that a rule allows.
pub(in crate::config) fn action(text: &str) -> Result<Action, String> {
    if text == "admin" {
        return Err(
            "is only allowed at the Unix socket in the data folder; no address gives it in this version".to_owned()
        );
    }
    word_of(text, &[("pull", Action::Pull), ("push", Action::Push), ("delete", Action::Delete)])
}

/// Repositories that a rule is about: a pattern, or the name of one of `upstreams` and a pattern.
pub(in crate::config) fn repositories<'a>(
    text: &str,
    mut upstreams: impl Iterator<Item = &'a UpstreamName>,
) -> Result<RepositoryPattern, String> {
    let (first, rest) = text.split_once('/').map_or((text, None), |(first, rest)| (first, Some(rest)));
    match (upstreams.find(|upstream| upstream.as_str() == first), rest) {
        (Some(upstream), Some(rest)) => Ok(RepositoryPattern::new(Some(upstream.clone()), parsed(rest)?)),
        (Some(_), None) => Err(format!("{text:?} is an upstream; write \"{text}/**\" for all of it")),
        (None, Some(_)) if first.contains(':') => {
            Err(format!("{first:?} is not an upstream; name it in an [[upstream]]"))
        }
        (None, _) => Ok(RepositoryPattern::new(None, parsed(text)?)),
    }
}
