//! `lanyard gc` and `lanyard status`: what a running lanyard is asked over its socket.

use std::{
    fmt::Write as _,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::Args;
use serde::de::DeserializeOwned;

use super::{
    config_args::FolderArgs,
    exit::{FAILED, SUSPENDED, UNAVAILABLE, fail_with, print},
    socket::{self, AskError},
};
use crate::admin::{Collection, ScrubStatus, Scrubbed, Status};

/// `lanyard gc`
#[derive(Args, Debug)]
pub(super) struct Gc {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the grace (hosted.gc_grace): a push under way may fail
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

/// `lanyard status`
#[derive(Args, Debug)]
pub(super) struct StatusOf {
    #[command(flatten)]
    folder: FolderArgs,
}

impl Gc {
    pub(super) fn run(self) -> ExitCode {
        let Gc { dry_run, now: at_once, folder } = self;
        let target = format!("/api/v1/gc?dry_run={dry_run}&now={at_once}");
        ask(folder, "POST", &target, |collection| collected(collection, dry_run, at_once, now()))
    }
}

impl StatusOf {
    pub(super) fn run(self) -> ExitCode {
        ask(self.folder, "GET", "/api/v1/status", |status| status_text(status, now()))
    }
}

/// Asks the lanyard on this folder and prints its answer: as it came with `--json`, else as `text`
/// has it.
fn ask<T: DeserializeOwned>(
    folder: FolderArgs,
    method: &str,
    target: &str,
    text: impl FnOnce(&T) -> String,
) -> ExitCode {
    let json = folder.json;
    let config = match folder.config() {
        Ok(config) => config,
        Err(told) => return told,
    };
    let (status, body) = match socket::ask(&config.data_dir, method, target) {
        Ok(answer) => answer,
        Err(error @ (AskError::NotRunning(_) | AskError::TooLong(_))) => {
            return fail_with(UNAVAILABLE, &format!("lanyard: {error}\n"));
        }
        Err(error @ (AskError::Denied(_) | AskError::Broken { .. })) => {
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

fn collected(collection: &Collection, dry_run: bool, at_once: bool, now: u64) -> String {
    let Collection { links, blobs, bytes, uploads, waiting, waiting_bytes, waiting_until, pushed_to, skipped } =
        *collection;
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
    if at_once {
        text.push_str("No grace was waited for, neither after the last use of a blob nor after the start.\n");
    }
    if waiting > 0 {
        let size = size(waiting_bytes);
        let until = waiting_until.map_or_else(String::new, |until| moment(until, now));
        let _ = writeln!(text, "{waiting} more ({size}) are not needed either. They wait {until}");
        text.push_str(match at_once {
            true => "A client was told meanwhile that they are here, or is pushing them.\n",
            false => "A client that pushes may count on them. If nobody pushes: `lanyard gc --now`.\n",
        });
    }
    if pushed_to > 0 {
        let _ = writeln!(text, "{pushed_to} repositories were left alone: an upload to them is under way.");
    }
    if skipped > 0 {
        let _ =
            writeln!(text, "{skipped} repositories were left alone; the log says why. `lanyard check` looks into it.");
    }
    text
}

/// Until when something waits, for people.
fn moment(until: u64, now: u64) -> String {
    let at = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(until));
    let left = humantime::format_duration(Duration::from_secs(until.saturating_sub(now)));
    format!("until {at}, {left} from now, and longer where they are asked for meanwhile.")
}

/// How the scrub gets on, in one line or two.
fn scrub_text(scrub: &ScrubStatus, now: u64) -> String {
    if scrub.every == 0 {
        return "scrub         off (scrub_every)\n".to_owned();
    }
    let every = humantime::format_duration(Duration::from_secs(scrub.every));
    let pass = &scrub.pass;
    let mut text = match scrub.under_way {
        true => {
            let done = size(pass.bytes);
            format!(
                "scrub         {done} of {} read again, {} rotten; once in {every}\n",
                size(scrub.total),
                pass.rotten
            )
        }
        false => format!("scrub         nothing to do now; once in {every}\n"),
    };
    if let Some(Scrubbed { ended: Some(ended), blobs, bytes, rotten, .. }) = scrub.finished {
        let ago = humantime::format_duration(Duration::from_secs(now.saturating_sub(ended)));
        let bytes = size(bytes);
        let _ = writeln!(text, "              finished {ago} ago: {blobs} blobs, {bytes}, {rotten} rotten");
    }
    text
}

fn status_text(status: &Status, now: u64) -> String {
    let Status { version, pid, started, listening, data_dir, ready, kept, scrub, fills, upstreams } = status;
    let mut text = String::new();
    let up = humantime::format_duration(Duration::from_secs(now.saturating_sub(*started)));
    let draining = if *ready { "" } else { ", stopping" };
    let _ = writeln!(text, "lanyard {version}, process {pid}, up {up}{draining}");
    let _ = writeln!(text, "listening on  http://{listening}");
    let _ = writeln!(text, "data in       {}", data_dir.display());
    let least = if kept.counted { "" } else { "at least " };
    let _ = writeln!(text, "kept          {least}{} blobs, {}", kept.blobs, size(kept.bytes));
    if kept.hosted_blobs > 0 {
        let hosted = size(kept.hosted_bytes);
        let _ =
            writeln!(text, "              of these {} blobs, {hosted}, are of pushed repositories", kept.hosted_blobs);
    }
    if !kept.writable {
        let _ = writeln!(text, "              nothing can be stored: the disk is read-only");
    }
    if !kept.index {
        let _ = writeln!(text, "              the index is being filled; files give the same answers meanwhile");
    }
    if kept.rotten > 0 {
        let (rotten, hosted) = (kept.rotten, kept.hosted_rotten);
        let _ = writeln!(
            text,
            "              {rotten} were found rotten since the start, {hosted} of them pushed: see the log"
        );
    }
    let _ = writeln!(text, "under way     {fills} downloads, {} uploads", kept.uploads);
    if let Some(last) = kept.last_pass {
        let ago = humantime::format_duration(Duration::from_secs(now.saturating_sub(last.at)));
        let (blobs, bytes) = (last.removed.blobs, size(last.removed.bytes));
        let _ = writeln!(text, "collected     {ago} ago: {blobs} blobs, {bytes}");
    }
    text.push_str(&scrub_text(scrub, now));
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
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
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
    fn a_collection_says_what_waits_and_until_when() {
        let waiting = Collection {
            waiting: 5,
            waiting_bytes: 200 << 20,
            waiting_until: Some(1_700_003_600),
            pushed_to: 1,
            ..Collection::default()
        };
        let text = collected(&waiting, false, false, 1_700_000_000);
        for part in ["Nothing to collect.", "5 more (200.0 MiB)", "2023-11-14T23:13:20Z", "1h from now", "gc --now"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let text = collected(&waiting, false, true, 1_700_000_000);
        for part in ["No grace was waited for", "nor after the start", "is pushing them", "1 repositories were left"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn a_scrub_says_how_far_it_is() {
        let pass = Scrubbed { began: 100, bytes: 3 << 30, rotten: 1, ..Scrubbed::default() };
        let finished = Some(Scrubbed { ended: Some(40), blobs: 7, bytes: 5 << 30, ..Scrubbed::default() });
        let status = ScrubStatus { every: 2_592_000, under_way: true, total: 12 << 30, pass, finished };
        let text = scrub_text(&status, 100);
        assert!(text.contains("3.0 GiB of 12.0 GiB read again, 1 rotten"), "{text}");
        assert!(text.contains("finished 1m ago: 7 blobs, 5.0 GiB, 0 rotten"), "{text}");
        assert!(scrub_text(&ScrubStatus::default(), 0).contains("off"));
    }

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
