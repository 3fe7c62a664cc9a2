//! From `[auth]` and `[[access]]` to the rules in force.

use std::path::PathBuf;

use figment::value::Value;

use super::{
    Action, Place, Rule, Source, Upstream, Who,
    check::pattern,
    problem::Said,
    reader::{Reader, Scope, text, word_of},
    schema,
};

type Shown = Vec<(String, Said)>;

/// The file of users. It need not be there yet: `lanyard user add` makes it.
pub(super) fn htpasswd(value: &Value) -> Result<PathBuf, String> {
    let path = PathBuf::from(text(value)?);
    if path.is_dir() { Err("is a folder, not a file of users".to_owned()) } else { Ok(path) }
}

/// The rules in force, and the same as they are shown. The built-in ones where none is given.
pub(super) fn rules(
    reader: &mut Reader<'_>,
    entries: Option<&Value>,
    upstreams: &[Upstream],
    has_users: bool,
) -> (Vec<Rule>, Vec<Shown>) {
    let entries = entries.and_then(Value::as_array).unwrap_or_default();
    if entries.is_empty() {
        return (Rule::built_in(), built_in_shown());
    }
    let mut rules = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(dict) = entry.as_dict() else { continue };
        let mut scope = Scope::new(Some(dict), &format!("access[{index}]"));
        let source = reader.source(entry, &scope.path("who"));
        for key in ["who", "repositories", "actions"] {
            let is_empty = |value: &Value| value.as_array().is_some_and(<[Value]>::is_empty);
            if scope.get(key).is_none_or(is_empty) {
                reader.problem(
                    source.clone(),
                    scope.path(key),
                    "is missing: a rule says who, repositories and actions",
                );
            }
        }
        let who = reader.list(&mut scope, "who", |text| who(text, has_users));
        let repositories = reader.list(&mut scope, "repositories", |text| place(text, upstreams));
        let actions = reader.list(&mut scope, "actions", action);
        if let (Some(who), Some(repositories), Some(actions)) = (who, repositories, actions) {
            rules.push((Rule { who, repositories, actions }, scope.said));
        }
    }
    rules.into_iter().unzip()
}

fn built_in_shown() -> Vec<Shown> {
    let shown = |who: &[&str], actions: &[&str]| {
        let mut scope = Scope::new(None, "");
        for (key, texts) in [("who", who), ("repositories", &["**"]), ("actions", actions)] {
            scope.say(key, &Value::from(texts.to_vec()), Source::Default);
        }
        scope.said
    };
    vec![shown(&["anonymous"], &["pull"]), shown(&["loopback", "users"], &["pull", "push", "delete"])]
}

fn who(text: &str, has_users: bool) -> Result<Who, String> {
    match text {
        "anonymous" => return Ok(Who::Anonymous),
        "loopback" => return Ok(Who::Loopback),
        "users" => return Ok(Who::Users),
        _ => {}
    }
    if text.starts_with("cert:") {
        return Err(schema::not_in_this_version("telling who asks by client certificates"));
    }
    let Some(name) = text.strip_prefix("user:") else {
        return Err(format!("{text:?} is not one of \"anonymous\", \"loopback\", \"users\", \"user:NAME\""));
    };
    if name.is_empty() || name.contains(|c: char| c == ':' || c.is_control()) {
        return Err("after user: stands a name without colons or control characters".to_owned());
    }
    if !has_users {
        return Err("names a user, and there is no file of users; set htpasswd in [auth]".to_owned());
    }
    Ok(Who::User(name.to_owned()))
}

fn action(text: &str) -> Result<Action, String> {
    if text == "admin" {
        return Err("is what the Unix socket in the data folder is for; no address gives it in this version".to_owned());
    }
    word_of(text, &[("pull", Action::Pull), ("push", Action::Push), ("delete", Action::Delete)])
}

fn place(text: &str, upstreams: &[Upstream]) -> Result<Place, String> {
    let (first, rest) = text.split_once('/').map_or((text, None), |(first, rest)| (first, Some(rest)));
    match (upstreams.iter().find(|upstream| upstream.name.as_str() == first), rest) {
        (Some(upstream), Some(rest)) => Ok(Place::new(Some(upstream.name.clone()), pattern(rest)?)),
        (Some(_), None) => Err(format!("{text:?} is an upstream; write \"{text}/**\" for all of it")),
        (None, Some(_)) if first.contains(':') => {
            Err(format!("{first:?} is not an upstream; name it in an [[upstream]]"))
        }
        (None, _) => Ok(Place::new(None, pattern(text)?)),
    }
}
