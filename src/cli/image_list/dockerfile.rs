//! Dockerfiles: the images of `FROM`, `COPY --from` and `RUN --mount=…,from=…`, and the one of the
//! directive `syntax`, which a build pulls too. Stages and `scratch` are no images.
//!
//! The variables of a `FROM` have the defaults of the `ARG` lines before the first one: the values
//! on the command line of a build are not known here. A here-document of RUN, COPY or ADD is
//! skipped to its end (`here_documents.rs`).

use std::collections::{HashMap, HashSet};

use super::{
    finding::{Findings, Found, LONGEST_TEXT, Mistake, TOO_LONG, shown},
    here_documents::{HereDocument, here_documents},
    variables,
};

/// An instruction, without continuations and comments.
struct Instruction {
    line: usize,
    text: String,
}

/// What is known so far.
#[derive(Default)]
struct Build {
    /// The arguments before the first `FROM`; `None`: without a default.
    arguments: HashMap<String, Option<String>>,
    stages: HashSet<String>,
    has_stage: bool,
    findings: Findings,
}

pub(super) fn images(text: &str) -> Findings {
    let directives = Directives::read(text);
    let mut build = Build::default();
    if let Some((line, image)) = directives.syntax {
        build.findings.push(Ok(Found { line, image }));
    }
    match instructions(text, directives.escape) {
        Ok(instructions) => instructions.iter().for_each(|instruction| build.take(instruction)),
        Err(mistake) => build.findings.push(Err(mistake)),
    }
    build.findings
}

/// The directives in the first comments.
struct Directives {
    escape: char,
    syntax: Option<(usize, String)>,
}

impl Directives {
    fn read(text: &str) -> Directives {
        let mut directives = Directives { escape: '\\', syntax: None };
        for (n, line) in text.lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix('#') else { break };
            let Some((key, value)) = comment.split_once('=') else { break };
            let value = value.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                "escape" if value == "`" => directives.escape = '`',
                "syntax" if !value.is_empty() => directives.syntax = Some((n + 1, value.to_owned())),
                _ => {}
            }
        }
        directives
    }
}

/// The instructions, with the bodies of here-documents left out.
fn instructions(text: &str, escape: char) -> Result<Vec<Instruction>, Mistake> {
    let mut instructions = Vec::new();
    let mut lines = text.lines().enumerate().map(|(n, line)| (n + 1, line));
    while let Some((number, first)) = lines.next() {
        let is_comment = |line: &str| line.trim_start().starts_with('#');
        if first.trim().is_empty() || is_comment(first) {
            continue;
        }
        let mut text = String::new();
        let mut part = first;
        while let Some(begun) = part.trim_end().strip_suffix(escape) {
            text.push_str(begun);
            text.push(' ');
            // Comments and empty lines do not end a continued line.
            let next = lines.by_ref().find(|(_, line)| !is_comment(line) && !line.trim().is_empty());
            part = next.map_or("", |(_, line)| line);
        }
        text.push_str(part);
        for document in begun_by(&text) {
            if !lines.by_ref().any(|(_, line)| document.ends_at(line)) {
                let what = format!("the here-document {} has no end", shown(&document.name));
                return Err(Mistake { line: number, what });
            }
        }
        instructions.push(Instruction { line: number, text: text.trim().to_owned() });
    }
    Ok(instructions)
}

/// The here-documents that an instruction begins. Only three instructions have any.
fn begun_by(text: &str) -> Vec<HereDocument> {
    let (word, _) = command(text);
    let has_some = ["run", "copy", "add"].iter().any(|known| word.eq_ignore_ascii_case(known));
    if has_some { here_documents(text) } else { Vec::new() }
}

impl Build {
    fn take(&mut self, instruction: &Instruction) {
        let Instruction { line, text } = instruction;
        let (word, rest) = command(text);
        match word.to_ascii_lowercase().as_str() {
            "from" => self.from(*line, rest),
            "arg" if !self.has_stage => self.argument(*line, rest),
            "copy" => self.copy(*line, rest),
            "run" => self.run(*line, rest),
            _ => {}
        }
    }

    fn from(&mut self, line: usize, rest: &str) {
        self.has_stage = true;
        let mut words = rest.split_whitespace().skip_while(|word| word.starts_with("--"));
        let Some(image) = words.next() else {
            return self.findings.push(Err(Mistake { line, what: "FROM without an image".to_owned() }));
        };
        let value = |name: &str| self.arguments.get(name).cloned().flatten();
        match variables::expand(unquoted(image), &value) {
            Ok(image) => self.image(line, image),
            Err(what) => {
                let what = format!("the image {}: {what}; only defaults of ARG before FROM count", shown(image));
                self.findings.push(Err(Mistake { line, what }));
            }
        }
        if words.next().is_some_and(|word| word.eq_ignore_ascii_case("as")) {
            self.stages.extend(words.next().map(str::to_ascii_lowercase));
        }
    }

    /// An argument whose value would be too long is a mistake if it is made of others. Else only
    /// its beginning is kept, which is too long for an image as well.
    fn argument(&mut self, line: usize, rest: &str) {
        for word in rest.split_whitespace() {
            let (name, default) = word.split_once('=').map_or((word, None), |(name, default)| (name, Some(default)));
            let value = |name: &str| self.arguments.get(name).cloned().flatten();
            let default = default.map(unquoted).and_then(|default| {
                if !default.contains('$') {
                    return Some(default.chars().take(LONGEST_TEXT + 1).collect());
                }
                let expanded = variables::expand(default, &value);
                if expanded.as_ref().is_err_and(|what| what == TOO_LONG) {
                    let what = format!("the argument {}: {TOO_LONG}", shown(name));
                    self.findings.push(Err(Mistake { line, what }));
                }
                expanded.ok()
            });
            self.arguments.insert(name.to_owned(), default);
        }
    }

    fn copy(&mut self, line: usize, rest: &str) {
        for flag in flags(rest) {
            if let Some(from) = flag.strip_prefix("--from=") {
                self.source(line, unquoted(from));
            }
        }
    }

    fn run(&mut self, line: usize, rest: &str) {
        for flag in flags(rest) {
            let Some(mount) = flag.strip_prefix("--mount=") else { continue };
            for from in unquoted(mount).split(',').filter_map(|option| option.strip_prefix("from=")) {
                self.source(line, unquoted(from));
            }
        }
    }

    /// The `from` of a COPY or of a mount: a stage by its name or number, or an image.
    fn source(&mut self, line: usize, from: &str) {
        if from.bytes().all(|byte| byte.is_ascii_digit()) {
            return;
        }
        self.image(line, from.to_owned());
    }

    fn image(&mut self, line: usize, image: String) {
        let name = image.to_ascii_lowercase();
        if name != "scratch" && !self.stages.contains(&name) {
            self.findings.push(Ok(Found { line, image }));
        }
    }
}

fn flags(rest: &str) -> impl Iterator<Item = &str> {
    rest.split_whitespace().take_while(|word| word.starts_with("--"))
}

/// The first word of an instruction, and the rest; of ONBUILD those of the instruction in it.
fn command(text: &str) -> (&str, &str) {
    let (word, rest) = split(text);
    if word.eq_ignore_ascii_case("onbuild") { split(rest) } else { (word, rest) }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(char::is_whitespace).unwrap_or((text, ""))
}

fn unquoted(text: &str) -> &str {
    let inside = |mark: char| text.strip_prefix(mark).and_then(|rest| rest.strip_suffix(mark));
    inside('"').or_else(|| inside('\'')).unwrap_or(text)
}
