//! No circle inside a room: no file uses, however far around, a file that uses it.
//!
//! A file uses the file that defines what it names, also where a `mod.rs` hands that name on.
//! `pub use x::Y` alone is no use of `x`; code of the same `mod.rs` that names `Y` is one. A child
//! that names an item of its `mod.rs` uses the `mod.rs`. Code for tests does not count.

use super::modules::Modules;
use std::collections::{BTreeMap, BTreeSet};

/// Who uses whom, and by which names.
type Uses = BTreeMap<(String, String), BTreeSet<String>>;

fn uses_in_rooms(sources: &[(String, String)]) -> Uses {
    let mut uses = Modules::read(sources).uses();
    uses.retain(|(from, to), _| room(from) == room(to));
    uses
}

fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

fn reached(uses: &Uses, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for (_, next) in uses.keys().filter(|(user, _)| user == file) {
            if reached.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    reached
}

/// The groups of files that reach each other.
fn circles(uses: &Uses) -> BTreeSet<BTreeSet<String>> {
    let all: BTreeMap<&String, BTreeSet<String>> = uses.keys().map(|(file, _)| (file, reached(uses, file))).collect();
    all.iter()
        .filter(|(file, reached)| reached.contains(**file))
        .map(|(file, reached)| reached.iter().filter(|other| all.get(other).is_some_and(|r| r.contains(*file))))
        .map(|members| members.cloned().collect())
        .collect()
}

#[test]
fn no_circle_inside_a_room() {
    let uses = uses_in_rooms(&super::all_sources());
    assert!(uses.len() > 100, "the imports of src/ were read wrongly: {} uses", uses.len());
    let mut wrong = Vec::new();
    for circle in circles(&uses) {
        wrong.push(format!("a circle of {} files in the room {}:", circle.len(), room(circle.first().unwrap())));
        for ((from, to), names) in uses.iter().filter(|((from, to), _)| circle.contains(from) && circle.contains(to)) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            wrong.push(format!("  {from} uses {to}: {}", names.join(", ")));
        }
    }
    assert!(wrong.is_empty(), "circles inside a room:\n{}", wrong.join("\n"));
}

#[test]
fn a_circle_is_seen_through_a_name_that_is_handed_on() {
    let circles_of = |files: &[(&str, &str)]| {
        let files: Vec<_> = files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        circles(&uses_in_rooms(&files)).into_iter().flatten().collect::<Vec<_>>()
    };
    let lib = ("lib.rs", "mod room;");
    let a = ("room/a.rs", "pub struct A; #[cfg(test)] mod tests { use super::super::B; }");
    let b = ("room/b.rs", "// super::C\npub struct B(super::A);");

    let straight = ("room/mod.rs", "mod a; mod b; pub use {a::A, b::B}; pub struct C;");
    assert!(circles_of(&[lib, straight, a, b]).is_empty());

    let back = ("room/a.rs", "use crate::room::{B as Other}; pub struct A(Other);");
    assert_eq!(circles_of(&[lib, straight, back, b]), ["room/a.rs", "room/b.rs"]);

    let own_code = ("room/mod.rs", "mod a; mod b; pub(in crate::room) use {a::*, b::B}; pub struct C(B);");
    assert!(circles_of(&[lib, own_code, a, b]).is_empty());
    let up = ("room/b.rs", "use super::C; pub struct B(C);");
    assert_eq!(circles_of(&[lib, own_code, a, up]), ["room/b.rs", "room/mod.rs"]);
    assert!(circles_of(&[lib, straight, a, up]).is_empty());
}
