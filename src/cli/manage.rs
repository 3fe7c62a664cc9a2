//! `lanyard gc` and `lanyard status`: what a running lanyard is asked over its socket.

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use clap::Args;
use serde::de::DeserializeOwned;

use super::{
    FAILED, Folder, SUSPENDED, UNAVAILABLE, fail_with, print,
    socket::{self, SocketError},
};
use crate::{app::Status, upkeep::Collection};

/// `lanyard gc`
#[derive(Args, Debug)]
pub(super) struct Gc {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    folder: Folder,
}

/// `lanyard status`
#[derive(Args, Debug)]
pub(super) struct StatusOf {
    #[command(flatten)]
    folder: Folder,
}

impl Gc {
    pub(super) fn run(self) -> ExitCode {
        let target = if self.dry_run { "/api/v1/gc?dry_run=true" } else { "/api/v1/gc" };
        ask(self.folder, "POST", target, |collection| collected(collection, self.dry_run))
    }
}

impl StatusOf {
    pub(super) fn run(self) -> ExitCode {
        ask(self.folder, "GET", "/api/v1/status", |status| status_text(status, now()))
    }
}

/// Asks the lanyard on this folder and prints its answer: as it came with `--json`, else as `text` has it.
fn ask<T: DeserializeOwned>(folder: Folder, method: &str, target: &str, text: impl FnOnce(&T) -> String) -> ExitCode {
    let json = folder.json;
    let config = match folder.config() {
        Ok(config) => config,
        Err(told) => return told,
    };
    let (status, body) = match socket::ask(&config.data_dir, method, target) {
        Ok(answer) => answer,
        Err(error @ (SocketError::NotRunning(_) | SocketError::TooLong(_))) => {
            return fail_with(UNAVAILABLE, &format!("lanyard: {error}\n"));
        }
        Err(error @ (SocketError::Denied(_) | SocketError::Broken { .. })) => {
            return fail_with(FAILED, &format!("lanyard: {error}\n"));
        }
    };
    if status != 200 {
        let code = if status == 503 { SUSPENDED } else { FAILED };
        return fail_with(code, &format!("lanyard: {}\n", said(status, &body)));
    }
    match serde_json::from_slice(&body) {
        Ok(_) if json => print(&(String::from_utf8_lossy(&body).into_owned() + "\n")),
        Ok(answer) => print(&text(&answer)),
        Err(error) => fail_with(FAILED, &format!("lanyard: the answer is of another version: {error}\n")),
    }
}

/// The sentence of an error in the registry's form.
fn said(status: u16, body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let message = body.pointer("/errors/0/message").and_then(serde_json::Value::as_str);
    message.map_or_else(|| format!("the answer was {status}"), str::to_owned)
}

fn collected(collection: &Collection, dry_run: bool) -> String {
    let Collection { links, blobs, bytes, uploads, waiting, skipped } = *collection;
    let mut text = match (collection.is_empty(), dry_run) {
        (true, _) => "Nothing to collect.\n".to_owned(),
        (false, true) => "Would be removed:\n".to_owned(),
        (false, false) => "Removed:\n".to_owned(),
    };
    for (number, what) in [
        (links, "links of repositories to blobs that none of their manifests needs".to_owned()),
        (blobs, format!("blobs that no repository holds, {}", size(bytes))),
        (uploads, "abandoned uploads".to_owned()),
    ] {
        if number > 0 {
            let _ = writeln!(text, "  {number} {what}");
        }
    }
    if waiting > 0 {
        let _ =
            writeln!(text, "{waiting} more are not needed either, and stay until the grace of their last use is over.");
    }
    if skipped > 0 {
        let _ =
            writeln!(text, "{skipped} repositories were left alone; the log says why. `lanyard check` looks into it.");
    }
    text
}

fn status_text(status: &Status, now: u64) -> String {
    let Status { version, pid, started, listening, data_dir, ready, kept, fills, upstreams } = status;
    let mut text = String::new();
    let up = humantime::format_duration(Duration::from_secs(now.saturating_sub(*started)));
    let draining = if *ready { "" } else { ", stopping" };
    let _ = writeln!(text, "lanyard {version}, process {pid}, up {up}{draining}");
    let _ = writeln!(text, "listening on  http://{listening}");
    let _ = writeln!(text, "data in       {}", data_dir.display());
    let least = if kept.counted { "" } else { "at least " };
    let _ = writeln!(text, "kept          {least}{} blobs, {}", kept.blobs, size(kept.bytes));
    if !kept.writable {
        let _ = writeln!(text, "              nothing can be stored: the disk is read-only");
    }
    if !kept.index {
        let _ = writeln!(text, "              the index is being filled; files give the same answers meanwhile");
    }
    let _ = writeln!(text, "under way     {fills} downloads, {} uploads", kept.uploads);
    if let Some(last) = kept.last_pass {
        let ago = humantime::format_duration(Duration::from_secs(now.saturating_sub(last.at)));
        let (blobs, bytes) = (last.removed.blobs, size(last.removed.bytes));
        let _ = writeln!(text, "collected     {ago} ago: {blobs} blobs, {bytes}");
    }
    let names: Vec<_> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    let _ = writeln!(text, "upstreams     {}", names.join(", "));
    for upstream in upstreams {
        if !upstream.reachable {
            let _ = writeln!(text, "              {} does not answer; what is here is served", upstream.name);
        }
        if let (Some(limit), Some(remaining)) = (upstream.limit, upstream.remaining) {
            let _ = writeln!(text, "              {}: {remaining} of {limit} pulls left", upstream.name);
        }
    }
    text
}

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            return if unit == "bytes" { format!("{bytes} {unit}") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} PiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1_500_000, "1.4 MiB"),
            (3 << 30, "3.0 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
