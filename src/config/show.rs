//! `lanyard config show`: every value in force, and who said it.

use super::{Provenance, problem::Said};

/// Where the comments begin, if the values leave room.
const COLUMN: usize = 44;

/// TOML that says the same as the sources together, but for what is redacted.
pub(super) fn show(provenance: &Provenance) -> String {
    let mut text = String::new();
    let mut table = "";
    for (path, said) in &provenance.values {
        let (within, key) = path.rsplit_once('.').unwrap_or(("", path));
        if within != table {
            text.push_str(&format!("\n[{within}]\n"));
            table = within;
        }
        line(&mut text, key, said);
    }
    for (table, entries) in [("upstream", &provenance.upstreams), ("access", &provenance.access)] {
        for entry in entries {
            text.push_str(&format!("\n[[{table}]]\n"));
            for (path, said) in entry {
                let key = path.rsplit_once('.').map_or(path.as_str(), |(_, key)| key);
                line(&mut text, key, said);
            }
        }
    }
    text
}

fn line(text: &mut String, key: &str, said: &Said) {
    let value = format!("{key} = {}", said.value);
    text.push_str(&format!("{value:<COLUMN$} # {}\n", said.source.to_string().escape_debug()));
}
