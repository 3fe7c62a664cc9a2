//! Warnings about settings that are allowed but probably a mistake. `config check` and the start
//! print them; no setting is refused. The warnings: users without `mirror_listen`, patterns of
//! `cache.keep` that no mirrored image fits, rules of tags that can never match because an
//! earlier one matches first (T4), and an object store.

use super::{
    load::Loaded,
    problem::{Problem, Source},
    values::StorageKind,
};

impl Loaded {
    /// One warning for each such setting, with the key that caused it.
    pub fn advice(&self) -> Vec<Problem> {
        let mut advice = Vec::new();
        let key = "auth.htpasswd";
        if self.config.auth.htpasswd.is_some() && self.config.mirror_listen.is_none() {
            let source = self.provenance.source(key).cloned().unwrap_or(Source::Default);
            let what = "there are users, but mirror_listen is not set: clients whose registry-mirrors points at listen \
                        get images that users push under a mirrored name, and dockerd shows people's Docker Hub passwords \
                        to it; set mirror_listen, and point registry-mirrors at it";
            advice.push(Problem::new(source, key, what));
        }
        advice.extend(self.hidden_tag_rules());
        let key = "cache.keep";
        for pattern in &self.config.cache.keep {
            if !self.config.upstreams.iter().any(|upstream| pattern.may_be_of(&upstream.name)) {
                let source = self.provenance.source(key).cloned().unwrap_or(Source::Default);
                let first = pattern.upstream();
                let what = format!(
                    "{:?} keeps nothing: {first} is no upstream; begin with one, as in docker.io/library/nginx:*",
                    pattern.to_string()
                );
                advice.push(Problem::new(source, key, what));
            }
        }
        if self.config.storage.kind != StorageKind::Files {
            let source = self.provenance.source("storage.kind").cloned().unwrap_or(Source::Default);
            let what = "this version only proves that an object store can be used (`lanyard config check --reach`); it \
                        does not start with one";
            advice.push(Problem::new(source, "storage.kind", what));
        }
        advice
    }

    /// A warning for each pattern of `[[tags]]` of which an earlier rule takes everything.
    fn hidden_tag_rules(&self) -> Vec<Problem> {
        let rules = &self.config.tag_rules;
        let mut hidden = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            for (at, image) in rule.images.iter().enumerate() {
                let earlier = rules[..index].iter().enumerate().find_map(|(number, earlier)| {
                    Some((number, earlier.images.iter().find(|wider| wider.covers(image))?))
                });
                let Some((number, wider)) = earlier else { continue };
                let key = format!("tags[{index}].match[{at}]");
                let what = format!(
                    "{:?} never counts: {:?} of tags[{number}] is before it and matches all of it",
                    image.to_string(),
                    wider.to_string()
                );
                let source = self.provenance.tag_rule(index, "match").cloned().unwrap_or(Source::Default);
                hidden.push(Problem::new(source, key, what));
            }
        }
        hidden
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Inputs};

    fn advice(variables: &[(&str, &str)]) -> Vec<String> {
        let environment = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let loaded = Config::load(&Inputs { environment, ..Inputs::default() }).unwrap();
        loaded.advice().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pattern_that_keeps_nothing_is_told() {
        let keep = |patterns| advice(&[("LANYARD__CACHE__KEEP", patterns)]);
        assert_eq!(keep(r#"["docker.io/library/nginx:*", "**:edge"]"#), [""; 0]);
        let told = keep(r#"["library/nginx:*"]"#);
        assert!(told.len() == 1 && told[0].contains("library is no upstream"), "{told:?}");
        let told = keep(r#"["docker.i*/nginx:1"]"#);
        assert!(told.len() == 1 && told[0].contains("docker.i* is no upstream"), "{told:?}");
    }

    #[test]
    fn a_pattern_that_can_never_keep_anything_is_refused() {
        for (pattern, told) in [
            ("docker.io/nginx:1", "write \"docker.io/library/nginx:1\""),
            ("docker.io/*:x", "write \"docker.io/library/*:x\""),
            ("docker.io/-x:1", "no image has such a name"),
        ] {
            let environment = vec![("LANYARD__CACHE__KEEP".into(), format!("[{pattern:?}]").into())];
            let problems = Config::load(&Inputs { environment, ..Inputs::default() }).unwrap_err();
            let what = problems[0].to_string();
            let begins = format!("LANYARD__CACHE__KEEP: cache.keep[0]: {pattern:?}: ");
            assert!(problems.len() == 1 && what.starts_with(&begins) && what.contains(told), "{problems:?}");
        }
    }

    #[test]
    fn users_without_a_mirror_are_told() {
        let users = ("LANYARD__AUTH__HTPASSWD", "/nowhere/users");
        let mirror = ("LANYARD__MIRROR_LISTEN", "127.0.0.1:5001");
        assert_eq!(advice(&[]), [""; 0]);
        assert_eq!(advice(&[mirror]), [""; 0]);
        assert_eq!(advice(&[users, mirror]), [""; 0]);
        let told = advice(&[users]);
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with("LANYARD__AUTH__HTPASSWD: auth.htpasswd: ") && told[0].contains("set mirror_listen")
        );
    }

    #[test]
    fn t4_a_rule_that_an_earlier_one_hides_is_told() {
        let told = |rules: &[&str]| -> Vec<String> {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("lanyard.toml");
            let text: String =
                rules.iter().map(|images| format!("[[tags]]\nmatch = {images}\nttl = \"1h\"\n")).collect();
            std::fs::write(&file, text).unwrap();
            let loaded = Config::load(&Inputs { file: Some(file), ..Inputs::default() }).unwrap();
            loaded
                .advice()
                .iter()
                .map(|word| word.to_string()[folder.path().as_os_str().len() + 1..].to_owned())
                .collect()
        };
        let none: Vec<String> = vec![];
        assert_eq!(told(&["[\"docker.io/library/*:latest\"]", "[\"**:edge\"]", "[\"**\"]"]), none);
        assert_eq!(
            told(&["[\"**:edge\"]", "[\"**:edge\", \"docker.io/**\"]", "[\"docker.io/library/nginx:1\"]"]),
            [
                "lanyard.toml:5: tags[1].match[0]: \"**:edge\" never counts: \"**:edge\" of tags[0] is before it and \
                 matches all of it",
                "lanyard.toml:8: tags[2].match[0]: \"docker.io/library/nginx:1\" never counts: \"docker.io/**\" of tags[1] \
                 is before it and matches all of it",
            ]
        );
    }
}
