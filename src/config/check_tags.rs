//! From `[[tags]]` to the rules of tags in force. Called by `check.rs`, because a pattern begins
//! with an upstream.

use figment::value::Value;

use super::{
    keys::{TagRule, Upstream},
    parse::tags::image_pattern_of,
    problem::ShownEntry,
    reader::{Reader, Section},
};

/// The rules in their order, and their text for `config show`.
pub(super) fn rules(
    reader: &mut Reader<'_>,
    entries: Option<&Value>,
    upstreams: &[Upstream],
) -> (Vec<TagRule>, Vec<ShownEntry>) {
    let mut rules = Vec::new();
    for (index, entry) in entries.and_then(Value::as_array).unwrap_or_default().iter().enumerate() {
        let Some(dict) = entry.as_dict() else { continue };
        let mut section = Section::new(Some(dict), &format!("tags[{index}]"));
        let is_empty = |value: &Value| value.as_array().is_some_and(<[Value]>::is_empty);
        if section.get("match").is_none_or(is_empty) {
            let source = reader.source(entry, &section.path("match"));
            let what = "is missing: a rule says which images it is about, as in [\"docker.io/library/*:latest\"]";
            reader.problem(source, section.path("match"), what);
        }
        if let (Some(value), None) = (section.get("unlisted"), section.get("freeze")) {
            let path = section.path("unlisted");
            reader.problem(reader.source(value, &path), path, "needs freeze beside it");
        }
        let names = || upstreams.iter().map(|upstream| &upstream.name);
        let images = reader.take_list(&mut section, "match", |text| image_pattern_of(text, names()));
        if let Some(rule) = TagRule::read(reader, &mut section, images) {
            rules.push((rule, section.into_shown(TagRule::KEYS)));
        }
    }
    rules.into_iter().unzip()
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use crate::config::{Config, Freeze, Inputs, Loaded, Problem, TagTtl, Unlisted};

    fn load(text: &str) -> Result<Loaded, Vec<Problem>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lanyard.toml");
        fs::write(&file, text).unwrap();
        Config::load(&Inputs { file: Some(file), ..Inputs::default() })
    }

    #[test]
    fn a_rule_of_tags_says_what_it_says() {
        let text = "[[tags]]\nmatch = [\"**:edge\"]\nttl = \"5m\"\nkeep = 3\nwarm = \"10m\"\n[[tags]]\nmatch = \
                    [\"docker.io/**\"]\nttl = \"never\"\nfreeze = 2026-11-01\nunlisted = \"pass\"\n";
        let loaded = load(text).unwrap();
        let [first, second] = &loaded.config.tag_rules[..] else { panic!() };
        assert_eq!(first.images, ["**:edge".parse().unwrap()]);
        assert_eq!((first.ttl, first.keep), (Some(TagTtl::For(Duration::from_secs(300))), Some(3)));
        assert_eq!(
            (first.warm, &first.freeze, first.unlisted),
            (Some(Duration::from_secs(600)), &None, Unlisted::Refuse)
        );
        assert_eq!((second.ttl, second.unlisted), (Some(TagTtl::Never), Unlisted::Pass));
        assert_eq!(second.freeze, Some(Freeze::Day("2026-11-01".parse().unwrap())));
        assert_eq!(load(&loaded.show()).unwrap().config, loaded.config);
        assert_eq!(load("").unwrap().config.tag_rules, []);
    }

    #[test]
    fn a_rule_that_cannot_work_is_told() {
        let text = r#"[[tags]]
match = ["nginx:latest", "library/nginx", "docker.oi/**", "docker.io/a:b c", "ok/*/x", "**", "docker.io/nginx:1"]
ttl = "soon"
freeze = "2026-02-30"
keep = 17
warm = "10ms"
[[tags]]
ttl = "1h"
unlisted = "pass"
[[tags]]
match = []
tag = "x"
unlisted = "maybe"
freeze = "build.lock"
"#;
        let told: Vec<_> = load(text).unwrap_err().iter().map(ToString::to_string).collect();
        let expected = [
            "2: tags[0].match[0]: \"nginx:latest\": has an upstream or a name alone",
            "2: tags[0].match[1]: \"library/nginx\": \"library\" is not an upstream; write the image in full",
            "2: tags[0].match[2]: \"docker.oi/**\": \"docker.oi\" is not an upstream",
            "2: tags[0].match[3]: \"docker.io/a:b c\": a tag has 1 to 128",
            "2: tags[0].match[4]: \"ok/*/x\": \"ok\" is not an upstream",
            "2: tags[0].match[6]: \"docker.io/nginx:1\": docker.io has no names of one part alone; write \
             \"docker.io/library/nginx:1\"",
            "3: tags[0].ttl: \"soon\" is not a duration",
            "4: tags[0].freeze: \"2026-02-30\": there is no such day",
            "5: tags[0].keep: must be a whole number from 1 to 16",
            "6: tags[0].warm: \"10ms\" is shorter than a second",
            "7: tags[1].match: is missing",
            "9: tags[1].unlisted: needs freeze beside it",
            "11: tags[2].match: is missing",
            "12: tags[2].tag: there is no such key",
            "13: tags[2].unlisted: \"maybe\" is not one of \"refuse\", \"pass\"",
        ];
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.contains(&format!("lanyard.toml:{expected}")), "{told}\nexpected: {expected}");
        }
        assert_eq!(told.len(), expected.len(), "{told:#?}");
    }
}
