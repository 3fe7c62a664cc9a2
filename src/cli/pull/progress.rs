//! How a pull goes, on standard error: bars on a terminal, else one line for each image that is
//! done.
//!
//! Bars are drawn where standard error is a terminal that can move its cursor (`TERM`), and without
//! `--json`. There is one for each image under way and one for the sum, and never more than the
//! screen has lines. With `NO_COLOR` they have no colour. Called by `mod.rs` with every event.

use std::{
    collections::{HashMap, HashSet},
    io::{IsTerminal as _, stderr},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::{exit::tell, manage::size};
use crate::{
    admin::{BlobEvent, ImageEvent, ImageState, PullEvent},
    runtime::printable_word,
};

/// See the module.
pub(super) enum Progress {
    /// One line for each image.
    Lines,
    /// Bars.
    Bars(Box<Bars>),
}

impl Progress {
    /// `images`: how many were ordered.
    pub(super) fn new(images: usize, json: bool, dry_run: bool) -> Progress {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let moves = set("TERM").is_some_and(|term| term != "dumb");
        let draws = !json && !dry_run && moves && stderr().is_terminal();
        match rustix::termios::tcgetwinsize(stderr()) {
            Ok(screen) if draws && screen.ws_row >= 3 => {
                Progress::Bars(Box::new(Bars::new(images, usize::from(screen.ws_row), set("NO_COLOR").is_none())))
            }
            Ok(_) | Err(_) => Progress::Lines,
        }
    }

    pub(super) fn show(&mut self, event: &PullEvent) {
        let done = match event {
            PullEvent::Image(image) => done(image),
            PullEvent::Blob(_) | PullEvent::End { .. } => None,
        };
        match self {
            Progress::Lines => {
                if let Some(line) = done {
                    tell(&format!("{line}\n"));
                }
            }
            Progress::Bars(bars) => {
                match event {
                    PullEvent::Image(image) => bars.image(image),
                    PullEvent::Blob(blob) => bars.blob(blob),
                    PullEvent::End { .. } => {}
                }
                if let Some(line) = done {
                    let _ = bars.screen.println(printable_word(&line));
                }
            }
        }
    }

    /// Takes the bars from the screen.
    pub(super) fn end(self) {
        if let Progress::Bars(bars) = self {
            bars.sum.finish_and_clear();
            let _ = bars.screen.clear();
        }
    }
}

/// The line of an image that is done.
fn done(event: &ImageEvent) -> Option<String> {
    let ImageEvent { image, state, outcome, bytes, pinned, error, .. } = event;
    let pinned = if *pinned { ", pinned" } else { "" };
    match state {
        // The result of a dry run is on standard output.
        ImageState::Resolving | ImageState::Fetching | ImageState::Planned => None,
        ImageState::Whole if outcome.as_deref() == Some("stale") => {
            let unsure = "upstream could not be asked whether the tag has moved";
            Some(format!("{image}: whole, {}{pinned}; {unsure}", size(*bytes)))
        }
        ImageState::Whole => Some(format!("{image}: whole, {}{pinned}", size(*bytes))),
        ImageState::Failed => Some(format!("{image}: failed: {}", error.as_deref().unwrap_or("no reason is told"))),
    }
}

/// The bars.
pub(super) struct Bars {
    screen: MultiProgress,
    sum: ProgressBar,
    /// The form of the sum, and of an image, once their lengths are known. An empty bar would look
    /// like a full one.
    sum_style: ProgressStyle,
    style: ProgressStyle,
    images: HashMap<String, Image>,
    /// How many bars of images fit above the sum.
    most: usize,
    total: usize,
    ended: HashSet<String>,
}

/// An image under way.
struct Image {
    /// Absent if the screen is full.
    bar: Option<ProgressBar>,
    /// The bytes of each blob so far.
    blobs: HashMap<String, u64>,
}

/// The form of a line whose length is not known yet.
fn unknown() -> ProgressStyle {
    ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Bars {
    fn new(total: usize, rows: usize, colour: bool) -> Bars {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let sum = screen.add(ProgressBar::new(0));
        sum.set_style(unknown());
        let bar = if colour { "{bar:20.cyan}" } else { "{bar:20}" };
        // The templates are constant, and a wrong one shows as the library's own style.
        let style = |rest: &str| {
            let template = format!("{bar} {{binary_bytes:>11}} of {{binary_total_bytes:<11}} {rest}");
            ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        let sum_style = style("{binary_bytes_per_sec:>13} {eta:>4} left  {wide_msg}");
        let (images, style) = (HashMap::new(), style("{wide_msg}"));
        // The line of the sum, and the one where the cursor stands.
        Bars { screen, sum, sum_style, style, images, most: rows - 2, total, ended: HashSet::new() }
    }

    fn image(&mut self, event: &ImageEvent) {
        match event.state {
            ImageState::Resolving => self.begin(&event.image),
            ImageState::Fetching => {
                self.sum.inc_length(event.of);
                self.sum.set_style(self.sum_style.clone());
                if let Some(bar) = self.images.get(&event.image).and_then(|image| image.bar.as_ref()) {
                    bar.set_length(event.of);
                    bar.set_style(self.style.clone());
                    bar.set_message(printable_word(&event.image).into_owned());
                }
            }
            ImageState::Whole | ImageState::Failed | ImageState::Planned => {
                self.ended.insert(event.image.clone());
                if let Some(bar) = self.images.remove(&event.image).and_then(|image| image.bar) {
                    bar.finish_and_clear();
                    self.screen.remove(&bar);
                }
            }
        }
        self.sum.set_message(format!("{} of {} images done", self.ended.len(), self.total));
    }

    fn begin(&mut self, name: &str) {
        let shown = self.images.values().filter(|image| image.bar.is_some()).count();
        let bar = (shown < self.most).then(|| {
            let bar = self.screen.insert_before(&self.sum, ProgressBar::new(0));
            bar.set_style(unknown());
            bar.set_message(format!("{}: asking upstream", printable_word(name)));
            bar
        });
        self.images.insert(name.to_owned(), Image { bar, blobs: HashMap::new() });
    }

    fn blob(&mut self, event: &BlobEvent) {
        let Some(image) = self.images.get_mut(&event.image) else { return };
        let before = image.blobs.insert(event.digest.clone(), event.bytes).unwrap_or(0);
        if event.outcome == "hit" {
            // What is here already says nothing of the rate.
            self.sum.set_length(self.sum.length().unwrap_or(0).saturating_sub(event.bytes));
        } else {
            self.sum.inc(event.bytes.saturating_sub(before));
        }
        if let Some(bar) = &image.bar {
            bar.set_position(image.blobs.values().fold(0, |sum, bytes| sum.saturating_add(*bytes)));
        }
    }
}
