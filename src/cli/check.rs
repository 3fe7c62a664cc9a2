//! `lanyard check`: verifies a data folder that no lanyard runs on, and tells its findings.
//!
//! Ends well if nothing was found or all of it is mended; exit code 1 if something is damaged, 75
//! if a running lanyard has the folder, 64 if the folder holds no data of lanyard.

use std::{
    fmt::{Display, Write as _},
    io::{IsTerminal as _, Write as _, stderr},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use clap::Args;
use parking_lot::Mutex;

use super::{
    config_args::FolderArgs,
    exit::{FAILED, SUSPENDED, USAGE, fail_with, print},
    manage::size,
};
use crate::app::{self, CheckError, CheckReport, Mended, OpenError};

/// `lanyard check`
#[derive(Args, Debug)]
pub(super) struct Check {
    /// Move corrupt blobs into the quarantine, renew or remove damaged records, and fill the index
    /// anew
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

impl Check {
    pub(super) fn run(self) -> ExitCode {
        let json = self.folder.json;
        let config = match self.folder.config() {
            Ok(config) => config,
            Err(told) => return told,
        };
        let progress = ProgressLine::new();
        let report = match app::check(&config, self.repair, &|bytes| progress.read(bytes)) {
            Ok(report) => report,
            Err(error) => {
                progress.clear();
                return refused(&error);
            }
        };
        progress.clear();
        let text = if json { in_json(&report) } else { report_text(&report, self.repair) };
        let printed = print(&text);
        if is_well(&report) { printed } else { ExitCode::from(FAILED) }
    }
}

/// Whether nothing was found, or all of it is mended.
fn is_well(report: &CheckReport) -> bool {
    report.missing.is_empty()
        && report.corrupt.iter().all(|corrupt| corrupt.quarantined)
        && report.damaged.iter().all(|damaged| damaged.mended != Mended::Left)
}

fn refused(error: &CheckError) -> ExitCode {
    match error {
        CheckError::Open(OpenError::Locked { dir, holder, .. }) => {
            let dir = dir.display();
            let text = format!("lanyard: the data folder {dir} is in use by {holder}: stop it before a check\n");
            fail_with(SUSPENDED, &text)
        }
        CheckError::NoData(_) => fail_with(USAGE, &format!("lanyard: {error}\n")),
        CheckError::Open(_) | CheckError::Storage(_) => fail_with(FAILED, &format!("lanyard: {error}\n")),
    }
}

fn report_text(report: &CheckReport, repair: bool) -> String {
    let CheckReport { blobs, bytes, corrupt, records, damaged, strays, missing, absent, reserved, index_filled } =
        report;
    let mut text = format!("Read {blobs} blobs, {}, and {records} records of tags, links and pins.\n", size(*bytes));
    list(&mut text, "Corrupt blobs", corrupt);
    list(&mut text, "Damaged records", damaged);
    list(&mut text, "Missing; a pull of it fails until it is pushed again", missing);
    list(&mut text, "Disk space that is held in vain; `lanyard check --repair` gives it back", reserved);
    let strays: Vec<_> = strays.iter().map(|path| path.display()).collect();
    list(&mut text, "Not lanyard's, and left alone", &strays);
    if *absent > 0 {
        let _ =
            writeln!(text, "{absent} parts of mirrored images are not here; they are fetched when they are asked for.");
    }
    if *index_filled {
        text.push_str("The index is filled from the files.\n");
    } else if repair {
        text.push_str("The index could not be filled; lanyard does it when it starts.\n");
    }
    text.push_str(match (report.is_sound(), is_well(report), repair) {
        (true, ..) => "Everything is in order.\n",
        (false, true, _) => "Everything that was found is mended.\n",
        (false, false, true) => "A finding without a note of its repair cannot be mended from here.\n",
        (false, false, false) => "Nothing was changed; `lanyard check --repair` mends what can be mended.\n",
    });
    text
}

fn list(text: &mut String, title: &str, items: &[impl Display]) {
    if !items.is_empty() {
        let _ = writeln!(text, "{title}:");
        items.iter().for_each(|item| {
            let _ = writeln!(text, "  {item}");
        });
    }
}

fn in_json(report: &CheckReport) -> String {
    let corrupt: Vec<_> = report
        .corrupt
        .iter()
        .map(|c| serde_json::json!({ "digest": c.digest, "why": c.why, "quarantined": c.quarantined }))
        .collect();
    let damaged: Vec<_> = report
        .damaged
        .iter()
        .map(|d| {
            let mended = match d.mended {
                Mended::Left => "left",
                Mended::Renewed => "renewed",
                Mended::Removed => "removed",
            };
            serde_json::json!({ "path": d.path, "why": d.why, "mended": mended })
        })
        .collect();
    let missing: Vec<_> = report
        .missing
        .iter()
        .map(
            |m| serde_json::json!({ "repository": m.repository.to_string(), "digest": m.digest, "why": m.to_string() }),
        )
        .collect();
    let reserved: Vec<_> = report
        .reserved
        .iter()
        .map(|r| serde_json::json!({ "path": r.path, "bytes": r.bytes, "given_back": r.given_back }))
        .collect();
    let report = serde_json::json!({
        "sound": report.is_sound(), "well": is_well(report), "blobs": report.blobs, "bytes": report.bytes,
        "records": report.records, "corrupt": corrupt, "damaged": damaged, "missing": missing,
        "strays": report.strays, "absent": report.absent, "reserved": reserved, "index_filled": report.index_filled,
    });
    format!("{report}\n")
}

/// A line on the terminal that counts up, from the first second on. Silent if standard error is no
/// terminal.
struct ProgressLine {
    shown: bool,
    blobs: AtomicU64,
    bytes: AtomicU64,
    next: Mutex<Instant>,
}

impl ProgressLine {
    fn new() -> ProgressLine {
        let next = Mutex::new(Instant::now() + Duration::from_secs(1));
        ProgressLine { shown: stderr().is_terminal(), blobs: AtomicU64::new(0), bytes: AtomicU64::new(0), next }
    }

    fn read(&self, bytes: u64) {
        let blobs = self.blobs.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mut next = self.next.lock();
        if self.shown && Instant::now() >= *next {
            *next = Instant::now() + Duration::from_millis(200);
            let _ = write!(stderr(), "\r{blobs} blobs, {} read\x1b[K", size(bytes));
        }
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
