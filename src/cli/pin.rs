//! `lanyard pin`, `lanyard unpin` and `lanyard pins`: which images a running lanyard keeps on disk.

use std::{fmt::Write as _, process::ExitCode};

use clap::Args;

use super::{config_args::FolderArgs, exit::fail, images::each_image, ls_table::ago, manage};
use crate::{
    admin::{Pinned, Pins, Unpinned},
    oci::Platforms,
};

/// `lanyard pin`
#[derive(Args, Debug)]
pub(super) struct Pin {
    /// The images, as clients write them: nginx, ghcr.io/a/b:1, quay.io/a/b@sha256:…
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Keep only these platforms of an image that has several, like linux/amd64,linux/arm64, or
    /// all; by default all
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// A note, for whoever reads the list of pins
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    #[command(flatten)]
    folder: FolderArgs,
}

/// `lanyard unpin`
#[derive(Args, Debug)]
pub(super) struct Unpin {
    /// The images, as they were pinned
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    folder: FolderArgs,
}

/// `lanyard pins`
#[derive(Args, Debug)]
pub(super) struct ListPins {
    #[command(flatten)]
    folder: FolderArgs,
}

impl ListPins {
    pub(super) fn run(self) -> ExitCode {
        manage::ask(self.folder, "GET", "/api/v1/pins", |pins| listed(pins, manage::now()))
    }
}

impl Pin {
    pub(super) fn run(self) -> ExitCode {
        let Pin { images, platform, note, folder } = self;
        if let Err(error) = Platforms::parse(platform.iter().map(String::as_str)) {
            return fail(&format!("lanyard: --platform: {error}\n"));
        }
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(platform.iter().map(|platform| ("platform", platform)));
        query.extend_pairs([("note", note), ("by", operator())]);
        let query = query.finish();
        each_image(
            folder,
            &images,
            |image| ("PUT", format!("/api/v1/pins/{image}?{query}")),
            |pins: &Vec<Pinned>| pins.iter().map(pinned).collect(),
        )
    }
}

impl Unpin {
    pub(super) fn run(self) -> ExitCode {
        let Unpin { images, folder } = self;
        each_image(
            folder,
            &images,
            |image| ("DELETE", format!("/api/v1/pins/{image}")),
            |unpinned: &Unpinned| {
                unpinned.images.iter().map(|image| format!("{image} is no longer pinned.\n")).collect()
            },
        )
    }
}

fn pinned(pin: &Pinned) -> String {
    let Pinned { image, hosted, platforms, .. } = pin;
    let platforms = if platforms.is_empty() { String::new() } else { format!(" for {}", platforms.join(", ")) };
    match hosted {
        true => format!("Pinned {image}{platforms}. It was pushed here, and pushed content is never evicted anyway.\n"),
        false => format!("Pinned {image}{platforms}.\n"),
    }
}

/// A line for each pin and each pattern of `cache.keep`. `now`: in seconds since 1970.
fn listed(Pins { pins, keep, unreadable }: &Pins, now: u64) -> String {
    let mut text = String::new();
    for Pinned { image, platforms, why, note, by, at, .. } in pins {
        let platforms = if platforms.is_empty() { String::new() } else { format!(" for {}", platforms.join(", ")) };
        let note = if note.is_empty() { String::new() } else { format!(": {note}") };
        let _ = writeln!(text, "{image}{platforms}, {why} by {by} {}{note}", ago(now.saturating_sub(*at)));
    }
    for pattern in keep {
        let _ = writeln!(text, "{pattern}, by cache.keep");
    }
    for repository in unreadable {
        let _ = writeln!(text, "{repository}: a pin cannot be read, and nothing of it is evicted");
    }
    if text.is_empty() { "No image is pinned.\n".to_owned() } else { text }
}

/// The name of the user who runs this.
pub(super) fn operator() -> String {
    let named = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let named = named.filter(|name| !name.is_empty() && name.len() <= 100);
    named.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}
