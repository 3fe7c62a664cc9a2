//! Changes to the file of users, for `lanyard user`.
//!
//! Comments, order and the other users stay as they are. The file is replaced in one step, so that
//! a running lanyard never reads half of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
};

use super::{
    bcrypt,
    htpasswd::{self, List, ListError, MARK, NOBODY},
};

/// The file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file is not a list of users.
    #[error(transparent)]
    List(#[from] ListError),
    /// The file or its folder cannot be written.
    #[error("cannot be written: {0}")]
    Write(io::Error),
    /// The name or the password is not valid. The text says what is.
    #[error("{0}")]
    Refused(&'static str),
}

/// Adds a user, or gives an existing one another password. Returns whether the user existed. Takes
/// a tenth of a second.
///
/// # Errors
/// The name or the password is not valid, or the file is not a list of users or cannot be written.
pub fn set(path: &Path, user: &str, password: &str) -> Result<bool, EditError> {
    htpasswd::name(user).map_err(EditError::Refused)?;
    if password.is_empty() || password.contains(char::is_control) {
        return Err(EditError::Refused("a password is one line, and not empty"));
    }
    if password.len() > bcrypt::LONGEST {
        return Err(EditError::Refused(
            "a password has at most 72 bytes: bcrypt would not read the rest; choose a shorter one",
        ));
    }
    let hash = bcrypt::hash(password).ok_or(EditError::Refused("the machine has no random bytes"))?;
    let entry = format!("{user}:{hash}");
    let mut lines = lines(path)?;
    lines.retain(|line| line != NOBODY);
    let place = lines.iter().position(|line| is_of(line, user));
    match place {
        Some(index) => lines[index] = entry,
        None => lines.push(entry),
    }
    write(path, &lines)?;
    Ok(place.is_some())
}

/// Removes a user. Returns whether the user existed. If no other user is left, the file says so: a
/// running lanyard takes an empty list for an edit that is not finished.
///
/// # Errors
/// The file is not a list of users or cannot be written.
pub fn remove(path: &Path, user: &str) -> Result<bool, EditError> {
    let mut lines = lines(path)?;
    let before = lines.len();
    lines.retain(|line| !is_of(line, user));
    if lines.len() == before {
        return Ok(false);
    }
    if !lines.iter().any(|line| matches!(htpasswd::entry(line), Ok(Some(_)))) {
        lines.push(NOBODY.to_owned());
    }
    write(path, &lines)?;
    Ok(true)
}

/// The users' names in the order of the file.
///
/// # Errors
/// The file is not a list of users.
pub fn names(path: &Path) -> Result<Vec<String>, EditError> {
    let user = |line: &String| htpasswd::entry(line).ok().flatten().map(|(user, _)| user.to_owned());
    Ok(lines(path)?.iter().filter_map(user).collect())
}

/// The lines of a valid list; none for a missing file.
fn lines(path: &Path) -> Result<Vec<String>, EditError> {
    List::read(path)?;
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.strip_prefix(MARK).unwrap_or(&text).lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(ListError::Io(error).into()),
    }
}

fn is_of(line: &str, user: &str) -> bool {
    matches!(htpasswd::entry(line), Ok(Some((name, _))) if name == user)
}

fn write(path: &Path, lines: &[String]) -> Result<(), EditError> {
    // A symbolic link stays one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut text = lines.join("\n");
    text.push('\n');
    replace(&path, text.as_bytes()).map_err(EditError::Write)
}

/// Writes a new file and renames it to `path`. It gets the owner and the mode of the old file. If
/// there is no old file, it gets the owner of the folder, and mode 640: the user that lanyard runs
/// as must be able to read a file that root writes.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let old = fs::metadata(path).ok();
    let owner = old.clone().map_or_else(|| fs::metadata(folder), Ok)?;
    let mode = old.map_or(0o640, |old| old.mode() & 0o777);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary: PathBuf = folder.join(name);
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    // Only root can give files away. Any other user owns the new file already.
    let _ = chown(&temporary, Some(owner.uid()), Some(owner.gid()));
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn edits_keep_comments_order_mode_and_other_users() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        assert!(names(&path).unwrap().is_empty());
        assert!(!set(&path, "ann", "one").unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let ann = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("# ours\n\n{ann}# the end")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(!set(&path, "bob", "two").unwrap());
        assert_eq!(names(&path).unwrap(), ["ann", "bob"]);
        assert!(set(&path, "ann", "three").unwrap());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# ours\n\nann:$2y$11$") && text.contains("\n# the end\nbob:$2y$"), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let list = List::read(&path).unwrap();
        assert!(bcrypt::matches("three", list.hash("ann").unwrap()));
        assert!(remove(&path, "ann").unwrap() && !remove(&path, "ann").unwrap());
        assert_eq!(names(&path).unwrap(), ["bob"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn invalid_names_and_passwords_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        for (user, password) in [
            ("", "x"),
            ("a:b", "x"),
            ("#a", "x"),
            ("a\nb", "x"),
            ("a", ""),
            ("a", "b\nc"),
            ("a", &*"x".repeat(73)),
            ("a", &*"ä".repeat(37)),
        ] {
            assert!(matches!(set(&path, user, password), Err(EditError::Refused(_))), "{user:?} {password:?}");
        }
        assert!(!path.exists());
        fs::write(&path, "ann:plain\n").unwrap();
        assert!(
            matches!(set(&path, "bob", "x"), Err(EditError::List(_))),
            "a list with a wrong line is not overwritten"
        );
    }

    #[test]
    fn the_last_user_is_removed_for_good_and_another_can_follow() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        set(&path, "ann", "one").unwrap();
        let first = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{MARK}{first}")).unwrap();
        assert!(set(&path, "ann", "two").unwrap(), "a byte order mark is not part of the name");
        assert!(remove(&path, "ann").unwrap());
        assert!(List::read(&path).unwrap().says_nobody());
        set(&path, "bob", "three").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("bob:") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        set(&real, "ann", "one").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        set(&link, "bob", "two").unwrap();
        assert!(link.is_symlink());
        assert_eq!(names(&real).unwrap(), ["ann", "bob"]);
    }
}
