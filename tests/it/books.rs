//! Nothing cites a document, section, rule or test that is not in the repository.
//!
//! A book is a document in `docs/`. A rule is a letter and a number, like those of
//! docs/SECURITY.md. It is defined once, by a list item that begins with it in bold, and that item
//! names the tests that hold it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

/// The folders and single files that are read, from the root of the repository.
const READ: &[&str] = &[
    "src",
    "tests",
    "benches",
    "examples",
    "docs",
    ".ci",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.toml",
    "Dockerfile",
    "config.example.toml",
    "deny.toml",
    "docker-compose.yml",
    "justfile",
    "rust-toolchain.toml",
];

/// The names of Rust's own items that look like rules.
const NO_RULES: &[&str] = &["V1", "V4", "V6"];

struct Text {
    /// The path from the root of the repository.
    name: String,
    text: String,
}

impl Text {
    fn is_code(&self) -> bool {
        self.name.ends_with(".rs")
    }

    /// The prose: all of a document, and the comments of code, since an identifier may look like a
    /// rule.
    fn prose(&self) -> Vec<(usize, String)> {
        let comment = Regex::new("(?:^|[^:])//(.*)").unwrap();
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        match self.is_code() {
            true => lines.filter_map(|(at, line)| Some((at, comment.captures(line)?[1].to_owned()))).collect(),
            false => lines.map(|(at, line)| (at, line.to_owned())).collect(),
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path, into: &mut Vec<Text>) {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| read(entry, into));
    } else if let Ok(text) = fs::read_to_string(path) {
        into.push(Text { name: path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text });
    }
}

fn everything() -> Vec<Text> {
    let mut all = Vec::new();
    for name in READ {
        assert!(root().join(name).exists(), "{name} is gone");
        read(&root().join(name), &mut all);
    }
    all
}

/// The text of a document that is cited by its name alone: one in `docs/`, or one at the root.
fn document(name: &str) -> Option<String> {
    let name = name.strip_prefix("docs/").unwrap_or(name);
    [root().join("docs").join(name), root().join(name)].iter().find_map(|path| fs::read_to_string(path).ok())
}

fn none(wrong: &BTreeSet<String>, what: &str) {
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.iter().cloned().collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_document_and_section_that_is_cited_is_here() {
    let cited = Regex::new(r"\b((?:docs/)?[A-Z]{4,}\.md)\b").unwrap();
    let path = Regex::new(r"(?:^|[^\w./-])(docs/[\w./-]*\w)").unwrap();
    let link = Regex::new(r"\]\(([^)#:]+)(?:#[^)]*)?\)").unwrap();
    let section = Regex::new(r"\b([A-Z]{4,}\.md) sections? (\d+)(?: and (\d+))?").unwrap();
    let quoted = Regex::new(r#"\b([A-Z]{4,}\.md),? "([^"]+)""#).unwrap();
    let mut wrong = BTreeSet::new();
    for text in everything() {
        for found in cited.captures_iter(&text.text).filter(|found| document(&found[1]).is_none()) {
            wrong.insert(format!("{}: {}", text.name, &found[1]));
        }
        for found in path.captures_iter(&text.text).filter(|found| !root().join(&found[1]).exists()) {
            wrong.insert(format!("{}: {}", text.name, &found[1]));
        }
        let folder = root().join(&text.name).parent().unwrap().to_owned();
        let is_document = text.name.ends_with(".md");
        for found in link.captures_iter(&text.text).filter(|found| is_document && !folder.join(&found[1]).exists()) {
            wrong.insert(format!("{}: a link to {}", text.name, &found[1]));
        }
        for found in section.captures_iter(&text.text) {
            for number in [found.get(2), found.get(3)].into_iter().flatten() {
                let heading = format!("\n## {}. ", number.as_str());
                if !document(&found[1]).is_some_and(|book| book.contains(&heading)) {
                    wrong.insert(format!("{}: {} section {}", text.name, &found[1], number.as_str()));
                }
            }
        }
        for found in quoted.captures_iter(&text.text) {
            if !document(&found[1]).is_some_and(|book| book.contains(&found[2])) {
                wrong.insert(format!("{}: {}, \"{}\"", text.name, &found[1], &found[2]));
            }
        }
    }
    none(&wrong, "what is cited and is not here");
}

/// Each rule and the list item that defines it, with its book.
fn rules() -> BTreeMap<String, (String, String)> {
    let defined = Regex::new(r"(?ms)^- \*\*([A-Z]\d{1,2})\*\*(.*?)(?:\n- |\n\n|\z)").unwrap();
    let mut rules = BTreeMap::new();
    for book in everything().into_iter().filter(|text| text.name.starts_with("docs/")) {
        let mut from = 0;
        while let Some(found) = defined.captures_at(&book.text, from) {
            let item = (book.name.clone(), found[2].to_owned());
            let twice = rules.insert(found[1].to_owned(), item);
            assert!(twice.is_none(), "{} is defined in {} and {}", &found[1], book.name, twice.unwrap().0);
            from = found.get(2).unwrap().end();
        }
    }
    assert!(rules.len() > 40, "only {} rules were found", rules.len());
    rules
}

#[test]
fn every_rule_that_is_cited_is_defined_once() {
    let rules = rules();
    // A range names its ends. `[A-Z]\d` also stands in names of types, after a colon or a dot.
    let cited = Regex::new(r"(?:^|[^\w:./#-])([A-Z]\d{1,2})\b").unwrap();
    let in_strings = Regex::new(r#""([A-Z]\d{1,2}): "#).unwrap();
    let in_names = Regex::new(r"\bfn ((?:[a-z]\d{1,2}_)+)").unwrap();
    let mut wrong = BTreeSet::new();
    for text in everything() {
        let mut names: Vec<(usize, String)> = Vec::new();
        for (at, line) in text.prose() {
            names.extend(cited.captures_iter(&line).map(|found| (at, found[1].to_owned())));
        }
        for (at, line) in text.text.lines().enumerate().filter(|_| text.is_code()) {
            names.extend(in_strings.captures_iter(line).map(|found| (at + 1, found[1].to_owned())));
            for found in in_names.captures_iter(line) {
                names.extend(found[1].split_terminator('_').map(|rule| (at + 1, rule.to_uppercase())));
            }
        }
        for (at, name) in names {
            if !rules.contains_key(&name) && !NO_RULES.contains(&name.as_str()) {
                wrong.insert(format!("{}:{at}: {name}", text.name));
            }
        }
    }
    none(&wrong, "rules that no book in docs/ defines");
}

/// The names of all tests.
fn tests() -> BTreeSet<String> {
    let test =
        Regex::new(r"#\[(?:[a-z_]+::)?test\b[^\n]*\n(?:\s*#\[[^\n]*\n|\s*//[^\n]*\n)*\s*(?:async )?fn (\w+)").unwrap();
    let code = everything().into_iter().filter(Text::is_code);
    code.flat_map(|text| test.captures_iter(&text.text).map(|found| found[1].to_owned()).collect::<Vec<_>>()).collect()
}

/// Whether this is the name of a test, or with `*` the beginning of one.
fn is_test(name: &str, tests: &BTreeSet<String>) -> bool {
    match name.strip_suffix('*') {
        Some(beginning) => tests.iter().any(|test| test.starts_with(beginning)),
        None => tests.contains(name),
    }
}

#[test]
fn every_test_that_is_named_is_there() {
    let tests = tests();
    assert!(tests.len() > 500, "only {} tests were found", tests.len());
    // In `docs/` each name in a list of tests, elsewhere each name that has the form of a rule's
    // test.
    let listed = Regex::new(r"(?s)Tests?: (.*?)\.(?:\n|\z)").unwrap();
    let cell = Regex::new(r"(?m)^\|.*\|([^|]*)\|$").unwrap();
    let like_a_rules = Regex::new(r"`([a-z]\d{1,2}_\w*\*?)`").unwrap();
    let name = Regex::new(r"`(\w+\*?)`").unwrap();
    let mut wrong = BTreeSet::new();
    for text in everything() {
        let is_book = text.name.starts_with("docs/");
        let lists = listed.captures_iter(&text.text).filter(|_| is_book);
        let cells = cell.captures_iter(&text.text).filter(|_| text.name == "docs/FAULTS.md");
        let named = lists.chain(cells).flat_map(|found| {
            name.captures_iter(found.get(1).unwrap().as_str()).map(|found| found[1].to_owned()).collect::<Vec<_>>()
        });
        let named = named.chain(like_a_rules.captures_iter(&text.text).map(|found| found[1].to_owned()));
        wrong.extend(named.filter(|name| !is_test(name, &tests)).map(|name| format!("{}: {name}", text.name)));
    }
    none(&wrong, "tests that do not exist");
}

/// The justfile has the commands of CI.
#[test]
fn the_justfile_has_the_commands_of_ci() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let (justfile, ci) = (read("justfile"), read(".ci/run"));
    let command = Regex::new(r"(?m)^\s+((?:[A-Z_]+=\S+ )*(?:RUSTDOCFLAGS=.*)?cargo .*)$").unwrap();
    let recipes = justfile.split("\n\n").filter(|recipe| !recipe.contains("\nquick:"));
    let commands: Vec<_> =
        recipes.flat_map(|recipe| command.captures_iter(recipe)).map(|found| found[1].to_owned()).collect();
    assert_eq!(commands.len(), 5, "{commands:?}");
    let absent: BTreeSet<_> = commands.into_iter().filter(|command| !ci.contains(command.as_str())).collect();
    none(&absent, "commands that CI does not run");
}
