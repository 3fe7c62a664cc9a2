//! Reads a TOML file as a layer, with the line of every key. Called by `load.rs`.

use std::{fs, path::Path};

use figment::value::{Dict, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    layer::{Layer, LayerKind},
    problem::{Problem, Source},
};

/// Reads the file. A file that is missing, unreadable or not TOML is a problem; then the layer is
/// empty. No message holds the text of the file, because a secret may be in it.
pub(super) fn read(path: &Path, problems: &mut Vec<Problem>) -> Layer {
    let whole = |what: String| Problem::new(Source::File { path: path.to_owned(), line: None }, "", what);
    let text = match fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => {
            problems.push(whole("is not UTF-8 text".to_owned()));
            return Layer::new(LayerKind::File);
        }
        Err(error) => {
            problems.push(whole(format!("cannot be read: {error}")));
            return Layer::new(LayerKind::File);
        }
    };
    parse(&text, path, problems)
}

/// Every syntax error is a problem. A text with a syntax error is not used at all.
fn parse(text: &str, path: &Path, problems: &mut Vec<Problem>) -> Layer {
    let mut tree = TomlTree { text, path, layer: Layer::new(LayerKind::File) };
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        tree.layer.values = tree.table(table.get_ref(), "");
    }
    for error in errors {
        let source = tree.source(error.span().map_or(0, |span| span.start));
        problems.push(Problem::new(source, "", format!("is not TOML: {}", error.message())));
    }
    tree.layer
}

struct TomlTree<'a> {
    text: &'a str,
    path: &'a Path,
    layer: Layer,
}

impl TomlTree<'_> {
    fn source(&self, offset: usize) -> Source {
        let before = self.text.as_bytes().iter().take(offset);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Source::File { path: self.path.to_owned(), line: Some(line) }
    }

    fn table(&mut self, table: &DeTable<'_>, prefix: &str) -> Dict {
        let mut dict = Dict::new();
        for (key, value) in table {
            let path = match prefix {
                "" => key.get_ref().to_string(),
                _ => format!("{prefix}.{}", key.get_ref()),
            };
            let source = self.source(key.span().start);
            self.layer.place(path.clone(), source);
            dict.insert(key.get_ref().to_string(), self.value(value, &path));
        }
        dict
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, path: &str) -> Value {
        match value.get_ref() {
            DeValue::String(text) => Value::from(text.as_ref()),
            DeValue::Boolean(is) => Value::from(*is),
            // A number that is too large stays text, and is refused when its key is read.
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::from(number),
                Err(_) => Value::from(number.as_str()),
            },
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) => Value::from(number),
                Err(_) => Value::from(number.as_str()),
            },
            DeValue::Datetime(time) => Value::from(time.to_string()),
            DeValue::Table(table) => Value::from(self.table(table, path)),
            DeValue::Array(items) => {
                let mut values = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    let source = self.source(item.span().start);
                    self.layer.place(path.clone(), source);
                    values.push(self.value(item, &path));
                }
                Value::from(values)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line() {
        let text = "listen = \"a\"\n\n[cache]\ntag_ttl = 5\n[[upstream]]\nname = \"x\"\n[[upstream]]\nname = \"y\"\nallow = [\n  \"p\",\n  \"q\",\n]\n";
        let mut problems = Vec::new();
        let layer = parse(text, Path::new("f.toml"), &mut problems);
        assert!(problems.is_empty());
        for (path, line) in [
            ("listen", 1),
            ("cache", 3),
            ("cache.tag_ttl", 4),
            ("upstream[0]", 5),
            ("upstream[0].name", 6),
            ("upstream[1]", 7),
            ("upstream[1].name", 8),
            ("upstream[1].allow[1]", 11),
            ("upstream[1].not_there", 7),
        ] {
            assert_eq!(layer.source(path), Source::File { path: "f.toml".into(), line: Some(line) }, "{path}");
        }
    }

    #[test]
    fn s18_syntax_errors_are_all_told_and_never_quote_the_file() {
        let text = "a = canary-1\nb = \"canary-2\nc = 1\nc = \"canary-3\"\ncanary-4\n[canary\nd = 'canary-5\n\"\\qcanary-6\" = 1\n";
        let mut problems = Vec::new();
        let layer = parse(text, Path::new("f.toml"), &mut problems);
        assert!(layer.values.is_empty());
        let shown = problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n");
        assert!(!shown.contains("canary"), "{shown}");
        for line in [1, 2, 4, 5] {
            assert!(shown.contains(&format!("f.toml:{line}: is not TOML: ")), "{shown}");
        }
    }

    #[test]
    fn a_missing_file_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let mut problems = Vec::new();
        read(&folder.path().join("none.toml"), &mut problems);
        read(folder.path(), &mut problems);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
