//! `WWW-Authenticate`: the credentials that a registry asks for (RFC 9110 section 11.6.1, RFC 6750
//! section 3, and the distribution project's token specification). Pure.
//!
//! Any server can send this header, so parsing never fails: unreadable parts are left out.

/// The longest header line that is read, in bytes. The rest is ignored.
const MAX_HEADER: usize = 8 << 10;

/// The most challenges kept.
const MAX_CHALLENGES: usize = 16;

/// One challenge: a scheme and its parameters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Challenge {
    /// Lower case, e.g. `bearer`.
    scheme: String,
    /// Names in lower case.
    params: Vec<(String, String)>,
}

impl Challenge {
    /// Whether it is `Bearer`.
    pub(super) fn is_bearer(&self) -> bool {
        self.scheme == "bearer"
    }

    /// Whether it is `Basic`.
    pub(super) fn is_basic(&self) -> bool {
        self.scheme == "basic"
    }

    /// A parameter's value. The first one counts if the name is there twice. An empty value counts
    /// as absent.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// Reads all challenges of all header lines, in order.
pub(super) fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    for line in lines {
        let mut rest: Scanner<'_> = Scanner(line.get(..MAX_HEADER).unwrap_or(line));
        if line.len() > MAX_HEADER && rest.0.len() > MAX_HEADER {
            continue; // Cut inside a character: this is no header of a registry.
        }
        let first = challenges.len();
        while let Some(word) = rest.word() {
            if rest.eat('=') {
                let value = rest.value();
                // A parameter before the first scheme of its line belongs to no challenge.
                if let Some(challenge) = challenges.get_mut(first..).and_then(|c| c.last_mut()) {
                    challenge.params.push((word.to_ascii_lowercase(), value));
                }
            } else if challenges.len() < MAX_CHALLENGES {
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), params: Vec::new() });
            } else {
                return challenges;
            }
        }
    }
    challenges
}

/// The rest of a header line.
struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    /// The next scheme or parameter name, with the separators before it skipped.
    fn word(&mut self) -> Option<&'a str> {
        let separator = |c: char| c.is_whitespace() || matches!(c, ',' | '=' | '"' | ';');
        self.0 = self.0.trim_start_matches(separator);
        let end = self.0.find(separator).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    /// Takes `wanted`, if it is next.
    fn eat(&mut self, wanted: char) -> bool {
        match self.0.trim_start().strip_prefix(wanted) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// A parameter's value: a quoted string with its backslashes undone, or the text up to a comma
    /// or a space.
    fn value(&mut self) -> String {
        if !self.eat('"') {
            self.0 = self.0.trim_start();
            let end = self.0.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(self.0.len());
            let (value, rest) = self.0.split_at(end);
            self.0 = rest;
            return value.into();
        }
        let mut value = String::new();
        let mut chars = self.0.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => value.extend(chars.next()),
                c => value.push(c),
            }
        }
        self.0 = chars.as_str();
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_docker_hubs() {
        let challenges = parse([
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#,
        ]);
        assert_eq!(challenges.len(), 1);
        assert!(challenges[0].is_bearer());
        assert_eq!(challenges[0].param("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(challenges[0].param("service"), Some("registry.docker.io"));
        assert_eq!(challenges[0].param("scope"), Some("repository:library/x:pull,push"));
        assert_eq!(challenges[0].param("error"), None);
    }

    #[test]
    fn reads_several_in_one_line_and_in_many() {
        let lines = [
            r#"BASIC Realm = "a \"quoted\", one" , bearer realm=https://h/t?x=y ,SERVICE="s""#,
            "Negotiate",
            "error=\"orphan\"",
        ];
        let challenges = parse(lines);
        assert_eq!(challenges.len(), 3);
        assert!(challenges[0].is_basic() && challenges[1].is_bearer());
        assert_eq!(challenges[0].param("realm"), Some(r#"a "quoted", one"#));
        assert_eq!(challenges[1].param("realm"), Some("https://h/t?x=y"));
        assert_eq!(challenges[1].param("service"), Some("s"));
    }

    #[test]
    fn survives_what_is_no_header() {
        for line in ["", ",", "=", "\"", "Bearer realm=\"open", "Bearer realm=\"\\", "Bearer realm=", "ä ö=\"ü"] {
            let _ = parse([line]);
        }
        let (long, wide) = (format!("Bearer x={}", "a".repeat(1 << 20)), "ä".repeat(1 << 14));
        assert!(parse([long.as_str(), &wide]).len() <= MAX_CHALLENGES);
        assert_eq!(parse(["a b c d e f g h i j k l m n o p q r s t u v"]).len(), MAX_CHALLENGES);
    }

    proptest! {
        #[test]
        fn never_panics(lines in proptest::collection::vec("\\PC*", 0..4)) {
            let _ = parse(lines.iter().map(String::as_str));
        }

        #[test]
        fn reads_back_what_was_quoted(value in "[ -~]{1,40}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let line = format!("Bearer realm=\"{quoted}\",service=x");
            let challenges = parse([line.as_str()]);
            prop_assert_eq!(challenges.len(), 1);
            prop_assert_eq!(challenges[0].param("realm"), Some(value.as_str()));
            prop_assert_eq!(challenges[0].param("service"), Some("x"));
        }
    }
}
