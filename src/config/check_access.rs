//! From `[[access]]` to the rules in force. Called by `check.rs`, because a rule may name users and
//! upstreams.

use figment::value::Value;

use super::{
    keys::{Rule, Upstream},
    parse::access::{repositories, who},
    pattern::Pattern,
    problem::{ShownEntry, Source},
    reader::{Reader, Section},
    rule::{Action, RepositoryPattern, Who},
};

/// The rules in force, and their text for `config show`. Without an entry they are the built-in
/// ones.
pub(super) fn rules(
    reader: &mut Reader<'_>,
    entries: Option<&Value>,
    upstreams: &[Upstream],
    has_users: bool,
) -> (Vec<Rule>, Vec<ShownEntry>) {
    let entries = entries.and_then(Value::as_array).unwrap_or_default();
    if entries.is_empty() {
        return (Rule::built_in(), built_in_shown());
    }
    let mut rules = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(dict) = entry.as_dict() else { continue };
        let mut section = Section::new(Some(dict), &format!("access[{index}]"));
        let source = reader.source(entry, &section.path("who"));
        for key in Rule::KEYS {
            let is_empty = |value: &Value| value.as_array().is_some_and(<[Value]>::is_empty);
            if section.get(key.name).is_none_or(is_empty) {
                let what = "is missing: a rule says who, repositories and actions";
                reader.problem(source.clone(), section.path(key.name), what);
            }
        }
        let names = || upstreams.iter().map(|upstream| &upstream.name);
        let who = reader.take_list(&mut section, "who", |text| who(text, has_users));
        let repositories = reader.take_list(&mut section, "repositories", |text| repositories(text, names()));
        if let Some(rule) = Rule::read(reader, &mut section, who, repositories) {
            rules.push((rule, section.into_shown(Rule::KEYS)));
        }
    }
    rules.into_iter().unzip()
}

impl Rule {
    /// The rules without an `[[access]]`: every client pulls, this machine and users also push and
    /// delete.
    pub fn built_in() -> Vec<Rule> {
        let everything =
            || "**".parse().map(|names: Pattern| RepositoryPattern::new(None, names)).into_iter().collect();
        vec![
            Rule { who: vec![Who::Anonymous], repositories: everything(), actions: vec![Action::Pull] },
            Rule {
                who: vec![Who::Loopback, Who::Users],
                repositories: everything(),
                actions: vec![Action::Pull, Action::Push, Action::Delete],
            },
        ]
    }
}

fn built_in_shown() -> Vec<ShownEntry> {
    let shown = |who: &[&str], actions: &[&str]| {
        let mut section = Section::new(None, "");
        for (key, texts) in [("who", who), ("repositories", &["**"]), ("actions", actions)] {
            section.show(key, &Value::from(texts.to_vec()), Source::Default);
        }
        section.into_shown(Rule::KEYS)
    };
    vec![shown(&["anonymous"], &["pull"]), shown(&["loopback", "users"], &["pull", "push", "delete"])]
}
