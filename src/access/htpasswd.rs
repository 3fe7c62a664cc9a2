//! The format of the file of users: `name:hash` lines as `htpasswd -B` writes them, empty lines and
//! `#` comments. Lines may end in CRLF, and a byte order mark at the start is skipped: editors
//! write both.
//!
//! Read by `users.rs` while lanyard runs, and by `edit.rs` for `lanyard user`.

use std::{collections::HashMap, io, path::Path};

use super::bcrypt;
use crate::runtime::read_file;

/// The line that marks a list without users as intended. An empty file is no such mark: an editor
/// may be about to write it.
pub(super) const NOBODY: &str = "# nobody: the last user was removed";
/// UTF-8's byte order mark.
pub(super) const MARK: &str = "\u{feff}";

/// The users and their hashes.
#[derive(Default, Debug)]
pub(super) struct List {
    hashes: HashMap<String, String>,
    dummy: Option<String>,
    says_nobody: bool,
}

/// The file is not a list of users. The message never quotes the file (S18).
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// One line is wrong.
    #[error("line {line}: {what}")]
    Line {
        /// The line's number, from 1.
        line: usize,
        /// The problem, and what to write instead.
        what: &'static str,
    },
}

/// Whether the file at `path` is a list of users. A missing file counts as an empty one.
///
/// # Errors
/// The file cannot be read, or has a line that is wrong.
pub fn check(path: &Path) -> Result<(), ListError> {
    List::read(path).map(|_| ())
}

impl List {
    /// Reads the file at `path`. A missing file counts as an empty one.
    pub(super) fn read(path: &Path) -> Result<List, ListError> {
        match read_file(path) {
            Ok(bytes) => List::parse(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(List::default()),
            Err(error) => Err(error.into()),
        }
    }

    fn parse(bytes: &[u8]) -> Result<List, ListError> {
        let mut list = List::default();
        let mut dearest = 0;
        let bytes = bytes.strip_prefix(MARK.as_bytes()).unwrap_or(bytes);
        for (index, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let wrong = |what| ListError::Line { line: index + 1, what };
            let text = std::str::from_utf8(text).map_err(|_| wrong("is not UTF-8 text"))?;
            let Some((user, hash)) = entry(text).map_err(wrong)? else {
                list.says_nobody |= text.trim_end() == NOBODY;
                continue;
            };
            let cost = bcrypt::cost(hash)
                .ok_or_else(|| wrong("is not a bcrypt hash; make one with `lanyard user add` or `htpasswd -B`"))?;
            if cost > bcrypt::MOST_COST {
                return Err(wrong("its bcrypt cost is above 15, so that each sign-in would take seconds"));
            }
            dearest = dearest.max(cost);
            if list.hashes.insert(user.to_owned(), hash.to_owned()).is_some() {
                return Err(wrong("this user is in the list already"));
            }
        }
        list.dummy = (dearest > 0).then(|| bcrypt::dummy(dearest));
        Ok(list)
    }

    /// The user's hash.
    pub(super) fn hash(&self, user: &str) -> Option<&str> {
        self.hashes.get(user).map(String::as_str)
    }

    /// The hash that an unknown user's password is compared with, so that it takes as long as for a
    /// known one (S17). `None`: there are no users.
    pub(super) fn dummy(&self) -> Option<&str> {
        self.dummy.as_deref()
    }

    pub(super) fn has(&self, user: &str) -> bool {
        self.hashes.contains_key(user)
    }

    /// Whether the file has the line that marks a list without users as intended.
    pub(super) fn says_nobody(&self) -> bool {
        self.says_nobody
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }
}

/// The user and the hash of a line. `None`: an empty line or a comment.
pub(super) fn entry(line: &str) -> Result<Option<(&str, &str)>, &'static str> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.trim().is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (user, hash) = line.split_once(':').ok_or("is not name:hash")?;
    name(user)?;
    Ok(Some((user, hash.trim_end())))
}

/// Whether a user can have this name. RFC 7617 ends a name at the first colon.
pub(super) fn name(user: &str) -> Result<(), &'static str> {
    let bad = |c: char| c == ':' || c.is_control();
    if user.is_empty() || user.len() > 128 || user.starts_with('#') || user.trim() != user || user.contains(bad) {
        return Err("a user's name has 1 to 128 characters, no colon, and begins neither with # nor with a space");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_what_htpasswd_writes() {
        let (a, b) = (bcrypt::dummy(5), bcrypt::dummy(4).replace("$2b$", "$2y$"));
        let list = List::parse(format!("# ours\n\nann:{a}\r\nbob smith:{b}\n  \n").as_bytes()).unwrap();
        assert_eq!((list.len(), list.hash("ann"), list.hash("bob smith")), (2, Some(a.as_str()), Some(b.as_str())));
        assert_eq!(list.dummy(), Some(a.as_str()), "an unknown user takes as long as the dearest known one");
        assert!(List::parse(b"").unwrap().dummy().is_none());
    }

    #[test]
    fn what_editors_add_is_skipped() {
        let hash = bcrypt::dummy(4);
        for text in [
            format!("{MARK}ann:{hash}\n"),
            format!("{MARK}ann:{hash}\r\n"),
            format!("{MARK}# ours\r\nann:{hash}"),
            format!("{MARK}\nann:{hash}\n\n"),
            format!("ann:{hash} \r\n\r\n"),
        ] {
            assert_eq!(List::parse(text.as_bytes()).unwrap().hash("ann"), Some(hash.as_str()), "{text:?}");
        }
        let twice = List::parse(format!("{MARK}{MARK}ann:{hash}\n").as_bytes()).unwrap();
        assert!(!twice.has("ann"), "the second is a character of the name");
        assert!(List::parse(format!("{NOBODY}\r\n").as_bytes()).unwrap().says_nobody());
        for text in ["", "\n", "# ours\n", MARK] {
            let list = List::parse(text.as_bytes()).unwrap();
            assert!(list.is_empty() && !list.says_nobody(), "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_never_quoted() {
        let good = bcrypt::dummy(4);
        for (text, line) in [
            ("canary".to_owned(), 1),
            (format!("a:{good}\nb:canary\n"), 2),
            (format!("a:{good}\na:{good}"), 2),
            (format!(":{good}"), 1),
            (format!("a:{}", bcrypt::dummy(16)), 1),
            (format!("a:{good}\n\n b:{good}"), 3),
        ] {
            let told = List::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(told.starts_with(&format!("line {line}: ")) && !told.contains("canary"), "{told}");
        }
        assert!(List::parse(b"a:\xff").is_err());
    }
}
