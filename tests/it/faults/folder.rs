//! One process per data folder, whichever path leads to it.

use std::{
    path::Path,
    process::{Command, Output},
};

use super::{left_out, rounds};
use crate::{hub::Hub, lanyard::Lanyard, pull::mirror, wire::get};

fn second(folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lanyard"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder)
        .output()
        .unwrap()
}

fn refused(output: &Output, lanyard: &Lanyard) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(&lanyard.pid().unwrap().to_string()), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
}

#[test]
fn the_second_process_is_always_refused() {
    let hub = Hub::start();
    let mut lanyard = mirror(&hub);
    let link = tempfile::tempdir().unwrap();
    let link = link.path().join("link");
    std::os::unix::fs::symlink(lanyard.data_dir(), &link).unwrap();
    for round in 0..rounds(20, 100) {
        refused(&second(&lanyard.data_dir()), &lanyard);
        if round % 4 == 0 {
            refused(&second(&link), &lanyard);
        }
        if round % 5 == 4 {
            // The error names the pid of the process that runs now, also after a kill.
            lanyard.kill9();
            lanyard.restart();
        }
    }
    assert_eq!(get(lanyard.port(), "/v2/").status, 200, "the first goes on");
}

#[test]
fn the_second_process_is_refused_through_a_bind_mount() {
    if !rustix::process::geteuid().is_root() {
        return left_out("a bind mount needs root");
    }
    let hub = Hub::start();
    let lanyard = mirror(&hub);
    let other = tempfile::tempdir().unwrap();
    let script = "mount --bind \"$1\" \"$2\" || exit 99; exec \"$3\" serve --listen 127.0.0.1:0 --data-dir \"$2\"";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(lanyard.data_dir())
        .arg(other.path())
        .arg(env!("CARGO_BIN_EXE_lanyard"))
        .output()
        .unwrap();
    if output.status.code() == Some(99) {
        return left_out("this machine refuses a bind mount in a mount namespace");
    }
    refused(&output, &lanyard);
}

/// Eight processes at once: exactly one gets the folder.
#[test]
fn of_many_at_once_one_gets_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut all: Vec<_> = (0..8)
        .map(|_| {
            Command::new(env!("CARGO_BIN_EXE_lanyard"))
                .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
                .arg(&data)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    crate::wire::eventually("all but one have ended", || {
        all.retain_mut(|child| child.try_wait().unwrap().is_none());
        all.len() <= 1
    });
    let mut winner = all.pop().expect("one of them has the folder");
    let _ = winner.kill();
    let _ = winner.wait();
}
