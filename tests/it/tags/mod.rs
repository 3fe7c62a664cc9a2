//! Rules of tags (`[[tags]]`) through the real binary: how long a tag is believed, what it is
//! frozen at, lock files, `lanyard lock`, warm tags.

mod frozen;
mod kept;
mod listed;
mod lock_command;
mod locked;
mod ttl;
mod warm;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;

use crate::{
    hub::Hub,
    lanyard::Lanyard,
    pull::config,
    wire::{Answer, get, manifest},
};

const REPO: &str = "library/busybox";
const ALWAYS_DUE: &str = "[cache]\ntag_ttl = \"0s\"\nnegative_ttl = \"0s\"\n";

/// A rule for all tags of the repository.
fn rule(keys: &str) -> String {
    format!("[[tags]]\nmatch = [\"docker.io/{REPO}\"]\n{keys}\n")
}

/// Runs a command on the folder of a lanyard.
fn command(lanyard: &Lanyard, words: &[&str]) -> Output {
    command_in(lanyard, Path::new("/"), words)
}

/// The same, with this working directory.
fn command_in(lanyard: &Lanyard, folder: &Path, words: &[&str]) -> Output {
    let data_dir = lanyard.data_dir();
    crate::cli::lanyard(folder, &[words, &["--data-dir", data_dir.to_str().unwrap()]].concat(), &[])
}

fn tag(lanyard: &Lanyard, tag: &str) -> Answer {
    get(lanyard.port(), &manifest(REPO, tag))
}

fn digest(answer: &Answer) -> &str {
    answer.header("docker-content-digest").unwrap_or_default()
}

/// How often the hub was asked for anything by a tag.
fn asked_by_tag(hub: &Hub) -> usize {
    hub.count(|request| request.path.contains("/manifests/") && !request.path.contains("sha256:"))
}

fn record_file(lanyard: &Lanyard, tag: &str) -> PathBuf {
    lanyard.data_dir().join("repos/docker.io/library+busybox/tags").join(tag)
}

fn record(lanyard: &Lanyard, tag: &str) -> Value {
    let text = fs::read_to_string(record_file(lanyard, tag)).unwrap();
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}

/// Makes another record of a tag, as if the clock had stood elsewhere. lanyard must not be running.
fn rewrite(lanyard: &Lanyard, tag: &str, change: impl FnOnce(&mut Value)) {
    let mut record = record(lanyard, tag);
    change(&mut record);
    let json = record.to_string();
    let text = format!("{json}\ncrc32 {:08x}\n", crc32fast::hash(json.as_bytes()));
    fs::write(record_file(lanyard, tag), text).unwrap();
}

/// Seconds since 1970 at the beginning of a day.
fn day(text: &str) -> u64 {
    let time = humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).unwrap();
    time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn mirror(hub: &Hub, more: &str) -> Lanyard {
    Lanyard::start(&config(hub, more))
}
