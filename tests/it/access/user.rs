//! `lanyard user`, with the real binary.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use super::{House, basic};
use crate::wire::eventually;

fn user(folder: &Path, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lanyard"))
        .arg("user")
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The command may have ended without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn users_are_added_listed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("lanyard.toml"), "[auth]\nhtpasswd = \"users\"\n").unwrap();
    let config = ["--config", "lanyard.toml"];
    let with = |words: &[&str], input: &str| user(here, &[words, &config].concat(), input);
    assert_eq!(with(&["add", "ann"], "canary-one\n"), (0, "Added user ann.\n".to_owned(), String::new()));
    let first = fs::read_to_string(here.join("users")).unwrap();
    fs::write(here.join("users"), format!("# the team\n{first}")).unwrap();
    assert_eq!(with(&["add", "bob"], "two\r\n").0, 0);
    assert_eq!(with(&["add", "ann"], "three").1, "Changed the password of user ann.\n");
    let text = fs::read_to_string(here.join("users")).unwrap();
    assert!(text.starts_with("# the team\nann:$2y$") && !text.contains(&first) && !text.contains("canary"), "{text}");
    assert!(bcrypt::verify("two", text.lines().last().unwrap().split_once(':').unwrap().1).unwrap());
    assert_eq!(with(&["ls"], "").1, "ann\nbob\n");
    assert_eq!(user(here, &["rm", "ann", "--file", "users"], ""), (0, "Removed user ann.\n".to_owned(), String::new()));
    assert_eq!(with(&["ls"], "").1, "bob\n");
}

#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("bad.toml"), "[auth]\nhtpasswd = 5\n").unwrap();
    fs::write(here.join("broken"), "ann:canary\n").unwrap();
    for (arguments, input, told) in [
        (&["add", "ann"][..], "x\n", "lanyard: which file?"),
        (&["add", "ann", "--config", "bad.toml"], "x\n", "bad.toml:2: auth.htpasswd: must be text"),
        (&["add", "ann", "--file", "users"], "", "lanyard: users: a password is one line, and not empty"),
        (&["add", "ann", "--file", "users"], &"x".repeat(80), "lanyard: users: a password has at most 72 bytes"),
        (&["add", "a:b", "--file", "users"], "x\n", "lanyard: users: a user's name has"),
        (&["add", "ann", "--file", "none/users"], "x\n", "lanyard: none/users: cannot be written"),
        (&["rm", "ann", "--file", "users"], "", "lanyard: users: there is no user \"ann\""),
        (&["ls", "--file", "broken"], "", "lanyard: broken: line 1: is not a bcrypt hash"),
    ] {
        let (code, out, err) = user(here, arguments, input);
        assert!(
            code == 64 && out.is_empty() && err.starts_with(told) && !err.contains("canary"),
            "{arguments:?} {err}"
        );
    }
    assert!(!here.join("users").exists());
    for arguments in [&["add", "ann", "canary-argument", "--file", "users"][..], &["add", "ann", "--password", "x"]] {
        assert_eq!(user(here, arguments, "x\n").0, 64, "a password is no argument");
    }
}

#[test]
fn a_running_lanyard_knows_within_seconds() {
    let house = House::start("", "");
    let file = house.users.path().to_str().unwrap();
    let folder = house.users.path().parent().unwrap();
    assert_eq!(user(folder, &["add", "carl", "--file", file], "c\n").0, 0);
    let carl = basic(("carl", "c"));
    // Asked without a password, since too many wrong passwords would be refused.
    let changes = |count: usize| {
        eventually("the change is noticed", || {
            house.ask("GET", "/v2/", &[]);
            house.lanyard.logs().matches("the users have changed").count() == count
        });
    };
    changes(1);
    assert_eq!(house.ask("GET", "/v2/", &[("Authorization", &carl)]).status, 200);
    assert_eq!(user(folder, &["rm", "carl", "--file", file], "").0, 0);
    changes(2);
    assert_eq!(house.ask("GET", "/v2/", &[("Authorization", &carl)]).status, 401);
}

/// `config check` and `serve` read the file of users.
#[test]
fn a_broken_list_is_a_problem_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f.toml"), "mirror_listen = \"127.0.0.1:1\"\n[auth]\nhtpasswd = \"users\"\n").unwrap();
    let check = |way: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_lanyard"))
            .args(way)
            .args(["--config", "f.toml"])
            .current_dir(folder.path())
            .env_clear()
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check(&["config", "check"]), (Some(0), String::new()), "it need not be there yet");
    fs::write(folder.path().join("users"), "# ours\nann:{SHA}canary\n").unwrap();
    for way in [&["config", "check"][..], &["serve"]] {
        let (code, told) = check(way);
        assert_eq!(code, Some(64));
        assert!(told.starts_with("f.toml:3: auth.htpasswd: the file line 2: is not a bcrypt hash"), "{told}");
        assert!(!told.contains("canary"));
    }
}
