//! `lanyard gc` and `lanyard status`, and what all commands share that ask a running lanyard: the
//! request, the escaping of its texts, sizes in words.

use std::{
    fmt::Write as _,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::Args;
use serde::de::DeserializeOwned;

use super::{
    config_args::FolderArgs,
    exit::{FAILED, SUSPENDED, fail_with, print},
    socket,
};
use crate::{
    admin::{CacheStatus, Collection, SavingsSum, ScrubStatus, Scrubbed, Status},
    config::Config,
    runtime::printable_word,
};

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
pub(super) fn ask<T: DeserializeOwned>(
    folder: FolderArgs,
    method: &str,
    target: &str,
    text: impl FnOnce(&T) -> String,
) -> ExitCode {
    match fetch::<T>(folder, method, target) {
        Ok((_, Some(json))) => print(&json),
        Ok((answer, None)) => print(&text(&answer)),
        Err(told) => told,
    }
}

/// Asks the lanyard on this folder. The answer, and with `--json` its text. A failure is printed
/// and gives the exit code.
pub(super) fn fetch<T: DeserializeOwned>(
    folder: FolderArgs,
    method: &str,
    target: &str,
) -> Result<(T, Option<String>), ExitCode> {
    let json = folder.json;
    let config = folder.config()?;
    let body = asked_for_text(&config, method, target)?;
    let answer = escaped_answer(&body).map_err(|error| other_version(&error))?;
    Ok((answer, json.then(|| String::from_utf8_lossy(&body).into_owned() + "\n")))
}

/// The answer of the lanyard on the folder of this configuration. A failure is told, and is the
/// exit code.
pub(super) fn asked<T: DeserializeOwned>(config: &Config, method: &str, target: &str) -> Result<T, ExitCode> {
    serde_json::from_slice(&asked_for_text(config, method, target)?).map_err(|error| other_version(&error))
}

/// The text of the answer.
fn asked_for_text(config: &Config, method: &str, target: &str) -> Result<Vec<u8>, ExitCode> {
    let (status, body) = socket::ask(&config.data_dir, method, target).map_err(|error| error.exit())?;
    if status != 200 {
        let code = if status == 503 { SUSPENDED } else { FAILED };
        return Err(fail_with(code, &format!("lanyard: {}\n", said(status, &body))));
    }
    Ok(body)
}

fn other_version(error: &serde_json::Error) -> ExitCode {
    fail_with(FAILED, &format!("lanyard: the answer is of another version: {error}\n"))
}

/// The sentence of an error in the registry's form.
pub(super) fn said(status: u16, body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let message = body.pointer("/errors/0/message").and_then(serde_json::Value::as_str);
    message.map_or_else(|| format!("the answer was {status}"), |message| printable_word(message).into_owned())
}

/// An answer that is shown in words, with its texts escaped: none of them ends a line or moves the
/// cursor.
pub(super) fn escaped_answer<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    let mut answer = serde_json::from_slice(body)?;
    escape_texts(&mut answer);
    serde_json::from_value(answer)
}

fn escape_texts(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            if let std::borrow::Cow::Owned(escaped) = printable_word(text) {
                *text = escaped;
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(escape_texts),
        serde_json::Value::Object(entries) => entries.values_mut().for_each(escape_texts),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
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

fn cache_text(cache: &CacheStatus) -> String {
    let mut text = format!("cached        {}", size(cache.cached));
    if let Some(max) = cache.max_size {
        let _ = write!(text, " of {}", size(max));
    }
    let promised = cache.reserved + cache.parked;
    if promised > 0 {
        let _ = write!(text, ", and {} promised to downloads", size(promised));
    }
    if cache.pinned > 0 {
        let _ = write!(text, "; {} of it stays whatever comes (pins, keep, tags)", size(cache.pinned));
    }
    text.push('\n');
    let Some(eviction) = cache.eviction else {
        text.push_str("              nothing is evicted: lanyard is offline\n");
        return text;
    };
    let evicted = eviction.evicted.sum();
    if evicted > 0 {
        let _ = writeln!(
            text,
            "              evicted since the start: {}, of which {} came back, {} of it within a day",
            size(evicted),
            size(cache.refetched),
            size(cache.refetched_within_a_day)
        );
    }
    if let Some(turn) = eviction.turn {
        let turn = humantime::format_duration(Duration::from_secs(turn));
        let _ = writeln!(text, "              what is used once stays for {turn}");
    }
    if cache.waits_refused > 0 {
        let _ = writeln!(text, "              {} downloads or pushes found no room", cache.waits_refused);
    }
    if eviction.stopped {
        text.push_str("              the disk stays full whatever is evicted: somebody else fills it\n");
    } else if eviction.in_vain {
        text.push_str(
            "              for the last of them nothing could go: all is pinned, in use, or not to be had again now\n",
        );
    }
    text
}

fn status_text(status: &Status, now: u64) -> String {
    let Status { version, pid, started, listening, data_dir, ready, kept, scrub, cache, savings, fills, upstreams } =
        status;
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
    text.push_str(&cache_text(cache));
    let _ = writeln!(text, "under way     {fills} downloads, {} uploads", kept.uploads);
    if let Some(last) = kept.last_pass {
        let ago = humantime::format_duration(Duration::from_secs(now.saturating_sub(last.at)));
        let (blobs, bytes) = (last.removed.blobs, size(last.removed.bytes));
        let _ = writeln!(text, "collected     {ago} ago: {blobs} blobs, {bytes}");
    }
    text.push_str(&scrub_text(scrub, now));
    if let Some(savings) = savings.as_ref().filter(|savings| savings.sent > 0) {
        let _ = writeln!(text, "saved         {}", saved(savings));
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

/// What was saved, in the words of `status`.
pub(super) fn saved(savings: &SavingsSum) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(savings.since.min(253_402_300_799));
    let since = humantime::format_rfc3339_seconds(time).to_string();
    let saved = size(u64::try_from(savings.saved).unwrap_or(0));
    format!("{saved} of {} since {}", size(savings.sent), since.split('T').next().unwrap_or_default())
}

pub(super) fn now() -> u64 {
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
