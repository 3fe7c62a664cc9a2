//! Opening a folder: what is refused, and with which words.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

fn refusal(dir: &Path) -> OpenError {
    let error = Files::open(dir, LIMITS).unwrap_err();
    assert!(!error.to_string().contains('\n'), "one line: {error}");
    error
}

#[test]
fn a_second_process_is_told_who_holds_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let error = refusal(dir.path());
    assert!(matches!(error, OpenError::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("process {}, started 20", std::process::id())), "{text}");
    assert!(text.contains("stop that process"), "{text}");
    // A part that is still written keeps the folder, too.
    let part = first.downloads.open(digest(b"x"), None).unwrap();
    drop(first);
    assert!(matches!(refusal(dir.path()), OpenError::Locked { .. }));
    drop(part);
    open(dir.path());
}

#[test]
fn what_is_no_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = refusal(&path);
        assert!(matches!(error, OpenError::NotADirectory(_)), "{error:?}");
        assert!(error.to_string().contains("is not a directory"), "{error}");
    }
}

#[test]
fn a_newer_format_is_refused_and_an_unreadable_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let format = dir.path().join("format");
    assert_eq!(fs::read_to_string(&format).unwrap(), "lanyard 1\n");
    fs::write(&format, "lanyard 2\n").unwrap();
    assert!(matches!(refusal(dir.path()), OpenError::Newer { .. }));
    fs::write(&format, b"\xff\0").unwrap();
    open(dir.path());
}

#[test]
fn files_are_for_their_owner_and_group() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a/b/data");
    let storage = open(&root);
    storage.blobs.put(&digest(b"x"), b"x").unwrap();
    storage.catalog.put_tag(&repository("con/x"), &tag_record("T", b"x")).unwrap();
    let hex = digest(b"x").hex();
    for (path, mode) in [
        (root.clone(), 0o750),
        (root.join("repos/docker.io/con+x/tags/t+1"), 0o640),
        (root.join("repos/docker.io/con+x/tags"), 0o750),
        (root.join(format!("blobs/sha256/{}/{hex}", &hex[..2])), 0o640),
    ] {
        // The umask may take more away, never give.
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !mode, 0, "{}", path.display());
    }
}

#[test]
fn temporary_files_of_a_dead_process_go_away() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    fs::write(dir.path().join("tmp/t7"), b"half").unwrap();
    let _storage = open(dir.path());
    assert!(!dir.path().join("tmp/t7").exists());
}

#[test]
fn a_forbidden_folder_is_said_to_be_so() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let mine = fs::write(dir.path().join("probe"), b"").is_err();
    // The superuser may write everywhere, so it gives up that right.
    let before: &[&str] = if mine { &[] } else { &["setpriv", "--bounding-set=-all", "--inh-caps=-all"] };
    let output = child("storage::tests::opening::child_without_permission", dir.path(), before).output();
    match output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()) {
        Ok(text) if text.contains("running") => assert!(text.contains("1 passed"), "{text}"),
        other => left_out(&format!("no child without permissions can be had: {other:?}")),
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[ignore = "run by the test above, as a user who may not write"]
fn child_without_permission() {
    for path in [child_dir(), child_dir().join("below")] {
        let error = refusal(&path);
        assert!(matches!(error, OpenError::Permission(_)), "{error}");
        assert!(error.to_string().contains("no permission to write"), "{error}");
    }
}
