//! The text of `lanyard config show`: every value in force as TOML, with its source as a comment.
//! The text can be loaded again, except for redacted secrets.

use super::problem::{Provenance, Shown};

/// The column of the comments, if the value is shorter.
const COLUMN: usize = 44;

/// TOML that says the same as the inputs together, except for redacted secrets.
pub(super) fn show(provenance: &Provenance) -> String {
    let mut text = String::new();
    let mut table = "";
    for (path, shown) in &provenance.values {
        let (within, key) = path.rsplit_once('.').unwrap_or(("", path));
        if within != table {
            text.push_str(&format!("\n[{within}]\n"));
            table = within;
        }
        line(&mut text, key, shown);
    }
    let lists = [("upstream", &provenance.upstreams), ("tags", &provenance.tags), ("access", &provenance.access)];
    for (table, entries) in lists {
        for entry in entries {
            text.push_str(&format!("\n[[{table}]]\n"));
            for (path, shown) in entry {
                let key = path.rsplit_once('.').map_or(path.as_str(), |(_, key)| key);
                line(&mut text, key, shown);
            }
        }
    }
    text
}

fn line(text: &mut String, key: &str, shown: &Shown) {
    let value = format!("{key} = {}", shown.value);
    text.push_str(&format!("{value:<COLUMN$} # {}\n", shown.source.to_string().escape_debug()));
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Inputs};

    #[test]
    fn numbers_of_the_file_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lanyard.toml");
        std::fs::write(&file, "[hosted]\nuploads = 0x10\n[[upstream]]\nname = \"ghcr.io\"\nconnections = 3\n").unwrap();
        let shown = Config::load(&Inputs { file: Some(file), ..Inputs::default() }).unwrap().show();
        assert!(shown.contains("\nuploads = 16 ") && shown.contains("\nconnections = 3 "), "{shown}");
    }
}
