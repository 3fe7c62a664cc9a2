//! `lanyard pull`: the running lanyard fetches images, and this command tells how it goes.
//!
//! Promises:
//! - Standard output has the result alone: a summary, or with `--json` the events as they came.
//! - Standard error has bars on a terminal, else one line for each image that is done
//!   (`progress.rs`).
//! - Ctrl-C begins nothing more, says what goes on, and exits with 130.
//! - Wrong arguments and lists that cannot be read are told before anything is fetched.

mod interrupt;
mod progress;
mod summary;

use std::{
    collections::HashSet,
    io::{self, ErrorKind},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;

use super::{
    config_args::FolderArgs,
    exit::{FAILED, INTERRUPTED, SUSPENDED, USAGE, fail, fail_with, print, put, tell},
    image_list, manage,
    pin::operator,
    socket::{self, Answer, AskError},
};
use crate::{
    admin::{PullEvent, PullOrder},
    config::LockFile,
    oci::Platforms,
};
use interrupt::Interrupt;
use progress::Progress;
use summary::Summary;

/// `lanyard pull`
#[derive(Args, Debug)]
pub(super) struct Pull {
    /// An image as clients write it: nginx, nginx:1.27, ghcr.io/a/b@sha256:…
    #[arg(value_name = "IMAGE", required_unless_present_any = ["from", "lock"])]
    images: Vec<String>,
    /// A file that names images, or - for standard input: a list with one a line, a compose file,
    /// Kubernetes objects, a Dockerfile
    #[arg(long, value_name = "FILE")]
    from: Vec<String>,
    /// A lock file that `lanyard lock` has written: its images are fetched by their digests
    #[arg(long, value_name = "FILE")]
    lock: Vec<PathBuf>,
    /// The platforms to fetch, like linux/amd64,linux/arm64, or all; by default Linux on the
    /// architecture of lanyard's machine
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Fetch also what refers to the images: signatures, lists of parts
    #[arg(long)]
    referrers: bool,
    /// Keep on disk what is whole then, as `lanyard pin` does, for the same platforms; a pin that
    /// an image has keeps its own platforms and its note too
    #[arg(long)]
    pin: bool,
    /// How many blobs are fetched at once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Only say what would be fetched. Manifests that are not here are asked for, and not kept
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

/// How the events ended.
enum Ended {
    /// With the last one.
    Whole,
    /// The reader of standard output has gone.
    NoReader,
    Broken(AskError),
    Unreadable(String),
    Unwritable(io::Error),
}

impl Pull {
    pub(super) fn run(self) -> ExitCode {
        let Pull { mut images, from, lock, platform, referrers, pin, jobs, dry_run, folder } = self;
        if let Err(error) = Platforms::parse(platform.iter().map(String::as_str)) {
            return fail(&format!("lanyard: --platform: {error}\n"));
        }
        let mut mistakes = String::new();
        for file in &from {
            match image_list::read(file, &|name| std::env::var(name).ok()) {
                Ok(more) => images.extend(more),
                Err(told) => mistakes.push_str(&told),
            }
        }
        for file in &lock {
            match LockFile::read(file) {
                Ok(lock) => images.extend(lock.images().map(|image| format!("{}@{}", image.name, image.digest))),
                Err(error) => mistakes.push_str(&format!("{error}\n")),
            }
        }
        if !mistakes.is_empty() {
            return fail(&mistakes);
        }
        let json = folder.json;
        let config = match folder.config() {
            Ok(config) => config,
            Err(told) => return told,
        };
        let mut seen = HashSet::new();
        images.retain(|image| seen.insert(image.clone()));
        let count = images.len();
        let (platforms, by, jobs) = (platform, operator(), Some(jobs.into()));
        let order = PullOrder { images, platforms, referrers, dry_run, pin, by, jobs };
        let text = match serde_json::to_vec(&order) {
            Ok(text) => text,
            Err(error) => return fail_with(FAILED, &format!("lanyard: {error}\n")),
        };
        let answer = match socket::open(&config.data_dir, "POST", "/api/v1/pull", &text) {
            Ok(answer) => answer,
            Err(error) => return error.exit(),
        };
        if answer.status != 200 {
            return refused(answer);
        }
        let hang_up = answer.hang_up().and_then(Interrupt::listen);
        match hang_up {
            Ok(interrupt) => {
                let progress = Progress::new(count, json, dry_run);
                follow(answer, &interrupt, progress, Summary::new(dry_run), json)
            }
            Err(error) => fail_with(FAILED, &format!("lanyard: Ctrl-C cannot be listened for: {error}\n")),
        }
    }
}

fn refused(answer: Answer) -> ExitCode {
    let status = answer.status;
    let code = match status {
        400 | 413 => USAGE,
        503 => SUSPENDED,
        _ => FAILED,
    };
    match answer.whole() {
        Ok(_) if status == 404 => fail_with(FAILED, "lanyard: the lanyard that runs is older and cannot do this\n"),
        Ok(body) => fail_with(code, &format!("lanyard: {}\n", manage::said(status, &body))),
        Err(error) => error.exit(),
    }
}

/// Shows the events until they end, and ends the command.
fn follow(
    mut answer: Answer,
    interrupt: &Interrupt,
    mut progress: Progress,
    mut summary: Summary,
    json: bool,
) -> ExitCode {
    let ended = events(&mut answer, json, |event| {
        summary.note(event);
        progress.show(event);
    });
    progress.end();
    // The server notices that nobody listens.
    drop(answer);
    if interrupt.pressed() && !matches!(ended, Ended::Whole) {
        return fail_with(INTERRUPTED, &summary.interrupted());
    }
    match ended {
        Ended::Whole if json => ExitCode::from(summary.code()),
        Ended::Whole => match print(&summary.text()) {
            ExitCode::SUCCESS => ExitCode::from(summary.code()),
            unwritten => unwritten,
        },
        Ended::NoReader => ExitCode::SUCCESS,
        Ended::Broken(error) => {
            tell(&summary.broken());
            error.exit()
        }
        Ended::Unreadable(error) => fail_with(FAILED, &format!("lanyard: the answer is of another version: {error}\n")),
        Ended::Unwritable(error) => super::exit::unwritten(&error),
    }
}

/// Reads the events, prints each as it came with `json`, and hands it to `note`.
fn events(answer: &mut Answer, json: bool, mut note: impl FnMut(&PullEvent)) -> Ended {
    loop {
        let line = match answer.line() {
            Ok(Some(line)) => line,
            Ok(None) => return Ended::Unreadable("it has no end".to_owned()),
            Err(error) => return Ended::Broken(error),
        };
        let event = match manage::escaped_answer(line.as_bytes()) {
            Ok(event) => event,
            Err(error) => return Ended::Unreadable(error.to_string()),
        };
        if json {
            match put(&format!("{line}\n")) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ended::NoReader,
                Err(error) => return Ended::Unwritable(error),
                Ok(()) => {}
            }
        }
        note(&event);
        if matches!(event, PullEvent::End { .. }) {
            return Ended::Whole;
        }
    }
}
