//! CONTRIBUTING.md, "Shape" and "Voice": how long a file may be, and how wide a comment.

/// No file is longer, in lines.
const LONGEST: usize = 450;

/// No comment line is wider, in columns with its indentation.
const WIDEST: usize = 100;

fn everything() -> Vec<(String, String)> {
    let all: Vec<_> = ["src", "tests", "benches", "examples"].into_iter().flat_map(super::sources).collect();
    assert!(all.len() > 300, "the walk found only {} files", all.len());
    all
}

#[test]
fn comments_are_narrow() {
    let mut wide = Vec::new();
    for (file, text) in everything() {
        for (n, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("//") && line.chars().count() > WIDEST {
                wide.push(format!("{file}:{} has a comment of {} columns", n + 1, line.chars().count()));
            }
        }
    }
    assert!(wide.is_empty(), "comments over {WIDEST} columns:\n{}", wide.join("\n"));
}

#[test]
fn no_file_is_long() {
    let long: Vec<_> = everything()
        .into_iter()
        .map(|(file, text)| (file, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(file, lines)| format!("{file} has {lines} lines"))
        .collect();
    assert!(long.is_empty(), "files over {LONGEST} lines:\n{}", long.join("\n"));
}

/// Nine in ten of the files of `src/` have at most 350 lines.
#[test]
fn files_stay_readable() {
    let mut lengths: Vec<_> = super::all_sources().iter().map(|(_, text)| text.lines().count()).collect();
    lengths.sort();
    let ninth = lengths[lengths.len() * 9 / 10];
    assert!(ninth <= 350, "a tenth of the files has more than {ninth} lines");
}
