//! The modules of `src/`: the items that each one defines, the names that it imports and spells
//! out, and the file in which a path ends.

use std::collections::{BTreeMap, BTreeSet};

/// A module's path below the crate: `["storage", "index"]`.
type Path = Vec<String>;

/// One name that `use` brings into a module; a glob has the name `*`.
struct Import {
    name: String,
    path: Path,
    handed_on: bool,
}

#[derive(Default)]
struct Module {
    file: String,
    items: BTreeSet<String>,
    imports: Vec<Import>,
    /// The paths that the code spells out, and the words that stand alone.
    named: BTreeSet<Path>,
}

/// The crate's modules, without those of tests.
#[derive(Default)]
pub(super) struct Modules(BTreeMap<Path, Module>);

impl Modules {
    /// Reads the files that `lib.rs` declares, and those that these declare.
    pub(super) fn read(sources: &[(String, String)]) -> Modules {
        let mut modules = Modules::default();
        let mut open = vec![(Path::new(), "lib.rs".to_owned())];
        while let Some((path, file)) = open.pop() {
            let text = &sources.iter().find(|(name, _)| *name == file).unwrap().1;
            for child in modules.read_file(&path, &file, &super::tokens::of(text)) {
                let stem = child.join("/");
                let file = [format!("{stem}.rs"), format!("{stem}/mod.rs")]
                    .into_iter()
                    .find(|file| sources.iter().any(|(name, _)| name == file));
                open.push((child, file.unwrap_or_else(|| panic!("no file for the module {stem}"))));
            }
        }
        modules
    }

    /// Who uses whom: a file, another file, and the names that the first takes from the second.
    pub(super) fn uses(&self) -> BTreeMap<(String, String), BTreeSet<String>> {
        let mut uses = BTreeMap::<_, BTreeSet<String>>::new();
        for (path, module) in &self.0 {
            let imported = module.imports.iter().filter(|i| !i.handed_on && i.name != "*").map(|i| &i.path);
            for named in module.named.iter().chain(imported) {
                for file in self.home(path, named, 0).into_iter().filter(|file| *file != module.file) {
                    uses.entry((module.file.clone(), file)).or_default().insert(named.join("::"));
                }
            }
        }
        uses
    }

    /// The files that define `named`, as the module `at` understands it: none for a module or a
    /// foreign crate.
    fn home(&self, at: &[String], named: &[String], depth: usize) -> Vec<String> {
        let (Some(module), Some((first, rest))) = (self.0.get(at), named.split_first()) else { return Vec::new() };
        if depth > 20 {
            return Vec::new();
        }
        match first.as_str() {
            "crate" => return self.home(&[], rest, depth + 1),
            "self" => return self.home(at, rest, depth + 1),
            "super" => return self.home(&at[..at.len().saturating_sub(1)], rest, depth + 1),
            _ => {}
        }
        let child: Path = at.iter().chain([first]).cloned().collect();
        if !rest.is_empty() && self.0.contains_key(&child) {
            return self.home(&child, rest, depth + 1);
        }
        if module.items.contains(first) {
            return vec![module.file.clone()];
        }
        let by_name = module.imports.iter().filter(|import| import.name == *first);
        let by_name = by_name.flat_map(|i| self.home(at, &[&i.path[..], rest].concat(), depth + 1));
        let globs = module.imports.iter().filter(|import| import.name == "*");
        by_name.chain(globs.flat_map(|i| self.home(at, &[&i.path[..], named].concat(), depth + 1))).collect()
    }

    /// Takes in one file; answers the modules that it declares and that have files of their own.
    fn read_file(&mut self, path: &[String], file: &str, tokens: &[String]) -> Vec<Path> {
        let new = || Module { file: file.to_owned(), ..Module::default() };
        let mut declared = Vec::new();
        // The modules that are open here, each with the depth of its braces.
        let mut open = vec![(path.to_vec(), 0)];
        self.0.insert(path.to_vec(), new());
        let (mut at, mut depth, mut handed_on) = (0, 0, false);
        let token = |n: usize| tokens.get(n).map_or("", String::as_str);
        while at < tokens.len() {
            let (here, floor) = open.last().unwrap().clone();
            let module = self.0.get_mut(&here).unwrap();
            let start = at;
            match token(at) {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if depth < floor {
                        open.pop();
                    }
                }
                "use" if token(at + 1) != "<" => {
                    at += tokens[at..].iter().position(|t| t == ";").unwrap();
                    imports(&tokens[start + 1..at], &[], handed_on, &mut module.imports);
                }
                "mod" => {
                    let child: Path = here.iter().cloned().chain([token(at + 1).to_owned()]).collect();
                    at += 2;
                    if token(at) == ";" {
                        declared.push(child);
                    } else {
                        depth += 1;
                        self.0.insert(child.clone(), new());
                        open.push((child, depth));
                    }
                }
                "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "union" if depth == floor => {
                    module.items.insert(token(at + 1).to_owned());
                }
                word if is_name(word) && (at == 0 || !["::", "."].contains(&token(at - 1))) => {
                    while token(at + 1) == "::" && is_name(token(at + 2)) {
                        at += 2;
                    }
                    module.named.insert(tokens[start..=at].iter().step_by(2).cloned().collect());
                }
                _ => {}
            }
            // `pub`, and what may stand between it and `use`: `pub(in crate::storage)`.
            let between = handed_on && ["(", ")", "in", "crate", "super", "self"].contains(&token(start));
            handed_on = token(start) == "pub" || between;
            at += 1;
        }
        declared
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The names of one `use`, whose tokens are `tree`, below `prefix`.
fn imports(tree: &[String], prefix: &[String], handed_on: bool, into: &mut Vec<Import>) {
    let mut path = prefix.to_vec();
    for (n, token) in tree.iter().enumerate() {
        match token.as_str() {
            "::" => {}
            "{" => {
                let inside = &tree[n + 1..tree.len() - 1];
                let mut depth = 0;
                let branches = inside.split(|token| {
                    match token.as_str() {
                        "{" => depth += 1,
                        "}" => depth -= 1,
                        _ => {}
                    }
                    token == "," && depth == 0
                });
                branches.filter(|b| !b.is_empty()).for_each(|b| imports(b, &path, handed_on, into));
                return;
            }
            "*" => return into.push(Import { name: "*".to_owned(), path, handed_on }),
            "as" => return into.push(Import { name: tree[n + 1].clone(), path, handed_on }),
            "self" if !path.is_empty() => {}
            word => path.push(word.to_owned()),
        }
    }
    into.push(Import { name: path.last().cloned().unwrap_or_default(), path, handed_on });
}
