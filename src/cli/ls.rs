//! `lanyard ls`: the images of a running lanyard, or the reasons for one digest.
//!
//! In the order of names the lines come page by page, so that the first one comes at once. Another
//! order needs all pages first. `ls_table.rs` has the layout.

use std::{io::ErrorKind, process::ExitCode};

use clap::{Args, ValueEnum};
use serde::de::DeserializeOwned;

use super::{
    config_args::FolderArgs,
    exit::{self, FAILED, SUSPENDED, UNAVAILABLE, USAGE, fail_with, print, tell},
    ls_digest,
    ls_table::Table,
    manage,
    socket::{self, AskError},
};
use crate::{
    admin::{Completeness, DigestReport, ImageRow, Images, Status, Why},
    config::Config,
    oci::Digest,
};

/// The help where no image fits.
const NOTHING_FITS: &str = "no image fits; a name without a tag means the tag latest, and a pattern is over full \
                            names: docker.io/library/*";

/// `lanyard ls`
#[derive(Args, Debug)]
pub(super) struct Ls {
    /// Images, or patterns over their full names; without one all
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Also images of which not one config or layer is here
    #[arg(long)]
    gone: bool,
    /// Only images that are here for one of these reasons: pinned, frozen, hosted (pushed here),
    /// tagged, digest (asked for by digest), superseded (its tag has moved on), referrer
    #[arg(long, value_name = "REASON,…", value_delimiter = ',')]
    why: Vec<Why>,
    /// The order of the lines
    #[arg(long, value_name = "ORDER", default_value = "name")]
    sort: Order,
    /// Also the manifests, configs and layers of each image
    #[arg(long)]
    tree: bool,
    /// Instead: why this digest is on disk, and when it would be evicted; exits with 1 if it is
    /// unknown
    #[arg(long, value_name = "DIGEST", conflicts_with_all = ["patterns", "gone", "why", "sort", "tree"])]
    digest: Option<Digest>,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Order {
    /// By name
    Name,
    /// The last used first
    Used,
    /// The largest first
    Size,
    /// The one that saved most first
    Saved,
}

impl Ls {
    pub(super) fn run(self) -> ExitCode {
        let Ls { patterns, gone, why, sort, tree, digest, folder } = self;
        let json = folder.json;
        let config = match folder.config() {
            Ok(config) => config,
            Err(told) => return told,
        };
        if let Some(digest) = digest {
            return match get::<DigestReport>(&config, &format!("/api/v1/digests/{digest}"), json) {
                Ok(report) if json => print(&(serde_json::to_string(&report).unwrap_or_default() + "\n")),
                Ok(report) => print(&ls_digest::text(&report, manage::now())),
                Err(told) => told,
            };
        }
        let listing = Listing { config: &config, patterns: &patterns, gone, why: &why, json };
        let printed = if json { listing.json(sort) } else { listing.table(sort, tree) };
        match printed {
            Ok(()) => ExitCode::SUCCESS,
            Err(told) => told,
        }
    }
}

struct Listing<'a> {
    config: &'a Config,
    patterns: &'a [String],
    gone: bool,
    why: &'a [Why],
    json: bool,
}

impl Listing<'_> {
    fn table(&self, sort: Order, tree: bool) -> Result<(), ExitCode> {
        let mut table = Table::new(tree, manage::now());
        let gone = self.each(sort, |images| put(&table.lines(images)))?;
        let status: Status = get(self.config, "/api/v1/status", self.json)?;
        put(&table.last_line(&status, gone))?;
        if table.is_empty() && gone == 0 && !self.patterns.is_empty() {
            tell(&format!("lanyard: {NOTHING_FITS}\n"));
        }
        Ok(())
    }

    fn json(&self, sort: Order) -> Result<(), ExitCode> {
        let mut before = "{\"images\":[";
        self.each(sort, |images| {
            let mut text = String::new();
            for image in images {
                text.push_str(before);
                text.push_str(&serde_json::to_string(image).unwrap_or_default());
                before = ",\n";
            }
            put(&text)
        })?;
        put(if before == ",\n" { "]}\n" } else { "{\"images\":[]}\n" })
    }

    /// Shows the images that are asked for, some at a time, in this order. Returns how many others
    /// would be shown with `--gone`.
    fn each(&self, sort: Order, mut show: impl FnMut(&[ImageRow]) -> Result<(), ExitCode>) -> Result<u64, ExitCode> {
        let (mut all, mut last, mut gone) = (Vec::new(), None, 0);
        loop {
            let Images { mut images, next } = get(self.config, &self.target(last.as_deref()), self.json)?;
            images.retain(|image| self.why.is_empty() || self.why.contains(&image.why));
            let wanted = images.len();
            images.retain(|image| self.gone || image.of != Completeness::Gone || image.problem.is_some());
            gone += (wanted - images.len()) as u64;
            if sort == Order::Name {
                show(&images)?;
            } else {
                all.append(&mut images);
            }
            last = next;
            if last.is_none() {
                break;
            }
        }
        match sort {
            Order::Name => return Ok(gone),
            Order::Used => all.sort_by_key(|image| std::cmp::Reverse(image.last_used)),
            Order::Size => all.sort_by_key(|image| std::cmp::Reverse(image.here)),
            Order::Saved => all.sort_by_key(|image| std::cmp::Reverse(image.saved)),
        }
        show(&all)?;
        Ok(gone)
    }

    fn target(&self, last: Option<&str>) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.patterns.iter().map(|pattern| ("match", pattern)));
        query.extend_pairs(last.map(|last| ("last", last)));
        format!("/api/v1/images?{}", query.finish())
    }
}

/// One answer of the lanyard on this folder, to be shown in words or as `json`. On a failure,
/// prints it and returns the exit code.
fn get<T: DeserializeOwned>(config: &Config, target: &str, json: bool) -> Result<T, ExitCode> {
    let failed = |code, error: &dyn std::fmt::Display| fail_with(code, &format!("lanyard: {error}\n"));
    let (status, body) = socket::ask(&config.data_dir, "GET", target).map_err(|error| match error {
        AskError::NotRunning(_) | AskError::TooLong(_) => failed(UNAVAILABLE, &error),
        AskError::Denied(_) | AskError::Broken { .. } => failed(FAILED, &error),
    })?;
    match status {
        200 => if json { serde_json::from_slice(&body) } else { manage::escaped_answer(&body) }
            .map_err(|error| failed(FAILED, &format!("the answer is of another version: {error}"))),
        400 => Err(failed(USAGE, &manage::said(status, &body))),
        503 => Err(failed(SUSPENDED, &manage::said(status, &body))),
        _ => Err(failed(FAILED, &manage::said(status, &body))),
    }
}

/// Prints a part of the answer. A reader that closes the pipe early, as `head` does, ends it well.
fn put(text: &str) -> Result<(), ExitCode> {
    match exit::put(text) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(ExitCode::SUCCESS),
        // It says what is wrong.
        Err(_) => Err(print(text)),
    }
}
