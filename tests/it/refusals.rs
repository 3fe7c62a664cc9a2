//! A start that fails says in one line what went wrong and what to do, and exits with a code that a
//! supervisor understands.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use crate::{
    hub::Hub,
    lanyard::Lanyard,
    pull::{config, mirror},
    wire::{blob, get, manifest},
};

const REPO: &str = "library/busybox";

/// A command in a mount namespace of its own, or none if this user may not make one. `$1` is the
/// folder.
fn in_namespace(script: &str, folder: &Path) -> Option<Command> {
    let mut command = Command::new("unshare");
    let may = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        crate::faults::left_out("unshare -m is not allowed here");
        return None;
    }
    command.args(["-m", "sh", "-c", script, "sh"]).arg(folder);
    command.env("LANYARD", env!("CARGO_BIN_EXE_lanyard"));
    Some(command)
}

fn serve(listen: &str, data: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lanyard"))
        .args(["serve", "--listen", listen, "--data-dir"])
        .arg(data)
        .env_clear()
        .output()
        .unwrap()
}

/// One line that holds all of `words`, on standard error only, and the code of a start that failed.
#[track_caller]
fn assert_one_line(output: &Output, words: &[&str]) {
    assert_refused(output, 1, words);
}

#[track_caller]
fn assert_refused(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("lanyard: ") && words.iter().all(|word| said.contains(word)), "{words:?} in {said}");
    assert!(output.stdout.is_empty(), "no banner before it runs");
    assert_eq!(output.status.code(), Some(code), "{said}");
}

#[test]
fn a_taken_port_is_named_and_costs_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let address = taken.local_addr().unwrap();
    let output = serve(&address.to_string(), &data);
    assert_one_line(&output, &[&address.port().to_string(), "taken", "--listen"]);
    assert!(!data.exists(), "nothing was begun");
    // Not an address of this machine (RFC 5737).
    assert_one_line(&serve("192.0.2.1:0", &data), &["192.0.2.1", "not an address of this machine", "--listen"]);
}

#[test]
fn a_file_in_the_way_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for data in [file.clone(), file.join("below")] {
        assert_one_line(&serve("127.0.0.1:0", &data), &[&*data.to_string_lossy(), "not a directory", "data_dir"]);
    }
    // One level deeper: a file in the place of a folder of the data folder.
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("blobs"), "").unwrap();
    assert_one_line(&serve("127.0.0.1:0", &data), &[&*data.to_string_lossy(), "data_dir"]);
}

/// FAULTS: "second exits code 2 with pid of first".
#[test]
fn a_second_process_is_told_who_is_the_first() {
    let hub = Hub::start();
    let lanyard = mirror(&hub);
    let output = serve("127.0.0.1:0", &lanyard.data_dir());
    assert_refused(&output, 2, &[&lanyard.pid().unwrap().to_string(), "in use", "stop that process", "data_dir"]);
    assert_eq!(get(lanyard.port(), "/v2/").status, 200, "the first goes on");
}

#[test]
fn a_folder_that_takes_nothing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let serve = "\"$LANYARD\" serve --listen 127.0.0.1:0 --data-dir \"$1\"";
    let read_only = format!("mount -t tmpfs -o ro none \"$1\" && {serve}");
    let full = format!("mount -t tmpfs -o size=4k none \"$1\" && head -c 4096 /dev/zero >\"$1/x\" && {serve}");
    for (script, words) in [
        (read_only.as_str(), &["read-only", "holds no data yet", "mount it writable", "data_dir"][..]),
        (full.as_str(), &["is full", "free some space"]),
    ] {
        let Some(mut command) = in_namespace(script, &data) else { return };
        assert_one_line(&command.output().unwrap(), words);
    }
}

/// Not as root: the folder belongs to another user.
#[test]
fn a_folder_of_somebody_else_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let own = rustix::process::getuid().is_root();
    let mut command = match own {
        // The right to overlook permissions is dropped.
        true => Command::new("setpriv"),
        false => Command::new("sh"),
    };
    fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o555)).unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let script = "exec \"$LANYARD\" serve --listen 127.0.0.1:0 --data-dir \"$1\"";
    if own {
        command.args(["--bounding-set=-all", "--inh-caps=-all", "sh"]);
    }
    let output = command.args(["-c", script, "sh"]).arg(&data).env("LANYARD", env!("CARGO_BIN_EXE_lanyard")).output();
    let Ok(output) = output else {
        crate::faults::left_out("setpriv does not run (Debian package util-linux)");
        return;
    };
    assert_one_line(&output, &["no permission to write", &*data.to_string_lossy(), "data_dir"]);
}

/// FAULTS: "read-only fs: starts, serves pulls".
#[test]
fn a_read_only_folder_with_data_is_served() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1000).publish();
    let mut lanyard = mirror(&hub);
    let paths = [manifest(REPO, "latest"), blob(REPO, image.layer(0)), blob(REPO, image.config())];
    for path in &paths {
        crate::wire::eventually("it is stored", || get(lanyard.port(), path).outcome() == "hit");
    }
    lanyard.stop();
    lanyard.reconfigure(&config(&hub, ""));
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && exec \"$LANYARD\" serve --config \"$1/../lanyard.toml\"";
    let Some(command) = in_namespace(script, &lanyard.data_dir()) else { return };
    lanyard.restart_as(command);
    for path in &paths {
        let answer = get(lanyard.port(), path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let other = hub.image(REPO, "other").layer(2000).publish();
    let answer = get(lanyard.port(), &blob(REPO, other.layer(0)));
    assert_eq!((answer.status, answer.outcome(), answer.body.len()), (200, "bypassed", 2000));
    // Its output comes through a pipe, which may be slower than the answers.
    crate::wire::eventually("it is said", || lanyard.logs().contains("read-only"));
    assert!(Lanyard::stop(&mut lanyard).success());
}
