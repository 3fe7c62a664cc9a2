//! Lists of images in files: one image a line, compose files, Kubernetes objects, Dockerfiles.
//!
//! The form is told by the content, not by the name of the file. Promises: what cannot be read is
//! told with its line, and then nothing is taken; a hostile file costs bounded memory and time
//! ([`LONGEST`], `yaml.rs`). Called by `pull` and `lock`.

mod compose;
mod dockerfile;
mod finding;
mod here_documents;
mod kubernetes;
mod plain;
mod variables;
mod yaml;

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read, stdin},
};

use finding::{Findings, Found, LONGEST_IMAGE, Mistake, shown};

/// The longest file, in bytes: all pods of a large cluster have room in it.
const LONGEST: usize = 32 << 20;
/// The longest line of a plain list or a Dockerfile, in bytes. YAML and JSON may be one line.
const LONGEST_LINE: usize = 1 << 20;
/// How much of the first line tells the form of a file, in characters.
const BEGINNING: usize = 1024;
/// The most images of a list: lanyard takes no longer order.
const MOST_IMAGES: usize = 10_000;
/// How many mistakes of a file are told.
const MOST_MISTAKES: usize = 20;

/// The images in the file `from`, each once; `-` is standard input. `variable` gives the values of
/// the environment.
///
/// # Errors
/// The mistakes, one a line, each with the file and its line.
pub(super) fn read(from: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Vec<String>, String> {
    let name = if from == "-" { "standard input" } else { from };
    let text = text(from).map_err(|error| format!("{name}: {error}\n"))?;
    images(&text, variable).map_err(|mistakes| {
        let more = mistakes.len().saturating_sub(MOST_MISTAKES);
        let told =
            mistakes.iter().take(MOST_MISTAKES).map(|mistake| format!("{name}:{}: {}\n", mistake.line, mistake.what));
        told.chain((more > 0).then(|| format!("{name}: and {more} more\n"))).collect()
    })
}

fn text(from: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    let most = LONGEST as u64 + 1;
    match from {
        "-" => stdin().lock().take(most).read_to_end(&mut bytes)?,
        file => File::open(file)?.take(most).read_to_end(&mut bytes)?,
    };
    if bytes.len() > LONGEST {
        return Err(io::Error::other(format!("it is longer than {} MiB", LONGEST >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        io::Error::other(format!("line {line} is no text (UTF-8)"))
    })
}

fn images(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Vec<String>, Vec<Mistake>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let form = form(text);
    if form != Form::Yaml
        && let Some(at) = text.lines().position(|line| line.len() > LONGEST_LINE)
    {
        let what = format!("the line is longer than {} KiB", LONGEST_LINE >> 10);
        return Err(vec![Mistake { line: at + 1, what }]);
    }
    let findings = match form {
        Form::Plain => plain::images(text),
        Form::Dockerfile => dockerfile::images(text),
        Form::Yaml => documents(text, variable),
    };
    let (mut images, mut mistakes, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for finding in findings {
        match finding {
            Ok(Found { image, line }) if !may_be_image(&image) => {
                mistakes.push(Mistake { line, what: format!("{} is no image", shown(&image)) });
            }
            Ok(Found { image, line }) => {
                if seen.len() == MOST_IMAGES && !seen.contains(&image) {
                    mistakes.push(Mistake { line, what: format!("there are more than {MOST_IMAGES} images in it") });
                    break;
                }
                if seen.insert(image.clone()) {
                    images.push(image);
                }
            }
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if images.is_empty() && mistakes.is_empty() {
        mistakes.push(Mistake { line: 1, what: "there is no image in it".to_owned() });
    }
    if mistakes.is_empty() { Ok(images) } else { Err(mistakes) }
}

/// The form of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Plain,
    Dockerfile,
    Yaml,
}

/// The form, by the first line that says something.
fn form(text: &str) -> Form {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let Some(first) = lines.clone().next() else { return Form::Plain };
    // Its beginning tells as much, and a line may be all of the file.
    let begins = &first[..first.char_indices().nth(BEGINNING).map_or(first.len(), |(at, _)| at)];
    let word = begins.split_whitespace().next().unwrap_or_default();
    let has_more = word.len() < first.len();
    if has_more && ["from", "arg"].iter().any(|known| word.eq_ignore_ascii_case(known)) {
        return Form::Dockerfile;
    }
    let is_yaml = first.ends_with(':')
        || begins.contains(": ")
        || first.starts_with(['{', '[', '%', '"', '\'', '&', '!', '?'])
        || matches!(word, "---" | "-");
    if is_yaml { Form::Yaml } else { Form::Plain }
}

/// The images of a stream of YAML documents.
fn documents(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Findings {
    let documents = match yaml::documents(text) {
        Ok(documents) => documents,
        Err(mistake) => return vec![Err(mistake)],
    };
    let mut findings = Findings::new();
    for document in documents {
        if document.is_null() {
            continue;
        }
        match (document.get("apiVersion").or(document.get("kind")), document.get("services")) {
            (Some(_), _) => kubernetes::images(&document, &mut findings),
            (None, Some(services)) => compose::images(&services, variable, &mut findings),
            (None, None) => {
                let what = "this is neither a compose file (`services:`) nor a Kubernetes object (`kind:`)".to_owned();
                findings.push(Err(Mistake { line: document.line(), what }));
            }
        }
    }
    findings
}

/// Whether a text may be the name of an image. lanyard looks at it more closely.
fn may_be_image(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@+".contains(&byte);
    (1..=LONGEST_IMAGE).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests;
