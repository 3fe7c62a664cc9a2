//! The command line, with the real binary: what it prints to which output, and its exit codes.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// The binary with only these variables, in a folder of its own.
pub(crate) fn lanyard(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lanyard"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const BAD: &str = r#"mode = "fast"
[cache]
tag-ttl = "60s"
max_size = "lots"
[tls]
cert = "x"
[[upstream]]
name = "ghcr.io"
username = "me"
password_file = "password"
proxy = "ftp://me:canary-proxy@proxy"
password = "canary-key"
"#;

#[test]
fn every_problem_is_told_at_once_with_its_source_and_64() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f.toml"), BAD).unwrap();
    fs::write(folder.path().join("password"), "canary-password\n").unwrap();
    let variables = [("LANYARD__LISTEN", "here"), ("LANYARD__LOG__COLOUR", "canary-variable")];
    let ways = [
        &["config", "check", "--config", "f.toml", "--data-dir", ""][..],
        &["config", "show", "--config", "f.toml", "--data-dir", ""],
        &["serve", "--config", "f.toml", "--data-dir", ""],
        &["--config", "f.toml", "--data-dir", ""],
    ];
    for arguments in ways {
        let output = lanyard(folder.path(), arguments, &variables);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{told}");
        assert_eq!(stdout(&output), "");
        let begins = [
            "f.toml:1: mode: ",
            "f.toml:3: cache.tag-ttl: ",
            "f.toml:4: cache.max_size: ",
            "f.toml:6: tls.cert: needs tls.key beside it",
            "f.toml:6: tls.cert: the file cannot be read",
            "f.toml:8: upstream[0].allow: ",
            "f.toml:11: upstream[0].proxy: ",
            "f.toml:12: upstream[0].password: ",
            "LANYARD__LISTEN: listen: ",
            "LANYARD__LOG__COLOUR: log.colour: ",
            "--data-dir: data_dir: ",
            "lanyard: 11 problems in the configuration",
        ];
        for (line, begin) in told.lines().zip(begins) {
            assert!(line.starts_with(begin), "{begin}\n{told}");
        }
        assert_eq!(told.lines().count(), begins.len(), "{told}");
        assert!(!told.contains("canary"), "S18: {told}");
    }
}

#[test]
fn s18_show_has_values_and_sources_and_no_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[[upstream]]\nname = \"ghcr.io\"\nusername = \"me\"\npassword_file = \"password\"\nallow = [\"me/**\"]\nproxy = \"http://me:canary-proxy@proxy:3128\"\n";
    fs::write(folder.path().join("f.toml"), text).unwrap();
    fs::write(folder.path().join("password"), "canary-password\n").unwrap();
    let variables = [("LANYARD__CACHE__TAG_TTL", "5m"), ("SECRET", "canary-variable")];
    let output = lanyard(folder.path(), &["config", "show", "--config", "f.toml", "--mode", "offline"], &variables);
    let shown = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!shown.contains("canary") && !stderr(&output).contains("canary"), "{shown}");
    for (value, source) in [
        ("listen = \"0.0.0.0:5000\"", "# default"),
        ("mode = \"offline\"", "# --mode"),
        ("tag_ttl = \"5m\"", "# LANYARD__CACHE__TAG_TTL"),
        ("password_file = \"password\"", "# f.toml:4"),
        ("proxy = \"http://me:REDACTED@proxy:3128/\"", "# f.toml:6"),
    ] {
        assert!(shown.lines().any(|line| line.starts_with(value) && line.ends_with(source)), "{value}\n{shown}");
    }
    let check = lanyard(folder.path(), &["config", "check", "--config", "f.toml"], &[]);
    assert_eq!((check.status.code(), stdout(&check).as_str()), (Some(0), "The configuration is good.\n"));
}

#[test]
fn files_that_cannot_be_read_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.toml"), "password = canary\nx = \"canary").unwrap();
    fs::write(folder.path().join("bytes.toml"), b"\xff\xfe").unwrap();
    for (file, begin) in [
        ("none.toml", "none.toml: cannot be read: "),
        ("bad.toml", "bad.toml:1: is not TOML: "),
        ("bytes.toml", "bytes.toml: is not UTF-8"),
    ] {
        let output = lanyard(folder.path(), &["config", "check", "--config", file], &[]);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(64));
        assert!(told.starts_with(begin) && !told.contains("canary"), "{told}");
    }
}

#[test]
fn without_config_no_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("lanyard.toml"), "nonsense").unwrap();
    let output = lanyard(folder.path(), &["config", "check"], &[("LANYARD_PORT", "tcp://10.0.0.1:5000")]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn wrong_arguments_are_64_and_help_is_0() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--no-such-flag"][..], &["setup"], &["setup", "nobody"], &["config"], &["frobnicate"]] {
        let output = lanyard(folder.path(), arguments, &[]);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
    for arguments in [&["--help"][..], &["--version"], &["setup", "--help"]] {
        let output = lanyard(folder.path(), arguments, &[]);
        assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn setup_prints_a_clients_configuration() {
    let folder = tempfile::tempdir().unwrap();
    for (client, text) in [
        ("docker", "\"registry-mirrors\": [\"http://10.0.0.5:5000\"]"),
        ("containerd", "[host.\"http://10.0.0.5:5000\"]"),
        ("podman", "location = \"10.0.0.5:5000/ghcr.io\""),
        ("buildkit", "mirrors = [\"10.0.0.5:5000\"]"),
        ("kubernetes", "kind: DaemonSet"),
    ] {
        let output = lanyard(folder.path(), &["setup", client, "--server", "http://10.0.0.5:5000"], &[]);
        assert!(output.status.success() && stdout(&output).contains(text), "{client}");
        let output = lanyard(folder.path(), &["setup", client], &[]);
        assert!(stdout(&output).contains("localhost:5000"), "{client}");
    }
    let docker = lanyard(folder.path(), &["setup", "docker"], &[]);
    assert!(
        serde_json::from_slice::<serde_json::Value>(&docker.stdout).is_ok(),
        "standard output is daemon.json itself"
    );
    for bad in ["10.0.0.5:5000", "http://me:canary@host", "http://host/path", "ftp://host", ""] {
        let output = lanyard(folder.path(), &["setup", "docker", "--server", bad], &[]);
        let told = stderr(&output);
        assert_eq!((output.status.code(), told.lines().count()), (Some(64), 1), "{told}");
        assert!(told.starts_with("lanyard: --server: must ") && !told.contains("canary"), "{told}");
    }
}
