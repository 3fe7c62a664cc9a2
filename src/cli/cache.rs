//! `lanyard cache trim`: cached content goes now, in the order in which it would go anyway.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{
    config_args::FolderArgs,
    exit::fail,
    manage::{ask, size},
};
use crate::{admin::Trimmed, config::parse_size};

/// `lanyard cache`
#[derive(Subcommand, Debug)]
pub(super) enum Cache {
    /// Let cached content go now, in the order in which it would go anyway
    ///
    /// Only content that its upstream can give again goes; names and manifests stay. A running
    /// lanyard does the same by itself when `cache.max_size` or `cache.min_free` is reached.
    Trim(Trim),
}

/// `lanyard cache trim`
#[derive(Args, Debug)]
pub(super) struct Trim {
    /// How much is to go, as in "20 GiB"
    #[arg(required_unless_present = "to", conflicts_with = "to")]
    size: Option<String>,
    /// How much may stay cached, as in "100 GiB"
    #[arg(long, value_name = "SIZE")]
    to: Option<String>,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

impl Cache {
    pub(super) fn run(self) -> ExitCode {
        let Cache::Trim(Trim { size, to, dry_run, folder }) = self;
        let (key, text) = to.map_or(("free", size.unwrap_or_default()), |to| ("to", to));
        let bytes = match text.as_str() {
            "0" => 0,
            text => match parse_size(text) {
                Ok(bytes) => bytes,
                Err(error) => return fail(&format!("lanyard: {error}\n")),
            },
        };
        let target = format!("/api/v1/trim?{key}={bytes}&dry_run={dry_run}");
        ask(folder, "POST", &target, |trimmed| text_of(trimmed, dry_run))
    }
}

fn text_of(trimmed: &Trimmed, dry_run: bool) -> String {
    let Trimmed { blobs, bytes, missing } = *trimmed;
    let mut text = match (blobs, dry_run) {
        (0, _) => "Nothing to let go.\n".to_owned(),
        (_, true) => format!("Would let {blobs} blobs go, {}.\n", size(bytes)),
        (_, false) => format!("Let {blobs} blobs go, {}.\n", size(bytes)),
    };
    if missing > 0 {
        text += &format!(
            "{} more were asked for; what is left is needed, pinned, or cannot be had again now.\n",
            size(missing)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trim_says_what_went_and_what_could_not() {
        let trimmed = Trimmed { blobs: 3, bytes: 5 << 20, missing: 1 << 20 };
        let text = text_of(&trimmed, false);
        assert!(text.starts_with("Let 3 blobs go, 5.0 MiB.\n1.0 MiB more"), "{text}");
        assert_eq!(text_of(&Trimmed { missing: 0, ..trimmed }, true), "Would let 3 blobs go, 5.0 MiB.\n");
        assert_eq!(text_of(&Trimmed::default(), false), "Nothing to let go.\n");
    }
}
