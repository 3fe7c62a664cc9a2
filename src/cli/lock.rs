//! `lanyard lock`: a lock file of what clients get for tags, and its comparison with what they get
//! now.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, Metadata, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{MetadataExt as _, fchown},
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

use clap::Args;

use super::{
    config_args::FolderArgs,
    exit::{FAILED, USAGE, fail, fail_with, print},
    image_list,
    manage::asked,
};
use crate::{
    admin::Locked,
    config::{Config, LockFile, LockedImage},
    runtime::printable_word,
};

/// How many images one request asks for: all fit into the line of a request.
const AT_ONCE: usize = 16;

/// `lanyard lock`
#[derive(Args, Debug)]
pub(super) struct Lock {
    /// Images with their tags; without any, all tags of pulled images that are here
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// A file that names images: one a line, a compose file, Kubernetes objects, a Dockerfile;
    /// - is standard input
    #[arg(long, value_name = "LIST")]
    from: Vec<String>,
    /// Write the lock file here instead of printing it; - is standard output. A file is replaced as
    /// a whole, also behind a symbolic link
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Say which tags do not name any more what this lock file says; exits with 1 if there are any,
    /// or if a tag cannot be compared
    #[arg(long, value_name = "FILE", conflicts_with_all = ["images", "from", "output"])]
    check: Option<PathBuf>,
    #[command(flatten)]
    folder: FolderArgs,
}

impl Lock {
    pub(super) fn run(self) -> ExitCode {
        let Lock { mut images, from, output, check, folder } = self;
        let json = folder.json;
        let told = |error: String| fail_with(USAGE, &format!("lanyard: {error}\n"));
        for from in &from {
            match image_list::read(from, &|name| std::env::var(name).ok()) {
                Ok(listed) => images.extend(listed),
                Err(mistakes) => return fail(&mistakes),
            }
        }
        let before = match check.as_deref().map(LockFile::read).transpose() {
            Ok(before) => before,
            Err(error) => return told(error.to_string()),
        };
        let config = match folder.config() {
            Ok(config) => config,
            Err(told) => return told,
        };
        match before {
            Some(before) => compared(&config, &before, json),
            None => written(&config, &images, output.as_deref(), json),
        }
    }
}

/// What the images' tags name here; without images, all.
fn locked(config: &Config, images: &[String]) -> Result<Locked, ExitCode> {
    if images.is_empty() {
        return asked(config, "GET", "/api/v1/lock");
    }
    let mut all = Locked::default();
    for some in images.chunks(AT_ONCE) {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(some.iter().map(|image| ("image", image)))
            .finish();
        let Locked { images, unknown, refused } = asked(config, "GET", &format!("/api/v1/lock?{query}"))?;
        all.images.extend(images);
        all.unknown.extend(unknown);
        all.refused.extend(refused);
    }
    Ok(all)
}

fn written(config: &Config, images: &[String], output: Option<&Path>, json: bool) -> ExitCode {
    let locked = match locked(config, images) {
        Ok(locked) => locked,
        Err(told) => return told,
    };
    if !locked.unknown.is_empty() {
        let names = locked.unknown.join("\n  ");
        return fail_with(FAILED, &format!("lanyard: these are not here; pull them first:\n  {names}\n"));
    }
    if !locked.refused.is_empty() {
        let names = locked.refused.join("\n  ");
        let told = format!("lanyard: a rule of [[tags]] freezes these, and clients get none:\n  {names}\n");
        // Without names, what clients get is asked for.
        let failed = fail_with(FAILED, &told);
        if !images.is_empty() {
            return failed;
        }
    }
    if locked.images.is_empty() {
        return fail_with(FAILED, "lanyard: no tag of a pulled image is here, so there is nothing to lock\n");
    }
    let file = LockFile::of(locked.images);
    let text = if json { as_json(&file.images().collect::<Vec<_>>()) } else { file.text() };
    let Some(output) = output.filter(|path| *path != Path::new("-")) else { return print(&text) };
    match save(output, text.as_bytes()) {
        Ok(Saved::File) => print(&format!("{} tags are locked in {}.\n", file.images().count(), output.display())),
        Ok(Saved::Sent) => ExitCode::SUCCESS,
        Err(error) => fail_with(FAILED, &format!("lanyard: {}: cannot be written: {error}\n", output.display())),
    }
}

/// Where a text has gone.
#[derive(PartialEq, Eq, Debug)]
enum Saved {
    /// It is a file.
    File,
    /// A pipe or a device has it: perhaps this is standard output.
    Sent,
}

/// Writes the file that a path leads to. A reader sees the old file or the new one, never a part;
/// its permissions stay. A pipe or a device is written into.
fn save(path: &Path, bytes: &[u8]) -> io::Result<Saved> {
    let old = match fs::metadata(path) {
        Ok(old) if !old.is_file() => {
            OpenOptions::new().write(true).open(path)?.write_all(bytes)?;
            return Ok(Saved::Sent);
        }
        Ok(old) => Some(old),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let path = behind_links(path)?;
    let mut new = path.clone().into_os_string();
    new.push(format!(".{}.new", process::id()));
    let replaced = write_new(Path::new(&new), bytes, old.as_ref()).and_then(|()| fs::rename(&new, &path));
    if replaced.is_err() {
        // What there is to tell is why the first step failed.
        let _ = fs::remove_file(&new);
    }
    replaced.map(|()| Saved::File)
}

/// Writes a file that takes the place of `old`.
fn write_new(path: &Path, bytes: &[u8], old: Option<&Metadata>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    if let Some(old) = old {
        // Only root can give a file away. Else it is the user's own.
        let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
        file.set_permissions(old.permissions())?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

/// The path that symbolic links lead to, also if nothing is there yet.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            // InvalidInput: it is no link.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => return Ok(path),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("it has too many symbolic links"))
}

fn compared(config: &Config, before: &LockFile, json: bool) -> ExitCode {
    let names: Vec<_> = before.images().map(|image| image.name.clone()).collect();
    // A lock file names an image, or all tags would be asked for.
    let Locked { images, refused, .. } = match locked(config, &names) {
        Ok(now) => now,
        Err(told) => return told,
    };
    let now: BTreeMap<_, _> = images.into_iter().map(|image| (image.name.clone(), image)).collect();
    let (refused, unknown): (Vec<_>, Vec<_>) =
        names.iter().filter(|name| !now.contains_key(*name)).partition(|name| refused.contains(name));
    let pairs = before.images().filter_map(|image| Some((image, now.get(&image.name)?)));
    let moved: Vec<_> = pairs.filter(|(then, now)| then.digest != now.digest).collect();
    let answered = match json {
        true => {
            let moved: Vec<_> = moved
                .iter()
                .map(|(then, now)| serde_json::json!({ "name": now.name, "locked": then.digest, "now": now.digest }))
                .collect();
            print(&as_json(&serde_json::json!({ "moved": moved, "unknown": unknown, "refused": refused })))
        }
        false => print(&comparison(&moved, &unknown, &refused, names.len())),
    };
    let same = moved.is_empty() && unknown.is_empty() && refused.is_empty();
    if same { answered } else { ExitCode::from(FAILED) }
}

fn comparison(moved: &[(&LockedImage, &LockedImage)], unknown: &[&String], refused: &[&String], all: usize) -> String {
    let mut text = String::new();
    for (then, now) in moved {
        let since = now.seen.as_deref().map_or_else(String::new, |day| format!(", since {day}"));
        let _ = writeln!(text, "{} has moved\n  from  {}\n  to    {}{since}", now.name, then.digest, now.digest);
    }
    for name in unknown {
        let _ = writeln!(text, "{} is not here, so nothing is known of it", printable_word(name));
    }
    for name in refused {
        let _ = writeln!(text, "{name} is frozen by a rule of [[tags]], and clients get none");
    }
    let (moved, uncompared) = (moved.len(), unknown.len() + refused.len());
    let same = all - moved - uncompared;
    let _ = write!(text, "{same} of {all} tags name what the lock file says, {moved} have moved");
    text.push_str(&if uncompared > 0 { format!(", {uncompared} cannot be compared.\n") } else { ".\n".to_owned() });
    text
}

fn as_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    /// A link goes on leading to the file, which is replaced as a whole.
    #[test]
    fn the_file_behind_links_is_replaced_and_its_permissions_stay() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let saved = |name: &str, text: &str| save(&at(name), text.as_bytes()).unwrap();
        fs::create_dir(at("repo")).unwrap();
        assert_eq!(saved("repo/build.lock", "one"), Saved::File);
        fs::set_permissions(at("repo/build.lock"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("repo/build.lock", at("link")).unwrap();
        symlink(at("link"), at("second")).unwrap();
        let reader = fs::File::open(at("link")).unwrap();
        assert_eq!(saved("second", "the other"), Saved::File);
        assert_eq!(io::read_to_string(reader).unwrap(), "one", "a reader sees no part of the new one");
        assert_eq!(fs::read_to_string(at("repo/build.lock")).unwrap(), "the other");
        assert_eq!(fs::metadata(at("repo/build.lock")).unwrap().permissions().mode() & 0o7777, 0o640);
        // Nothing is there yet.
        symlink("../repo/later.lock", at("repo/early")).unwrap();
        assert_eq!(saved("repo/early", "new"), Saved::File);
        assert_eq!(fs::read_to_string(at("repo/later.lock")).unwrap(), "new");
        assert!(["link", "second", "repo/early"].iter().all(|link| at(link).is_symlink()));
        symlink("round", at("round")).unwrap();
        for wrong in ["round", "repo", "nowhere/build.lock"] {
            assert!(save(&at(wrong), b"x").is_err(), "{wrong}");
        }
        let mut left: Vec<_> = fs::read_dir(at("repo")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["build.lock", "early", "later.lock"]);
    }

    #[test]
    fn what_is_no_file_is_written_into() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        mkfifoat(CWD, &fifo, Mode::RWXU).unwrap();
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || fs::read_to_string(fifo).unwrap()
        });
        assert_eq!(save(&fifo, b"text").unwrap(), Saved::Sent);
        assert_eq!(reader.join().unwrap(), "text");
        assert!(!fifo.metadata().unwrap().is_file());
        assert_eq!(save(Path::new("/dev/null"), b"text").unwrap(), Saved::Sent);
    }
}
