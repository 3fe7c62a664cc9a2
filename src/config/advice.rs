//! Warnings about settings that are allowed but probably a mistake. `config check` and the start
//! print them; no setting is refused. The one warning today: users without `mirror_listen`.

use super::{
    load::Loaded,
    problem::{Problem, Source},
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
        advice
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
}
