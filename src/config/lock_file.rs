//! A lock file: the digest of each of some tags, fit for a repository of sources.
//!
//! ```toml
//! [[image]]
//! name = "docker.io/library/nginx:1.27"
//! digest = "sha256:…"
//! platforms = ["linux/amd64", "linux/arm64"]
//! seen = "2026-11-29"
//! ```
//!
//! Promises: the text is sorted by name, so two files of the same images are equal and a moved tag
//! is a change of one entry; what was written is read; a text that is not wholly understood is an
//! error that names the line or the image. So is a text without an image: a file that is just being
//! written, or whose disk was full, is not one that locks nothing. Keys of later versions are
//! ignored. Callers: the check of the configuration, the pull, and `lanyard lock`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    ops::Bound,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::image_pattern::ImagePattern;
use crate::{
    oci::Digest,
    runtime::{open_file, printable_word},
};

/// The most bytes that a lock file may have: a hundred thousand images are less.
const MOST: u64 = 32 << 20;

const HEAD: &str = "# What tags named when `lanyard lock` wrote this file. `lanyard lock --check` compares them.\n";

/// The images of a lock file by their full names with tag, as in `docker.io/library/nginx:1.27`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LockFile(BTreeMap<String, LockedImage>);

/// One image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LockedImage {
    /// Its full name and tag.
    pub name: String,
    /// The manifest that the tag names.
    pub digest: Digest,
    /// The platforms of which there are images, as in `linux/amd64`; empty if it has no index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// The day on which the tag was first seen to name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
}

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockFileError {
    /// It cannot be read.
    #[error("{}: cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is no lock file.
    #[error("{}: is no lock file: {what}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The mistake, with its line or image.
        what: String,
    },
}

impl LockFile {
    /// A lock file of these images. Of two with one name the last counts.
    pub fn of(images: impl IntoIterator<Item = LockedImage>) -> LockFile {
        LockFile(images.into_iter().map(|image| (image.name.clone(), image)).collect())
    }

    /// Reads a file. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or is no lock file.
    pub fn read(path: &Path) -> Result<LockFile, LockFileError> {
        LockFile::from(path, File::open(path))
    }

    /// Reads the file of a rule, which is read again whenever it has changed. So it is no FIFO.
    /// Blocks.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn of_rule(path: &Path) -> Result<LockFile, LockFileError> {
        LockFile::from(path, open_file(path))
    }

    fn from(path: &Path, file: io::Result<File>) -> Result<LockFile, LockFileError> {
        let unreadable = |error| LockFileError::Unreadable { path: path.to_owned(), error };
        let mut text = String::new();
        file.and_then(|file| file.take(MOST + 1).read_to_string(&mut text)).map_err(unreadable)?;
        let wrong = |what| LockFileError::Wrong { path: path.to_owned(), what };
        if text.len() as u64 > MOST {
            return Err(wrong(format!("it is longer than {} MiB", MOST >> 20)));
        }
        LockFile::parse(&text).map_err(wrong)
    }

    /// The images of a text, or what is wrong with it.
    fn parse(text: &str) -> Result<LockFile, String> {
        #[derive(Deserialize)]
        struct Images {
            #[serde(default)]
            image: Vec<LockedImage>,
        }
        let mut all = BTreeMap::new();
        for (line, part) in parts(text) {
            let Images { image: images } = toml::from_str(part).map_err(|error| {
                let before = part.as_bytes().iter().take(error.span().map_or(0, |span| span.start));
                format!("line {}: {}", line + before.filter(|byte| **byte == b'\n').count(), error.message())
            })?;
            for image in images {
                let name = image.name.clone();
                if let Some(what) = wrong_name(&name) {
                    return Err(what);
                }
                if all.insert(name.clone(), image).is_some() {
                    return Err(format!("{name:?} is there twice"));
                }
            }
        }
        if all.is_empty() {
            return Err("it names no image".to_owned());
        }
        Ok(LockFile(all))
    }

    /// The digest of a tag, by its full name.
    pub fn digest(&self, name: &str) -> Option<Digest> {
        self.0.get(name).map(|image| image.digest)
    }

    /// The images whose full names begin with this text, sorted by name.
    pub fn below<'a>(&'a self, beginning: &'a str) -> impl Iterator<Item = &'a LockedImage> {
        let from = self.0.range::<str, _>((Bound::Included(beginning), Bound::Unbounded));
        from.take_while(move |(name, _)| name.starts_with(beginning)).map(|(_, image)| image)
    }

    /// The images, sorted by name.
    pub fn images(&self) -> impl Iterator<Item = &LockedImage> {
        self.0.values()
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        self.0.values().fold(HEAD.to_owned(), |mut text, LockedImage { name, digest, platforms, seen }| {
            text.push_str(&format!("\n[[image]]\nname = {}\ndigest = \"{digest}\"\n", quoted(name)));
            if !platforms.is_empty() {
                let platforms: Vec<_> = platforms.iter().map(|platform| quoted(platform)).collect();
                text.push_str(&format!("platforms = [{}]\n", platforms.join(", ")));
            }
            if let Some(seen) = seen {
                text.push_str(&format!("seen = {}\n", quoted(seen)));
            }
            text
        })
    }
}

/// What is wrong with the name of an image, if no image can have it.
fn wrong_name(name: &str) -> Option<String> {
    match name.parse::<ImagePattern>() {
        Ok(image) if image.exact().is_some() => image.not_in_library().map(|what| format!("{name:?}: {what}")),
        Ok(_) | Err(_) => Some(format!("{name:?} is no full name with a tag, as in docker.io/library/nginx:latest")),
    }
}

/// What stands before the first `[[image]]`, then each image, with the number of its first line.
/// The parser needs many times the memory of its text, so it gets one image at a time.
fn parts(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let (mut rest, mut line) = (text, 1);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = rest.find("\n[[image]]").map_or(rest.len(), |at| at + 1);
        let (part, behind) = rest.split_at(length);
        let begins = line;
        (rest, line) = (behind, line + part.bytes().filter(|byte| *byte == b'\n').count());
        Some((begins, part))
    })
}

/// A string of TOML. What a terminal would obey is escaped: platforms come from upstreams.
fn quoted(text: &str) -> String {
    format!("\"{}\"", printable_word(&text.replace('\\', r"\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, fill: char) -> LockedImage {
        let digest = format!("sha256:{}", fill.to_string().repeat(64)).parse().unwrap();
        let platforms = vec!["linux/amd64".to_owned(), "linux/arm/v7".to_owned()];
        LockedImage { name: name.to_owned(), digest, platforms, seen: Some("2026-11-29".to_owned()) }
    }

    #[test]
    fn what_is_written_is_sorted_and_read() {
        let plain = LockedImage { platforms: vec![], seen: None, ..image("docker.io/a/a:1", 'b') };
        let file = LockFile::of([image("quay.io/b:2", 'a'), plain]);
        let text = file.text();
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}\n{text}"));
        assert!(at("name = \"docker.io/a/a:1\"\ndigest = \"sha256:bbb") < at("name = \"quay.io/b:2\"\n"));
        assert!(text.contains("\nplatforms = [\"linux/amd64\", \"linux/arm/v7\"]\nseen = \"2026-11-29\"\n"), "{text}");
        assert_eq!(LockFile::parse(&text), Ok(file.clone()));
        assert_eq!(file.digest("quay.io/b:2"), Some(image("", 'a').digest));
        assert_eq!(file.digest("quay.io/b:3"), None);
        assert!(LockFile::parse(&text.replace("seen", "later = 1\nseen")).is_ok(), "a key of a later version");
    }

    /// Platforms are what an upstream wrote.
    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_read() {
        let nasty = "li\"nux\\\u{1b}[31m\u{9b}\u{202e}\n/a".to_owned();
        let file = LockFile::of([LockedImage { platforms: vec![nasty], ..image("docker.io/a/a:1", 'b') }]);
        let text = file.text();
        assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{text:?}");
        assert_eq!(LockFile::parse(&text), Ok(file));
    }

    #[test]
    fn a_lock_file_is_read_image_by_image() {
        let images: Vec<_> = (0..2000).map(|n| image(&format!("docker.io/a/b{n}:1"), 'b')).collect();
        let text = LockFile::of(images.clone()).text();
        assert_eq!(LockFile::parse(&text), Ok(LockFile::of(images)));
        let parts: Vec<_> = parts(&text).collect();
        assert_eq!(parts.len(), 2001);
        assert!(parts[1..].iter().all(|(_, part)| part.len() < 250), "each image is one part");
        assert_eq!(parts.iter().map(|(_, part)| *part).collect::<String>(), text);
        for (line, part) in parts {
            assert_eq!(text.lines().nth(line - 1), part.lines().next());
        }
    }

    #[test]
    fn what_is_no_lock_file_is_told_with_its_place() {
        let good = LockFile::of([image("docker.io/a/a:1", 'b')]).text();
        for (text, told) in [
            ("[[image]\n".to_owned(), "line 1: "),
            (good.replace("sha256:b", "sha256:z"), "line "),
            (good.replace("digest", "digset"), "digest"),
            (good.clone() + &good, "\"docker.io/a/a:1\" is there twice"),
            (String::new(), "it names no image"),
            (HEAD.to_owned() + "\nimage = []\n", "it names no image"),
            (good.replace("[[image]]", "[[later]]"), "it names no image"),
            (good.replace("/a:1", "/a"), "no full name"),
            (good.replace("docker.io/a/a:1", "nginx:1"), "no full name"),
            (good.replace("docker.io/a/a:1", "docker.io/nginx:1"), "write \"docker.io/library/nginx:1\""),
            (good.replace("docker.io/a/a:1", "docker.io/-x:1"), "\"docker.io/-x:1\" is no full name"),
            (good.replace("docker.io/a/a:1", "docker.io/library/../x:1"), "no full name"),
            (good.replace("docker.io/a/a:1", "docker.io/library/*:1"), "no full name"),
            (good.replace("docker.io/a/a:1", "docker.io/a/a:-1"), "no full name"),
        ] {
            let what = LockFile::parse(&text).unwrap_err();
            assert!(what.contains(told), "{what}");
        }
        let second = good.clone() + "\n[[image]]\nname = \"docker.io/b/b:1\"\ndigest = 7\n";
        let what = LockFile::parse(&second).unwrap_err();
        assert!(what.starts_with("line 11: "), "{what}\n{second}");
        let missing = LockFile::read(Path::new("/nowhere/build.lock")).unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/build.lock: cannot be read: "), "{missing}");
    }
}
